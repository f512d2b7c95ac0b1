//! What kernel and user space share: rules, calls, events, and [`decide`], the one answer to
//! "does this rule break this call?".
//!
//! Everything here is `no_std`, allocation-free and `repr(C)` where it crosses the border. The
//! same source is compiled into the eBPF programs, into the seccomp supervisor and into the
//! property tests, so there is no second opinion about what a rule means.

#![cfg_attr(not(test), no_std)]
#![allow(clippy::inline_always, reason = "a call costs a program stack, and the verifier time")]
// See `same.rs`; the eBPF toolchain allows it, and no other build sees it.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod call;
mod counters;
mod decide;
mod event;
mod globs;
mod layout;
mod park;
mod partition;
mod rule;
mod same;
mod system_path;

pub use call::{Call, Driver, Object, Operand, Peer, endpoint};
pub use counters::{AtomicCounters, Counters};
pub use decide::{Outcome, Place, Verdict, decide};
pub use event::{Decision, Event, NO_RULE, PATH_CAPACITY};
#[cfg(not(target_arch = "bpf"))]
pub use globs::GlobError;
pub use globs::{Bits, GLOB_POSITIONS, Globs, MAX_GLOB_SETS, MAX_GLOBS, Matcher, Step};
pub use layout::{
    CONSTANTS, Control, DESCRIPTORS, EPOCH, FIELD_DESCRIPTORS, FIELD_DIRECTORY, FIELD_NUMBER,
    FIELD_OPERAND, FIELD_SET, FIELD_TRACE, FIELDS, IRQ_RESTORE, IRQ_SAVE, KERNEL_FUNCTIONS, LEVELS,
    Layout, PREEMPT_DISABLE, PREEMPT_ENABLE, PROBES, TABLES, TARGET_SLOTS, TargetSlot, WHOSE_SLOTS,
    Whose, target_slot,
};
pub use park::{MAX_PARKED, Park, TOKENS, Token, WAKE_SEIZE, WAKE_SIGNAL, Wake};
pub use partition::{
    CUT_CONNECTS, CUT_COUNTED, CUT_DIALED, CUT_PACKETS, Cut, CutCounts, Endpoint, Flow, FlowEnd,
    MAX_FLOWS, MAX_SIDES, NO_SIDE, SharedAddress, SocketQuery, TCP, UDP, cell,
};
pub use rule::{
    ACTION_ALLOW, ACTION_CRASH, ACTION_DELAY, ACTION_DENY, ACTION_NONE, ACTION_RETURN,
    CHANCE_ALWAYS, FLAG_ALWAYS, FLAG_ANYTHING, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, MAX_PORTS,
    MAX_RULES, MAX_SCOPES, MAX_SETS, MAX_SITES, MAX_SYSCALLS, MAX_TARGETS, Rule, RuleKey, RuleSet,
    Site,
};
pub use same::is_same;
pub use system_path::{COMPONENT, Components, TEXT, is_system_path, is_system_text};
