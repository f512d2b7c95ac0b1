//! The maps. Sizes and meanings are `faultbox_common`'s; user space fills most of them, and works
//! on the same memory where it can.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, RingBuf},
};
use faultbox_common::{
    Control, Globs, MAX_GLOB_SETS, MAX_PARKED, MAX_RULES, MAX_SCOPES, MAX_SETS, MAX_SYSCALLS,
    MAX_TARGETS, Park, Rule, RuleSet, TARGET_SLOTS, TargetSlot,
};

use faultbox_common::{
    Cut, CutCounts, Endpoint, Flow, FlowEnd, LEVELS, MAX_FLOWS, MAX_SIDES, SocketQuery,
};

use crate::apply::Pending;

/// `BPF_F_MMAPABLE`, Linux 5.5: user space works on the same memory.
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_NO_PREALLOC`: most keys are never used.
const NO_PREALLOC: u32 = 1;

/// Targets by cgroup id: see `faultbox_common::target_slot`.
#[map]
pub static TARGETS: Array<TargetSlot> = Array::with_max_entries(TARGET_SLOTS, MMAPABLE);

/// Which of [`SETS`] has the rules of each target on each call; 0: there are none.
#[map]
pub static SET_OF: Array<[u16; MAX_SYSCALLS]> = Array::with_max_entries(MAX_TARGETS, MMAPABLE);

/// Rules of a target on a call.
#[map]
pub static SETS: Array<RuleSet> = Array::with_max_entries(MAX_SETS, MMAPABLE);

/// Rule slots.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES, MMAPABLE);

/// Non-zero while the rules of the scope apply.
#[map]
pub static SCOPES: Array<u64> = Array::with_max_entries(MAX_SCOPES, MMAPABLE);

/// Compiled globs.
#[map]
pub static GLOBS: Array<Globs> = Array::with_max_entries(MAX_GLOB_SETS, MMAPABLE);

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

/// Places in [`PLACES`], a power of two.
pub const PLACE_SLOTS: u32 = 1 << 13;

/// Where open files lie, as far as it has been found out: see [`crate::place`].
#[map]
pub static PLACES: Array<u64> = Array::with_max_entries(PLACE_SLOTS, 0);

/// Denials on their way from a call's entry to the hook that applies them, by thread.
#[map]
pub static PENDING: LruHashMap<u64, Pending> = LruHashMap::with_max_entries(1 << 14, 0);

/// Threads with delayed calls, by thread id.
#[map]
pub static PARKED: HashMap<u32, Park> = HashMap::with_max_entries(MAX_PARKED, NO_PREALLOC);

/// Until when processes have parked threads, by process id.
#[map]
pub static PARKED_UNTIL: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1 << 12, 0);

/// What the tracer should know.
#[map]
pub static WAKES: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// Reports to user space, of which it may set another size at load.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Depths of the cgroups in [`PARTITION_SIDES`], plus 1; 0: none.
#[map]
pub static PARTITION_LEVELS: Array<[u32; LEVELS]> = Array::with_max_entries(1, 0);

/// Services that partitions are about, by cgroup id.
#[map]
pub static PARTITION_SIDES: HashMap<u64, u32> = HashMap::with_max_entries(MAX_SIDES, NO_PREALLOC);

/// Whose an address is.
#[map]
pub static PARTITION_ENDPOINTS: HashMap<Endpoint, u32> =
    HashMap::with_max_entries(1 << 10, NO_PREALLOC);

/// What is cut from whom to whom: see `faultbox_common::cell`.
#[map]
pub static PARTITION_CUTS: Array<Cut> = Array::with_max_entries(MAX_SIDES * MAX_SIDES, 0);

/// What has been cut so far.
#[map]
pub static PARTITION_COUNTS: Array<CutCounts> = Array::with_max_entries(MAX_SIDES * MAX_SIDES, 0);

/// Flows that have been cut.
#[map]
pub static PARTITION_FLOWS: LruHashMap<Flow, u32> = LruHashMap::with_max_entries(MAX_FLOWS, 0);

/// Whose the peer of such a flow is, for as long as nothing else says so.
#[map]
pub static PARTITION_PEERS: LruHashMap<FlowEnd, u64> =
    LruHashMap::with_max_entries(2 * MAX_FLOWS, 0);

/// A question of user space, and its answer.
#[map]
pub static PARTITION_QUERY: Array<SocketQuery> = Array::with_max_entries(1, 0);
