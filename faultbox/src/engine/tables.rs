//! The tables that decide: rule slots, scopes, rule sets and counts, in memory that the kernel's
//! programs and the supervisor both work on.
//!
//! With programs loaded, slots, scopes and counts are eBPF arrays mapped into this process
//! (`BPF_F_MMAPABLE`, Linux 5.5), so arming, disarming and reading a count is a memory access
//! and a rule that two rungs share keeps one sequence of matches. Without, they are ordinary
//! memory and only the supervisor reads them.

use std::{
    collections::HashMap,
    io,
    os::fd::BorrowedFd,
    sync::{
        RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use faultbox_common::{
    Call, MAX_RULES, MAX_SCOPES, MAX_SYSCALLS, MAX_TARGETS, Outcome, Rule, RuleKey, RuleSet, decide,
};

use super::mapping::Mapping;

/// The eBPF maps behind the tables.
pub(super) struct MapFds<'a> {
    pub(super) rules: BorrowedFd<'a>,
    pub(super) scopes: BorrowedFd<'a>,
    pub(super) counts: BorrowedFd<'a>,
}

/// Rule slots, scopes, counts, and which rules each target has on each call.
pub(super) struct Tables {
    rules: Mapping<Rule>,
    scopes: Mapping<AtomicU64>,
    counts: Mapping<[AtomicU64; MAX_SYSCALLS]>,
    sets: RwLock<HashMap<RuleKey, RuleSet>>,
}

impl Tables {
    /// Tables over these maps, or over memory of our own.
    pub(super) fn new(maps: Option<&MapFds<'_>>) -> io::Result<Self> {
        Ok(Self {
            rules: Mapping::new(MAX_RULES, maps.map(|m| m.rules))?,
            scopes: Mapping::new(MAX_SCOPES, maps.map(|m| m.scopes))?,
            counts: Mapping::new(MAX_TARGETS, maps.map(|m| m.counts))?,
            sets: RwLock::default(),
        })
    }

    /// A rule slot.
    pub(super) fn rule(&self, slot: u32) -> &Rule {
        self.rules.get(slot)
    }

    /// Writes a rule into a slot that no set refers to.
    pub(super) fn fill(&self, slot: u32, rule: Rule) {
        let to = std::ptr::from_ref(self.rules.get(slot)).cast_mut();
        // SAFETY: in bounds; the caller owns the slot, and readers look at a slot only after
        // they found it in a set, with the generation that the set names.
        unsafe { to.write_volatile(rule) };
    }

    /// Switches a scope on or off, for every later call on every processor.
    pub(super) fn arm(&self, scope: u32, on: bool) {
        self.scopes.get(scope).store(on.into(), Ordering::SeqCst);
    }

    /// Changes the set of a target and a call by `change`; returns the set that results.
    pub(super) fn change_set(&self, key: RuleKey, change: impl FnOnce(&mut RuleSet)) -> RuleSet {
        let mut sets = self.sets.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let set = sets.entry(key).or_default();
        change(set);
        let result = *set;
        if result.count == 0 {
            sets.remove(&key);
        }
        result
    }

    /// The set of a target and a call; empty when there is none.
    pub(super) fn set(&self, key: RuleKey) -> RuleSet {
        let sets = self.sets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        sets.get(&key).copied().unwrap_or_default()
    }

    /// Whether any rule, armed or not, is installed for a target and a call.
    pub(super) fn has_rules(&self, key: RuleKey) -> bool {
        let sets = self.sets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        sets.contains_key(&key)
    }

    /// Decides about a call by every armed rule of its set, and counts: what the programs do in
    /// the kernel, for the supervisor.
    pub(super) fn decide(&self, key: RuleKey, call: &Call) -> Outcome {
        let set = self.set(key);
        let mut outcome = Outcome::default();
        for site in &set.sites[..set.count as usize] {
            let rule = self.rule(site.slot);
            let armed = self.scopes.get(rule.scope).load(Ordering::SeqCst) != 0;
            if !armed || rule.generation != site.generation {
                continue;
            }
            let verdict = decide(rule, &rule.counters, site, call);
            if outcome.add(rule, verdict) {
                rule.counters.fired.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Counts a call of a target.
    pub(super) fn count(&self, target: u32, syscall: u32) {
        self.counts.get(target)[syscall as usize % MAX_SYSCALLS].fetch_add(1, Ordering::Relaxed);
    }

    /// Calls of a target so far.
    pub(super) fn calls(&self, target: u32, syscall: u32) -> u64 {
        self.counts.get(target)[syscall as usize % MAX_SYSCALLS].load(Ordering::Relaxed)
    }

    /// Forgets the calls of a target, for the next one of that index.
    pub(super) fn clear_calls(&self, target: u32) {
        for count in self.counts.get(target) {
            count.store(0, Ordering::Relaxed);
        }
    }
}
