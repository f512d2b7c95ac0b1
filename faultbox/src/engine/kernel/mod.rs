//! The in-kernel rungs: the eBPF object, its maps and its programs.

mod attached;
mod btf;
mod hooks;
mod placeholders;
mod plain;
mod probe;
mod programs;
mod ring;
mod tracing_program;

pub(super) use btf::{VMLINUX, check_types};
pub use hooks::Rung;
pub(super) use plain::Plain;
pub(super) use programs::{Kernel, KernelError, OBJECT, is_denied, refusal, text};
pub(super) use ring::{EventReader, Sinks};
