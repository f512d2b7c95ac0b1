//! Rules as they lie in the maps.

use crate::{counters::AtomicCounters, is_same};

/// Rule slots of one engine.
pub const MAX_RULES: u32 = 4096;
/// Sets of rules that are armed and disarmed as one.
pub const MAX_SCOPES: u32 = 1024;
/// Targets (services) alive at the same time.
pub const MAX_TARGETS: u32 = 1024;
/// Sets of rules, one for each target and system call that has any; the first is nobody's.
pub const MAX_SETS: u32 = 4096;
/// Rules that one target may have on one system call.
pub const MAX_SITES: usize = 8;
/// Ports that an inbound rule may name: the interfaces of one service.
pub const MAX_PORTS: usize = 8;
/// System call numbers are below this on every architecture we know.
pub const MAX_SYSCALLS: usize = 512;

/// Nothing happens to the call: no rule's action, but an outcome's.
pub const ACTION_NONE: u8 = 0;
/// The call fails: its body does not run, and it returns [`Rule::value`], which is `-errno`.
pub const ACTION_DENY: u8 = 1;
/// The call runs; the match is counted and said.
pub const ACTION_ALLOW: u8 = 2;
/// The calling thread waits for [`Rule::value`] nanoseconds before the call runs.
pub const ACTION_DELAY: u8 = 3;
/// The body does not run, and the call reports [`Rule::value`] as its result, which is no errno.
pub const ACTION_RETURN: u8 = 4;
/// The process is killed by signal [`Rule::value`] and the call's body does not run.
pub const ACTION_CRASH: u8 = 5;

/// Only sockets are eligible: the errno cannot come from a file.
pub const FLAG_SOCKETS_ONLY: u8 = 1;
/// Calls to and from the test driver are hit, too.
pub const FLAG_INCLUDE_DRIVER: u8 = 2;
/// It fires at every match: [`Rule::fires_always`], found out once for all of them.
pub const FLAG_ALWAYS: u8 = 4;

/// None of its sites asks for more than eligibility: [`Site::is_about_anything`], found out once
/// for all of them. Never beside [`FLAG_SOCKETS_ONLY`].
pub const FLAG_ANYTHING: u8 = 8;

/// A [`Rule::chance`] that always fires: 2³² of 2³².
pub const CHANCE_ALWAYS: u64 = 1 << 32;

/// One rule, in a slot of the rule table that kernel and user space both map.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Rule {
    /// Counts; they go on while the rule is armed and are read at any time.
    pub counters: AtomicCounters,
    /// Where the rule's stream of chance starts: a hash of (seed, service, rule).
    pub stream: u64,
    /// Fires with `chance / 2³²`.
    pub chance: u64,
    /// Fires at this match only, counted from 1; 0: at any.
    pub nth: u64,
    /// Leaves this many matches alone first.
    pub after: u64,
    /// Fires at most this often; 0: without limit.
    pub max_hits: u64,
    /// What the action means by it.
    pub value: i64,
    /// Told apart from the slot's earlier tenants: a [`Site`] names both.
    pub generation: u32,
    /// Index into the scope table; the rule applies while that entry is non-zero.
    pub scope: u32,
    /// The rule's name in events.
    pub id: u32,
    /// `ACTION_*`.
    pub action: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// To be zero.
    pub reserved: u16,
}

impl Rule {
    /// Whether nothing of what it is made of ever lets a match go, so that [`FLAG_ALWAYS`] may be
    /// set.
    pub fn fires_always(&self) -> bool {
        self.action != ACTION_ALLOW
            && self.nth == 0
            && self.after == 0
            && self.max_hits == 0
            && self.chance >= CHANCE_ALWAYS
    }
}

/// Where a rule applies: an entry in the set of a target and a system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// Index into the rule table.
    pub slot: u32,
    /// Must equal the rule's.
    pub generation: u32,
    /// Only calls on files whose path matches this glob of the set's: its bit in
    /// [`crate::Globs`]; 0: on anything.
    pub globs: u32,
    /// How many of `peers` count; 0: any peer.
    pub peer_count: u32,
    /// The peer must be one of these: see [`crate::endpoint`].
    pub peers: [u64; MAX_PORTS],
}

impl Site {
    /// Whether it names neither paths nor peers, so that [`FLAG_ANYTHING`] may be set in a rule
    /// that has only such.
    pub fn is_about_anything(&self) -> bool {
        self.globs == 0 && self.peer_count == 0
    }

    /// Whether a call to this peer is meant: 1, or 0.
    #[inline(always)]
    pub fn admits(&self, peer: &crate::Peer) -> u64 {
        if self.peer_count == 0 { 1 } else { names(&self.peers, peer.endpoint()) }
    }
}

/// 1 if an endpoint is one of these, else 0. The driver dials from an address of its own but to the
/// same ports as anyone else.
// A function of its own in a program: what it computes would else be kept from one site to the
// next, for which there is no stack left.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn names(peers: &[u64; MAX_PORTS], endpoint: u64) -> u64 {
    // What is not used is zero, which is nobody's. Without branches: see `is_same`.
    let mut named = 0;
    let mut i = 0;
    while i < MAX_PORTS {
        named |= is_same(peers[i], endpoint);
        i += 1;
    }
    named
}

/// Key of the table of rule sets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleKey {
    /// Index of the target.
    pub target: u32,
    /// System call number on this architecture.
    pub syscall: u32,
}

/// The rules of one target on one system call, in order of declaration.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// How many of `sites` count.
    pub count: u32,
    /// The set of globs that the sites' bits are about; 0: none.
    pub globs: u32,
    /// To be zero.
    pub reserved: u64,
    /// In order of declaration.
    pub sites: [Site; MAX_SITES],
}
