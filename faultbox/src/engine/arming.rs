//! From rules to tables: slots, scopes and sets, filled first and then armed as one.

use std::collections::VecDeque;

use faultbox_common::{
    ACTION_ALLOW, ACTION_DENY, AtomicCounters, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, MAX_PORTS,
    MAX_RULES, MAX_SCOPES, MAX_SITES, Rule as Slot, RuleKey, RuleSet, Site as SlotSite,
};

use super::{Action, EngineError, Rule, RuleCounts, RuleId, Syscall, tables::Tables};

/// Free places in the tables. First freed, last reused: a program that is still looking at a
/// slot while it is given up is done long before the slot has a new tenant, and the generation
/// tells the tenants apart.
pub(super) struct Places {
    slots: VecDeque<u32>,
    scopes: VecDeque<u32>,
    generation: u32,
}

/// Rules that are in the tables.
pub(super) struct Armed {
    scope: u32,
    slots: Vec<(RuleId, u32)>,
    /// Every set that has a site of these rules.
    keys: Vec<RuleKey>,
}

impl Default for Places {
    fn default() -> Self {
        Self { slots: (0..MAX_RULES).collect(), scopes: (0..MAX_SCOPES).collect(), generation: 0 }
    }
}

impl Places {
    /// Fills the tables and arms the rules. `publish` makes a changed set known to the kernel.
    pub(super) fn arm(
        &mut self,
        tables: &Tables,
        rules: &[Rule],
        mut publish: impl FnMut(RuleKey, &RuleSet) -> Result<(), EngineError>,
    ) -> Result<Armed, EngineError> {
        let full = || EngineError("too many faults are active at once".to_owned());
        if self.slots.len() < rules.len() {
            return Err(full());
        }
        let scope = self.scopes.pop_front().ok_or_else(full)?;
        let mut armed = Armed { scope, slots: Vec::new(), keys: Vec::new() };
        for rule in rules {
            let Some(slot) = self.slots.pop_front() else { break };
            self.generation = self.generation.wrapping_add(1);
            tables.fill(slot, compile(rule, scope, self.generation));
            armed.slots.push((rule.id, slot));
            for (key, site) in sites(rule, slot, self.generation) {
                let mut fits = true;
                let set = tables.change_set(key, |set| fits = add(set, site));
                armed.keys.push(key);
                let published = if fits {
                    publish(key, &set)
                } else {
                    Err(EngineError(format!(
                        "more than {MAX_SITES} rules on one system call of one service"
                    )))
                };
                if let Err(error) = published {
                    self.disarm(tables, &armed, publish);
                    return Err(error);
                }
            }
        }
        tables.arm(scope, true);
        Ok(armed)
    }

    /// Disarms the rules, then clears the tables. Returns the rules' final counts.
    pub(super) fn disarm(
        &mut self,
        tables: &Tables,
        armed: &Armed,
        mut publish: impl FnMut(RuleKey, &RuleSet) -> Result<(), EngineError>,
    ) -> Vec<(RuleId, RuleCounts)> {
        tables.arm(armed.scope, false);
        for key in &armed.keys {
            let set = tables.change_set(*key, |set| {
                remove(set, |site| armed.slots.iter().any(|(_, slot)| *slot == site.slot));
            });
            // The rules are off already; a set that stays costs a look-up and breaks nothing.
            let _ = publish(*key, &set);
        }
        let counts = counts(tables, armed);
        self.slots.extend(armed.slots.iter().map(|(_, slot)| slot));
        self.scopes.push_back(armed.scope);
        counts
    }
}

/// Counts of rules that are in the tables.
pub(super) fn counts(tables: &Tables, armed: &Armed) -> Vec<(RuleId, RuleCounts)> {
    use std::sync::atomic::Ordering::Relaxed;
    let of = |slot| {
        let counters = &tables.rule(slot).counters;
        RuleCounts {
            matched: counters.matched.load(Relaxed),
            fired: counters.fired.load(Relaxed),
            exempt: counters.exempt.load(Relaxed),
        }
    };
    armed.slots.iter().map(|(id, slot)| (*id, of(*slot))).collect()
}

fn compile(rule: &Rule, scope: u32, generation: u32) -> Slot {
    let (action, errno) = match rule.action {
        Action::Deny(errno) => (ACTION_DENY, errno.raw()),
        Action::Allow => (ACTION_ALLOW, 0),
    };
    let mut flags = 0;
    if rule.include_driver {
        flags |= FLAG_INCLUDE_DRIVER;
    }
    if let Action::Deny(errno) = rule.action
        && errno.is_network_only()
        && rule.syscalls.iter().any(|syscall| is_transfer(*syscall))
    {
        flags |= FLAG_SOCKETS_ONLY;
    }
    Slot {
        counters: AtomicCounters::default(),
        stream: rule.stream,
        chance: rule.probability.parts(),
        nth: 0,
        after: 0,
        max_hits: 0,
        generation,
        scope,
        id: rule.id.0,
        errno,
        action,
        flags,
    }
}

/// The read and write families, on which network errors spare files (language.md 1.9.4). A rule
/// that names one of them spares files altogether: its other calls cannot report such errors of a
/// file either.
fn is_transfer(syscall: Syscall) -> bool {
    const TRANSFERS: &[&str] = &[
        "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
        "pwritev2",
    ];
    TRANSFERS.contains(&syscall.name())
}

fn sites(rule: &Rule, slot: u32, generation: u32) -> Vec<(RuleKey, SlotSite)> {
    let mut sites = Vec::new();
    for site in &rule.sites {
        let mut ports = [0; MAX_PORTS];
        let count = site.ports.len().min(MAX_PORTS);
        ports[..count].copy_from_slice(&site.ports[..count]);
        for syscall in &rule.syscalls {
            let key = RuleKey { target: site.target.0, syscall: syscall.number() };
            sites.push((key, SlotSite { slot, generation, port_count: count as u32, ports }));
        }
    }
    sites
}

fn add(set: &mut RuleSet, site: SlotSite) -> bool {
    let count = set.count as usize;
    if count == MAX_SITES {
        return false;
    }
    set.sites[count] = site;
    set.count += 1;
    true
}

fn remove(set: &mut RuleSet, gone: impl Fn(&SlotSite) -> bool) {
    let mut kept = RuleSet::default();
    for site in set.sites[..set.count as usize].iter().filter(|site| !gone(site)) {
        add(&mut kept, *site);
    }
    *set = kept;
}
