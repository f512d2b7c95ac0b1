//! From rules to tables: slots, scopes and sets, filled first and then armed as one.

use std::{collections::VecDeque, net::IpAddr, num::NonZeroU64};

use faultbox_common::{
    ACTION_ALLOW, ACTION_CRASH, ACTION_DELAY, ACTION_DENY, ACTION_RETURN, AtomicCounters,
    FLAG_ALWAYS, FLAG_ANYTHING, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, MAX_PORTS, MAX_RULES,
    MAX_SCOPES, MAX_SITES, Rule as Slot, RuleKey, RuleSet, Site as SlotSite, endpoint,
};

use super::{
    Action, EngineError, PathGlob, Rule, RuleCounts, RuleId, Syscall, glob_sets::GlobSets,
    tables::Tables,
};

/// Free places in the tables. First freed, last reused: a program that is still looking at a
/// slot while it is given up is done long before the slot has a new tenant, and the generation
/// tells the tenants apart.
pub(super) struct Places {
    slots: VecDeque<u32>,
    scopes: VecDeque<u32>,
    generation: u32,
    globs: GlobSets,
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
        Self {
            slots: (0..MAX_RULES).collect(),
            scopes: (0..MAX_SCOPES).collect(),
            generation: 0,
            globs: GlobSets::default(),
        }
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
                armed.keys.push(key);
                let added = self.add(tables, key, site, rule.path.as_ref());
                let published = added.and_then(|()| publish(key, &tables.set(key)));
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
            let mut globs = 0;
            let set = tables.change_set(*key, |set| {
                globs = set.globs;
                remove(set, |site| armed.slots.iter().any(|(_, slot)| *slot == site.slot));
            });
            if globs != set.globs {
                self.globs.release(globs);
            }
            // The rules are off already; a set that stays costs a look-up and breaks nothing.
            let _ = publish(*key, &set);
        }
        let counts = counts(tables, armed);
        self.slots.extend(armed.slots.iter().map(|(_, slot)| slot));
        self.scopes.push_back(armed.scope);
        counts
    }

    /// Takes a target that ends out of all rules, so that the next one with its index inherits
    /// none. The rules themselves stay until they are disarmed.
    pub(super) fn forget(
        &mut self,
        tables: &Tables,
        target: u32,
        mut publish: impl FnMut(RuleKey, &RuleSet),
    ) {
        for key in tables.keys_of(target) {
            let mut globs = 0;
            let set = tables.change_set(key, |set| {
                globs = set.globs;
                *set = RuleSet::default();
            });
            self.globs.release(globs);
            publish(key, &set);
        }
    }

    /// Adds a site to its set, with the rule's path among the set's.
    fn add(
        &mut self,
        tables: &Tables,
        key: RuleKey,
        mut site: SlotSite,
        path: Option<&PathGlob>,
    ) -> Result<(), EngineError> {
        let set = tables.set(key);
        if set.count as usize == MAX_SITES {
            let text = format!("more than {MAX_SITES} rules on one system call of one service");
            return Err(EngineError(text));
        }
        let mut globs = set.globs;
        if let Some(path) = path {
            (globs, site.globs) = self.globs.extend(tables, set.globs, path)?;
        }
        tables.change_set(key, |set| {
            set.globs = globs;
            add(set, site);
        });
        if globs != set.globs {
            self.globs.release(set.globs);
        }
        Ok(())
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
    let (action, value) = match rule.action {
        Action::Deny(errno) => (ACTION_DENY, -i64::from(errno.raw())),
        Action::Delay(time) => (ACTION_DELAY, time.as_nanos().try_into().unwrap_or(i64::MAX)),
        Action::Return(value) => (ACTION_RETURN, value),
        Action::Crash(signal) => (ACTION_CRASH, signal as i64),
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
    let mut slot = Slot {
        counters: AtomicCounters::default(),
        stream: rule.stream,
        chance: rule.probability.parts(),
        nth: rule.nth.map_or(0, NonZeroU64::get),
        after: rule.after,
        max_hits: rule.max_hits.map_or(0, NonZeroU64::get),
        value,
        generation,
        scope,
        id: rule.id.0,
        action,
        flags,
        reserved: 0,
    };
    if slot.fires_always() {
        slot.flags |= FLAG_ALWAYS;
    }
    let is_about_anything = rule.path.is_none() && rule.sites.iter().all(|it| it.ports.is_empty());
    if is_about_anything && flags & FLAG_SOCKETS_ONLY == 0 {
        slot.flags |= FLAG_ANYTHING;
    }
    slot
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
        let host = match site.host {
            Some(IpAddr::V4(host)) => host.to_ipv6_mapped().octets(),
            Some(IpAddr::V6(host)) => host.octets(),
            None => [0; 16],
        };
        let mut peers = [0; MAX_PORTS];
        for (peer, port) in peers.iter_mut().zip(&site.ports) {
            *peer = endpoint(host, *port);
        }
        let peer_count = site.ports.len() as u32;
        for syscall in &rule.syscalls {
            let key = RuleKey { target: site.target.0, syscall: syscall.number() };
            sites.push((key, SlotSite { slot, generation, globs: 0, peer_count, peers }));
        }
    }
    sites
}

fn add(set: &mut RuleSet, site: SlotSite) {
    set.sites[set.count as usize] = site;
    set.count += 1;
}

/// Takes sites out of a set. An empty set has no paths, either.
fn remove(set: &mut RuleSet, gone: impl Fn(&SlotSite) -> bool) {
    let mut kept = RuleSet::default();
    for site in set.sites[..set.count as usize].iter().filter(|site| !gone(site)) {
        add(&mut kept, *site);
    }
    if kept.count > 0 {
        kept.globs = set.globs;
    }
    *set = kept;
}
