//! The functions that specs call, one file per family.

mod assert;
mod assumption;
mod container;
mod events;
mod expectation;
mod fault;
mod fault_rules;
mod function;
mod healthcheck;
mod interface;
mod keyword;
mod matrix;
mod monitor;
mod op;
mod parallel;
mod partition;
mod rule;
mod rule_options;
mod scenario;
mod service;
mod test_name;
mod time;
mod trace;

use std::sync::LazyLock;

use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};

use super::values::Missing;

/// Builtins of the language that are still to come.
const MISSING: &[&str] = &["load_file"];

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
        .with(assumption::register)
        .with(events::register)
        .with(expectation::register)
        .with(fault::register)
        .with(healthcheck::register)
        .with(interface::register)
        .with(matrix::register)
        .with(monitor::register)
        .with(op::register)
        .with(parallel::register)
        .with(partition::register)
        .with(rule::register)
        .with(scenario::register)
        .with(service::register)
        .with(time::register)
        .with(trace::register)
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
