//! The maps. Sizes and meanings are `faultbox_common`'s; user space fills all but the last two,
//! and the programs count in some of them.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, RingBuf},
};
use faultbox_common::{
    Control, MAX_RULES, MAX_SCOPES, MAX_SYSCALLS, MAX_TARGETS, Rule, RuleKey, RuleSet, TargetInfo,
};

use crate::apply::Pending;

/// `BPF_F_MMAPABLE`, Linux 5.5: user space works on the same memory.
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_NO_PREALLOC`: most keys are never used.
const NO_PREALLOC: u32 = 1;

/// Targets by cgroup id.
#[map]
pub static TARGETS: HashMap<u64, TargetInfo> = HashMap::with_max_entries(MAX_TARGETS, NO_PREALLOC);

/// Rules of each target on each call.
#[map]
pub static SETS: HashMap<RuleKey, RuleSet> = HashMap::with_max_entries(1 << 16, NO_PREALLOC);

/// Rule slots.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES, MMAPABLE);

/// Non-zero while the rules of the scope apply.
#[map]
pub static SCOPES: Array<u64> = Array::with_max_entries(MAX_SCOPES, MMAPABLE);

/// Calls of each target, by number.
#[map]
pub static COUNTS: Array<[u64; MAX_SYSCALLS]> = Array::with_max_entries(MAX_TARGETS, MMAPABLE);

/// Switches.
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, MMAPABLE);

/// What each call works on: `Operand`, argument and whether it is observed, packed as in
/// [`crate::call::Kind`].
#[map]
pub static KINDS: Array<u32> = Array::with_max_entries(MAX_SYSCALLS as u32, 0);

/// Denials on their way from a call's entry to the hook that applies them, by thread.
#[map]
pub static PENDING: LruHashMap<u64, Pending> = LruHashMap::with_max_entries(1 << 14, 0);

/// Reports to user space, of which it may set another size at load.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);
