//! The maps. Sizes and meanings are `faultbox_common`'s; user space fills most of them, and works
//! on the same memory where it can.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LruHashMap, RingBuf},
};
use faultbox_common::{
    Control, Driver, Globs, MAX_GLOB_SETS, MAX_PARKED, MAX_RULES, MAX_SCOPES, MAX_SETS,
    MAX_SYSCALLS, MAX_TARGETS, Park, Rule, RuleSet, TARGET_SLOTS, TargetSlot, WHOSE_SLOTS,
};

use faultbox_common::{
    Cut, CutCounts, Endpoint, Flow, FlowEnd, LEVELS, MAX_FLOWS, MAX_SIDES, SocketQuery,
};

use crate::{apply::Pending, table::Table};

/// `BPF_F_MMAPABLE`, Linux 5.5: user space works on the same memory.
const MMAPABLE: u32 = 1 << 10;
/// `BPF_F_NO_PREALLOC`: most keys are never used.
const NO_PREALLOC: u32 = 1;

/// Targets by cgroup id: see `faultbox_common::target_slot`.
#[map]
pub static TARGETS: Table<TargetSlot, { TARGET_SLOTS as usize }> = Table::new(MMAPABLE);

/// Where the driver of each target dials from.
#[map]
pub static DRIVERS: Table<Driver, { MAX_TARGETS as usize }> = Table::new(MMAPABLE);

/// Whose the processes of cgroups are, as far as it has been found out: see
/// `faultbox_common::Whose`.
#[map]
pub static WHOSE: Table<u64, { WHOSE_SLOTS }> = Table::new(0);

/// Which of [`SETS`] has the rules of each target on each call; 0: there are none.
#[map]
pub static SET_OF: Table<[u16; MAX_SYSCALLS], { MAX_TARGETS as usize }> = Table::new(MMAPABLE);

/// Rules of a target on a call.
#[map]
pub static SETS: Table<RuleSet, { MAX_SETS as usize }> = Table::new(MMAPABLE);

/// Rule slots.
#[map]
pub static RULES: Table<Rule, { MAX_RULES as usize }> = Table::new(MMAPABLE);

/// Non-zero while the rules of the scope apply.
#[map]
pub static SCOPES: Table<u64, { MAX_SCOPES as usize }> = Table::new(MMAPABLE);

/// Compiled globs.
#[map]
pub static GLOBS: Table<Globs, { MAX_GLOB_SETS as usize }> = Table::new(MMAPABLE);

/// Calls of each target, by number.
#[map]
pub static COUNTS: Table<[u64; MAX_SYSCALLS], { MAX_TARGETS as usize }> = Table::new(MMAPABLE);

/// Switches.
#[map]
pub static CONTROL: Table<Control, 1> = Table::new(MMAPABLE);

/// What each call works on: `Operand`, argument and whether it is observed, packed as in
/// [`crate::call::Kind`].
#[map]
pub static KINDS: Table<u32, { MAX_SYSCALLS }> = Table::new(MMAPABLE);

/// Places in [`PLACES`], a power of two.
pub const PLACE_SLOTS: usize = 1 << 13;

/// Where open files lie, as far as it has been found out: see [`crate::place`].
#[map]
pub static PLACES: Table<u64, { PLACE_SLOTS }> = Table::new(0);

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
