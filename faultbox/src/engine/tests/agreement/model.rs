//! What `decide()` says of a call, by rules and counters of the host's own.

use std::{net::IpAddr, sync::atomic::Ordering::Relaxed};

use faultbox_common::{
    ACTION_ALLOW, ACTION_DENY, ACTION_RETURN, AtomicCounters, Call, Components,
    FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, MAX_PORTS, MAX_SITES, Outcome, Place, Rule as Slot,
    Site as SlotSite, Verdict, decide, endpoint, is_system_path,
};

use super::{
    super::super::{Action, PathGlob, Rule, RuleCounts, RuleId, Site, Syscall},
    texts,
};

/// What a call returns if nothing breaks it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Natural {
    /// Exactly this.
    Is(i64),
    /// A new descriptor.
    Descriptor,
    /// This error, which it finds before any security function: rung 2 does not get to say more.
    Early(i32),
}

impl Natural {
    pub(super) fn admits(self, got: i64) -> bool {
        match self {
            Self::Is(value) => got == value,
            Self::Descriptor => (3..900).contains(&got),
            Self::Early(errno) => got == -i64::from(errno),
        }
    }
}

/// A call as the kernel should see it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) syscall: Syscall,
    pub(super) call: Call,
    /// Of a file; else empty.
    pub(super) path: String,
    pub(super) natural: Natural,
}

/// What is to become of it.
#[derive(Debug)]
pub(super) struct Decided {
    /// The result, if it is not to run.
    pub(super) ended: Option<i64>,
    /// Whether a rule with a path applied.
    pub(super) by_path: bool,
}

struct Armed {
    id: RuleId,
    syscalls: Vec<Syscall>,
    path: Option<PathGlob>,
    slot: Slot,
    site: SlotSite,
}

/// The rules that are on, in order of declaration.
pub(super) struct Model {
    armed: Vec<Armed>,
    skips_early: bool,
}

const TRANSFERS: &[&str] = &["read", "write", "pread64", "pwrite64", "readv", "writev"];

fn compile(rule: &Rule) -> Armed {
    let (action, value) = match rule.action {
        Action::Deny(errno) => (ACTION_DENY, -i64::from(errno.raw())),
        Action::Return(value) => (ACTION_RETURN, value),
        Action::Allow => (ACTION_ALLOW, 0),
        Action::Delay(_) | Action::Crash(_) => unreachable!("not among the random rules"),
    };
    let spares_files = matches!(rule.action, Action::Deny(errno) if errno.is_network_only())
        && rule.syscalls.iter().any(|it| TRANSFERS.contains(&it.name()));
    let Site { ports, host, .. } = &rule.sites[0];
    let host = match host {
        Some(IpAddr::V4(host)) => host.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(host)) => host.octets(),
        None => [0; 16],
    };
    let mut peers = [0; MAX_PORTS];
    for (peer, port) in peers.iter_mut().zip(ports) {
        *peer = endpoint(host, *port);
    }
    Armed {
        id: rule.id,
        syscalls: rule.syscalls.clone(),
        path: rule.path.clone(),
        slot: Slot {
            counters: AtomicCounters::default(),
            stream: rule.stream,
            chance: rule.probability.parts(),
            nth: rule.nth.map_or(0, std::num::NonZero::get),
            after: rule.after,
            max_hits: rule.max_hits.map_or(0, std::num::NonZero::get),
            value,
            id: rule.id.0,
            action,
            flags: if rule.include_driver { FLAG_INCLUDE_DRIVER } else { 0 }
                | if spares_files { FLAG_SOCKETS_ONLY } else { 0 },
            ..Slot::default()
        },
        site: SlotSite {
            globs: rule.path.is_some().into(),
            peer_count: ports.len() as u32,
            peers,
            ..SlotSite::default()
        },
    }
}

impl Model {
    /// `skips_early`: calls that fail before a security function are not ended (rung 2).
    pub(super) fn new(skips_early: bool) -> Self {
        Self { armed: Vec::new(), skips_early }
    }

    pub(super) fn add(&mut self, rules: &[Rule]) {
        self.armed.extend(rules.iter().map(compile));
    }

    /// Whether some call would have more rules than it may.
    pub(super) fn is_full_for(&self, rules: &[Rule]) -> bool {
        Syscall::all().any(|syscall| {
            let old = self.armed.iter().filter(|it| it.syscalls.contains(&syscall)).count();
            let new = rules.iter().filter(|it| it.syscalls.contains(&syscall)).count();
            new > 0 && old + new > MAX_SITES
        })
    }

    /// Takes rules away, whose counts must be those that the engine has.
    pub(super) fn lift(
        &mut self,
        rules: &[Rule],
        counts: &[(RuleId, RuleCounts)],
    ) -> Result<(), String> {
        for (rule, (id, counts)) in rules.iter().zip(counts) {
            let at = self.armed.iter().position(|it| it.id == rule.id).ok_or("unknown rule")?;
            let armed = self.armed.remove(at);
            let ours = RuleCounts {
                matched: armed.slot.counters.matched.load(Relaxed),
                fired: armed.slot.counters.fired.load(Relaxed),
                exempt: armed.slot.counters.exempt.load(Relaxed),
            };
            if (rule.id, ours) != (*id, *counts) {
                return Err(format!("{} has {counts:?}, decide() says {ours:?}", texts([rule])));
            }
        }
        Ok(())
    }

    pub(super) fn decide(&self, seen: &Seen) -> Decided {
        let system = is_system_path(&Components::of(seen.path.as_bytes()));
        let runs_anyway = self.skips_early && matches!(seen.natural, Natural::Early(_));
        let (mut outcome, mut by_path) = (Outcome::default(), false);
        for armed in self.armed.iter().filter(|it| it.syscalls.contains(&seen.syscall)) {
            let globs = armed.path.as_ref().is_some_and(|glob| glob.matches(seen.path.as_bytes()));
            let place = Place { system: system.into(), globs: globs.into() };
            let counters = &armed.slot.counters;
            let verdict = decide(&armed.slot, counters, &armed.site, &seen.call, place);
            by_path |= armed.path.is_some() && verdict != Verdict::Pass;
            if outcome.add(&armed.slot, verdict) && !runs_anyway {
                counters.fired.fetch_add(1, Relaxed);
            }
        }
        let ended = (!outcome.runs() && !runs_anyway).then_some(outcome.value);
        Decided { ended, by_path }
    }
}
