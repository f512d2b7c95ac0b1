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
    Call, Components, Globs, MAX_GLOB_SETS, MAX_RULES, MAX_SCOPES, MAX_SYSCALLS, MAX_TARGETS,
    Outcome, Place, Rule, RuleKey, RuleSet, decide, is_system_path,
};

use super::mapping::Mapping;

/// The eBPF maps behind the tables.
pub(super) struct MapFds<'a> {
    pub(super) rules: BorrowedFd<'a>,
    pub(super) scopes: BorrowedFd<'a>,
    pub(super) counts: BorrowedFd<'a>,
    pub(super) globs: BorrowedFd<'a>,
}

/// Rule slots, scopes, counts, and which rules each target has on each call.
pub(super) struct Tables {
    rules: Mapping<Rule>,
    scopes: Mapping<AtomicU64>,
    counts: Mapping<[AtomicU64; MAX_SYSCALLS]>,
    globs: Mapping<Globs>,
    sets: RwLock<HashMap<RuleKey, RuleSet>>,
}

impl Tables {
    /// Tables over these maps, or over memory of our own.
    pub(super) fn new(maps: Option<&MapFds<'_>>) -> io::Result<Self> {
        Ok(Self {
            rules: Mapping::new(MAX_RULES, maps.map(|m| m.rules))?,
            scopes: Mapping::new(MAX_SCOPES, maps.map(|m| m.scopes))?,
            counts: Mapping::new(MAX_TARGETS, maps.map(|m| m.counts))?,
            globs: Mapping::new(MAX_GLOB_SETS, maps.map(|m| m.globs))?,
            sets: RwLock::default(),
        })
    }

    /// A rule slot.
    pub(super) fn rule(&self, slot: u32) -> &Rule {
        self.rules.get(slot)
    }

    /// Writes a rule into a slot that no set refers to.
    pub(super) fn fill(&self, slot: u32, rule: Rule) {
        let to = self.rules.slot(slot);
        // SAFETY: in bounds; the caller owns the slot, and readers look at a slot only after
        // they found it in a set, with the generation that the set names.
        unsafe { to.write_volatile(rule) };
    }

    /// Writes globs into a place that no set refers to.
    pub(super) fn fill_globs(&self, place: u32, globs: &Globs) {
        let to = self.globs.slot(place);
        // SAFETY: in bounds; the caller knows that no set refers to the place.
        unsafe { to.write_volatile(*globs) };
    }

    /// Where a path, as the process sees it, lies, for a set with these globs.
    pub(super) fn place(&self, globs: u32, path: &[u8]) -> Place {
        let system = is_system_path(&Components::of(path));
        Place { system: system.into(), globs: self.globs.get(globs).matches(path) as u32 }
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

    /// The calls on which a target has rules.
    pub(super) fn keys_of(&self, target: u32) -> Vec<RuleKey> {
        let sets = self.sets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        sets.keys().filter(|key| key.target == target).copied().collect()
    }

    /// Whether any rule, armed or not, is installed for a target and a call.
    pub(super) fn has_rules(&self, key: RuleKey) -> bool {
        let sets = self.sets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        sets.contains_key(&key)
    }

    /// Decides about a call by every armed rule of its set, and counts: what the programs do in
    /// the kernel, for the supervisor. `path` is that of the file that the call works on, or empty.
    pub(super) fn decide(&self, key: RuleKey, call: &Call, path: &[u8]) -> Outcome {
        let set = self.set(key);
        let place = self.place(set.globs, path);
        let mut outcome = Outcome::default();
        for site in &set.sites[..set.count as usize] {
            let rule = self.rule(site.slot);
            let armed = self.scopes.get(rule.scope).load(Ordering::SeqCst) != 0;
            if !armed || rule.generation != site.generation {
                continue;
            }
            let verdict = decide(rule, &rule.counters, site, call, place);
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
