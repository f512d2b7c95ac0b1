//! The faults of a running test: which windows there were, which are on, and what their rules
//! have done.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{addresses::Whereabouts, chance, direction};
use crate::{
    engine::{
        Action, Engine, EngineError, Injection, Rule, RuleCounts, RuleId, Syscall, TargetId,
        TraceLevel,
    },
    report::{RuleReport, WindowReport},
    spec::{FaultAction, FaultRequest, FaultWindow, Service},
    trace::{Log, RuleName},
};

/// Rule ids are unique in the engine, whatever runs share it.
static NEXT_RULE: AtomicU32 = AtomicU32::new(0);

/// All windows of one test.
pub(crate) struct Faults<'a> {
    engine: &'a Engine,
    log: &'a Log,
    seed: u64,
    windows: Vec<Window>,
    /// How often each keyword has been declared on each service.
    declared: HashMap<(String, String), u32>,
}

struct Window {
    report: WindowReport,
    include_driver: bool,
    /// Per rule: the how-manieth declaration of its keyword on its service it is.
    indices: Vec<u32>,
    /// What is on of it. Rules of `fault()` go on and off as one; those of `fault_start` are
    /// each on by themselves, so that one can be replaced and the others go on counting.
    on: Vec<On>,
}

/// Rules of a window that are on.
struct On {
    injection: Injection,
    /// Index of the rule that each id belongs to.
    rules: Vec<(RuleId, usize)>,
}

/// A window that was opened.
pub(crate) struct Opened {
    /// Its index.
    pub(crate) window: usize,
    /// What it has taken the place of.
    pub(crate) replaced: Vec<Closed>,
}

/// Rules that were switched off.
pub(crate) struct Closed {
    /// Index of their window.
    pub(crate) window: usize,
    /// What they were declared on.
    pub(crate) service: String,
    /// Sorted.
    pub(crate) keywords: Vec<String>,
    /// Whether they only had calls recorded.
    pub(crate) is_trace: bool,
}

/// What the rules may apply to.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    /// All services of the run.
    pub(crate) services: &'a [Service],
    /// Their targets.
    pub(crate) targets: &'a [TargetId],
    /// Where they are in the network.
    pub(crate) whereabouts: &'a [Whereabouts],
}

impl<'a> Faults<'a> {
    /// None so far.
    pub(crate) fn new(engine: &'a Engine, log: &'a Log, seed: u64) -> Self {
        Self { engine, log, seed, windows: Vec::new(), declared: HashMap::new() }
    }

    /// Opens a window. An imperative one takes the place of what earlier ones have on for the
    /// same keywords of the same service.
    pub(crate) fn open(
        &mut self,
        request: &FaultRequest,
        places: Places<'_>,
    ) -> Result<Opened, EngineError> {
        let index = place_of(&request.service, places)?;
        let mut rules = request.rules.clone();
        rules.sort_by(|a, b| a.keyword.cmp(&b.keyword));
        let indices = rules
            .iter()
            .map(|rule| {
                if rule.action == FaultAction::Trace {
                    // It takes no chances, and must not change those of others.
                    return 0;
                }
                let key = (request.service.clone(), rule.keyword.clone());
                let count = self.declared.entry(key).or_default();
                *count += 1;
                *count - 1
            })
            .collect();
        let rules: Vec<_> = rules
            .into_iter()
            .map(|rule| {
                let inbound = direction::reach(&rule, index, places).inbound;
                RuleReport { rule, inbound, counts: RuleCounts::default() }
            })
            .collect();
        let all: Vec<usize> = (0..rules.len()).collect();
        let imperative = request.window == FaultWindow::Imperative;
        self.windows.push(Window {
            report: WindowReport { service: request.service.clone(), rules, imperative },
            include_driver: request.include_driver,
            indices,
            on: Vec::new(),
        });
        let window = self.windows.len() - 1;
        let groups = all.chunks(if imperative { 1 } else { all.len().max(1) });
        for group in groups {
            if let Err(error) = self.install(window, group, places) {
                // What was never on as a whole is not reported as something that never fired.
                self.windows.pop();
                return Err(error);
            }
        }
        let replaced = if imperative { self.replace_earlier(window) } else { Vec::new() };
        Ok(Opened { window, replaced })
    }

    /// Switches some rules of a window on, all at once.
    fn install(
        &mut self,
        window: usize,
        which: &[usize],
        places: Places<'_>,
    ) -> Result<(), EngineError> {
        let Window { report, include_driver, indices, .. } = &self.windows[window];
        let service = place_of(&report.service, places)?;
        let (mut rules, mut ids) = (Vec::new(), Vec::new());
        for &index in which {
            let rule = &report.rules[index].rule;
            let reach = direction::reach(rule, service, places);
            if reach.parts.len() > 1 && rule.options.counts() {
                return Err(EngineError(format!(
                    "{}= covers connects of other services and calls of {} itself, which nth=, \
                     after= and max_hits= cannot count together; add direction=\"out\", or name \
                     connect and the other calls by rules of their own",
                    rule.keyword, report.service
                )));
            }
            for (part, mut place) in reach.parts.into_iter().enumerate() {
                if rule.action == FaultAction::Trace {
                    place.syscalls.retain(|it| !records(self.engine, *it));
                    if place.syscalls.is_empty() {
                        continue;
                    }
                }
                let id = RuleId(NEXT_RULE.fetch_add(1, Ordering::Relaxed));
                ids.push((id, index));
                rules.push(Rule {
                    id,
                    sites: place.sites,
                    syscalls: place.syscalls,
                    path: rule.path.clone(),
                    action: action(rule.action),
                    probability: rule.options.probability,
                    nth: rule.options.nth,
                    after: rule.options.after,
                    max_hits: rule.options.max_hits,
                    stream: chance::stream(
                        self.seed,
                        &report.service,
                        &rule.keyword,
                        indices[index],
                        part as u32,
                    ),
                    include_driver: *include_driver,
                });
            }
        }
        self.log.name(|names| {
            for (id, index) in &ids {
                let rule = &report.rules[*index].rule;
                let name = RuleName {
                    service: report.service.clone(),
                    window,
                    op: rule.is_op.then(|| rule.keyword.clone()),
                    label: rule.options.label.clone(),
                    is_trace: rule.action == FaultAction::Trace,
                };
                names.add_rule(*id, name);
            }
        });
        if rules.is_empty() {
            return Ok(());
        }
        let injection = self.engine.inject(&rules)?;
        self.windows[window].on.push(On { injection, rules: ids });
        Ok(())
    }

