//! The faults of a running test: which windows there were, which are on, and what their rules
//! have done.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{chance, direction};
use crate::{
    engine::{Action, Engine, EngineError, Injection, Rule, RuleCounts, RuleId, TargetId},
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
    on: Option<On>,
}

/// The rules of a window that are on.
struct On {
    injection: Injection,
    /// Index of the rule that each id belongs to.
    rules: Vec<(RuleId, usize)>,
}

/// What the rules may apply to.
#[derive(Clone, Copy)]
pub(crate) struct Places<'a> {
    /// All services of the run.
    pub(crate) services: &'a [Service],
    /// Their targets.
    pub(crate) targets: &'a [TargetId],
}

impl<'a> Faults<'a> {
    /// None so far.
    pub(crate) fn new(engine: &'a Engine, log: &'a Log, seed: u64) -> Self {
        Self { engine, log, seed, windows: Vec::new(), declared: HashMap::new() }
    }

    /// Opens a window; returns its index. An imperative one takes the place of what earlier ones
    /// have on for the same keywords of the same service.
    pub(crate) fn open(
        &mut self,
        request: &FaultRequest,
        places: Places<'_>,
    ) -> Result<usize, EngineError> {
        let index = place_of(&request.service, places)?;
        let mut rules = request.rules.clone();
        rules.sort_by(|a, b| a.keyword.cmp(&b.keyword));
        let indices = rules
            .iter()
            .map(|rule| {
                let key = (request.service.clone(), rule.keyword.clone());
                let count = self.declared.entry(key).or_default();
                *count += 1;
                *count - 1
            })
            .collect();
        let rules: Vec<_> = rules
            .into_iter()
            .map(|rule| {
                let inbound =
                    direction::reach(&rule, index, places.services, places.targets).inbound;
                RuleReport { rule, inbound, counts: RuleCounts::default() }
            })
            .collect();
        let count = rules.len();
        let imperative = request.window == FaultWindow::Imperative;
        self.windows.push(Window {
            report: WindowReport { service: request.service.clone(), rules, imperative },
            include_driver: request.include_driver,
            indices,
            on: None,
        });
        let window = self.windows.len() - 1;
        if let Err(error) = self.install(window, &(0..count).collect::<Vec<_>>(), places) {
            // What was never on is not reported as something that never fired.
            self.windows.pop();
            return Err(error);
        }
        if imperative {
            self.replace_earlier(window, places)?;
        }
        Ok(window)
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
            let reach = direction::reach(rule, service, places.services, places.targets);
            for (part, place) in reach.parts.into_iter().enumerate() {
                let id = RuleId(NEXT_RULE.fetch_add(1, Ordering::Relaxed));
                ids.push((id, index));
                rules.push(Rule {
                    id,
                    sites: place.sites,
                    syscalls: place.syscalls,
                    action: match rule.action {
                        FaultAction::Deny(errno) => Action::Deny(errno),
                        FaultAction::Allow => Action::Allow,
                    },
                    probability: rule.probability,
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
                    label: rule.label.clone(),
                };
                names.add_rule(*id, name);
            }
        });
        let injection = self.engine.inject(&rules)?;
        self.windows[window].on = Some(On { injection, rules: ids });
        Ok(())
    }

    /// Takes the keywords of a new imperative window out of the imperative windows before it on
    /// the same service. Their other rules stay on; the engine knows groups only, so these are
    /// installed anew.
    fn replace_earlier(&mut self, new: usize, places: Places<'_>) -> Result<(), EngineError> {
        for earlier in 0..new {
            let [window, replacement] = [earlier, new].map(|it| &self.windows[it].report);
            if !window.imperative || window.service != replacement.service {
                continue;
            }
            let is_replaced = |index: usize| {
                let keyword = &window.rules[index].rule.keyword;
                replacement.rules.iter().any(|it| it.rule.keyword == *keyword)
            };
            let Some(on) = &self.windows[earlier].on else {
                continue;
            };
            let mut left: Vec<usize> = on.rules.iter().map(|(_, index)| *index).collect();
            left.dedup();
            let before = left.len();
            left.retain(|index| !is_replaced(*index));
            if left.len() < before {
                self.close(earlier);
                if !left.is_empty() {
                    self.install(earlier, &left, places)?;
                }
            }
        }
        Ok(())
    }

    /// Switches a window's rules off and adds up what they have done. Returns their service and
    /// keywords, unless they were off already.
    pub(crate) fn close(&mut self, window: usize) -> Option<(String, Vec<String>)> {
        let Window { report, on, .. } = self.windows.get_mut(window)?;
        let On { injection, rules } = on.take()?;
        let mut keywords: Vec<String> = Vec::new();
        for (id, counts) in injection.lift() {
            if let Some((_, index)) = rules.iter().find(|(it, _)| *it == id) {
                let total = &mut report.rules[*index].counts;
                total.matched += counts.matched;
                total.fired += counts.fired;
                total.exempt += counts.exempt;
            }
        }
        for (_, index) in rules {
            let keyword = &report.rules[index].rule.keyword;
            if keywords.last() != Some(keyword) {
                keywords.push(keyword.clone());
            }
        }
        Some((report.service.clone(), keywords))
    }

    /// The imperative windows of a service that are on.
    pub(crate) fn imperative(&self, service: &str) -> Vec<usize> {
        let is_it = |window: &Window| {
            window.on.is_some() && window.report.imperative && window.report.service == service
        };
        (0..self.windows.len()).filter(|it| is_it(&self.windows[*it])).collect()
    }

    /// All windows that are on, the innermost first.
    pub(crate) fn all_on(&self) -> Vec<usize> {
        (0..self.windows.len()).rev().filter(|it| self.windows[*it].on.is_some()).collect()
    }

    /// What all windows have done.
    pub(crate) fn into_reports(self) -> Vec<WindowReport> {
        self.windows.into_iter().map(|window| window.report).collect()
    }
}

fn place_of(service: &str, places: Places<'_>) -> Result<usize, EngineError> {
    places
        .services
        .iter()
        .position(|it| it.name == service)
        .ok_or_else(|| EngineError(format!("service {service:?} is not running")))
}
