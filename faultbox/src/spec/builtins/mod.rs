//! The functions that specs call, one file per family.

mod assert;
mod fault;
mod healthcheck;
mod interface;
mod keyword;
mod op;
mod rule;
mod rule_options;
mod service;

use std::sync::LazyLock;

use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};

use super::values::Missing;

/// Builtins of the language that are still to come.
const MISSING: &[&str] = &[
    "events",
    "fault_assumption",
    "fault_matrix",
    "fault_scenario",
    "load_file",
    "monitor",
    "parallel",
    "partition",
    "partition_start",
    "partition_stop",
    "ready",
    "scenario",
];

static GLOBALS: LazyLock<Globals> = LazyLock::new(|| {
    let extensions = [
        LibraryExtension::StructType,
        LibraryExtension::SetType,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Partial,
        LibraryExtension::Json,
        LibraryExtension::Print,
    ];
    GlobalsBuilder::extended_by(&extensions)
        .with(assert::register)
        .with(fault::register)
        .with(healthcheck::register)
        .with(interface::register)
        .with(op::register)
        .with(rule::register)
        .with(service::register)
        .build()
});

/// All builtins. Shared by all evaluations: they keep their state in the context.
pub(super) fn globals() -> &'static Globals {
    &GLOBALS
}

/// Lets a file that uses a builtin of later versions fail where it calls it, with a reason.
pub(super) fn announce_missing(module: &Module<'_>) {
    for name in MISSING {
        module.set(name, module.heap().alloc(Missing { name }));
    }
}