    /// Switches off the rules of earlier imperative windows on the same service whose keywords a
    /// new one has. Their other rules stay as they are.
    fn replace_earlier(&mut self, new: usize) -> Vec<Closed> {
        let (earlier, rest) = self.windows.split_at_mut(new);
        let Some(replacement) = rest.first() else { return Vec::new() };
        let service = &replacement.report.service;
        let is_taken =
            |keyword: &str| replacement.report.rules.iter().any(|it| it.rule.keyword == keyword);
        let rivals = earlier
            .iter_mut()
            .enumerate()
            .filter(|(_, it)| it.report.imperative && it.report.service == *service)
            .filter(|(_, it)| it.is_trace() == rest[0].is_trace());
        rivals.filter_map(|(index, window)| window.close(index, is_taken)).collect()
    }

    /// Switches a window's rules off and adds up what they have done; `None` if they were off
    /// already.
    pub(crate) fn close(&mut self, window: usize) -> Option<Closed> {
        self.windows.get_mut(window)?.close(window, |_| true)
    }

    /// The imperative windows of a service that are on: those of `trace_start`, or those of
    /// `fault_start`.
    pub(crate) fn imperative(&self, service: &str, is_trace: bool) -> Vec<usize> {
        let is_it = |window: &Window| {
            !window.on.is_empty()
                && window.report.imperative
                && window.report.service == service
                && window.is_trace() == is_trace
        };
        (0..self.windows.len()).filter(|it| is_it(&self.windows[*it])).collect()
    }

    /// All windows that are on, the innermost first.
    pub(crate) fn all_on(&self) -> Vec<usize> {
        (0..self.windows.len()).rev().filter(|it| !self.windows[*it].on.is_empty()).collect()
    }

    /// What all windows have done.
    pub(crate) fn into_reports(self) -> Vec<WindowReport> {
        self.windows.into_iter().map(|window| window.report).collect()
    }
}

/// Whether the engine records such calls without being asked to.
pub(crate) fn records(engine: &Engine, syscall: Syscall) -> bool {
    match engine.trace() {
        TraceLevel::Off => false,
        TraceLevel::Default => syscall.is_observed(),
        TraceLevel::All => true,
    }
}

impl Window {
    /// Whether it only has calls recorded.
    fn is_trace(&self) -> bool {
        self.report.rules.iter().all(|it| it.rule.action == FaultAction::Trace)
    }

    /// Switches off what is on for such keywords and adds up what it has done; `None` when
    /// nothing is.
    fn close(&mut self, index: usize, is_meant: impl Fn(&str) -> bool) -> Option<Closed> {
        let Self { report, on, .. } = &mut *self;
        let keyword_of = |(_, rule): &(RuleId, usize)| report.rules[*rule].rule.keyword.as_str();
        let is_meant = |on: &mut On| on.rules.iter().map(keyword_of).any(&is_meant);
        let ended: Vec<On> = on.extract_if(.., is_meant).collect();
        if ended.is_empty() {
            return None;
        }
        let mut keywords: Vec<String> =
            ended.iter().flat_map(|on| &on.rules).map(|it| keyword_of(it).to_owned()).collect();
        keywords.dedup();
        for On { injection, rules } in ended {
            for (id, counts) in injection.lift() {
                if let Some((_, rule)) = rules.iter().find(|(it, _)| *it == id) {
                    let total = &mut report.rules[*rule].counts;
                    total.matched += counts.matched;
                    total.fired += counts.fired;
                    total.exempt += counts.exempt;
                }
            }
        }
        let is_trace = self.is_trace();
        let service = self.report.service.clone();
        Some(Closed { window: index, service, keywords, is_trace })
    }
}

/// What the engine is to do.
fn action(action: FaultAction) -> Action {
    match action {
        FaultAction::Deny(errno) => Action::Deny(errno),
        FaultAction::Delay(time) => Action::Delay(time),
        FaultAction::Return(value) => Action::Return(value),
        FaultAction::Crash(signal) => Action::Crash(signal),
        FaultAction::Allow | FaultAction::Trace => Action::Allow,
    }
}

fn place_of(service: &str, places: Places<'_>) -> Result<usize, EngineError> {
    places
        .services
        .iter()
        .position(|it| it.name == service)
        .ok_or_else(|| EngineError(format!("service {service:?} is not running")))
}
