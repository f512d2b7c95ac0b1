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
mod layout;
mod rule;
mod same;
mod system_path;

pub use call::{Call, Driver, Object, Operand, Peer};
pub use counters::{AtomicCounters, Counters};
pub use decide::{Outcome, Verdict, decide};
pub use event::{Decision, Event, NO_RULE, PATH_CAPACITY};
pub use layout::{Control, LEVELS, Layout, TargetInfo};
pub use rule::{
    ACTION_ALLOW, ACTION_DENY, CHANCE_ALWAYS, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, MAX_PORTS,
    MAX_RULES, MAX_SCOPES, MAX_SITES, MAX_SYSCALLS, MAX_TARGETS, Rule, RuleKey, RuleSet, Site,
};
pub use same::is_same;
pub use system_path::{COMPONENT, Components, TEXT, is_system_path, is_system_text};
