//! The programs that run in the kernel. Thin over `faultbox_common`: they find out what the
//! current call is and whose, ask `decide()`, and report.
//!
//! One object runs on every kernel: what differs between kernels are the offsets in
//! `faultbox_common::Layout`, which user space reads from the kernel's BTF and writes into the
//! instructions before the programs are verified.

#![no_std]
#![no_main]
// Atomic additions and the negation that the verifier can follow have no other spelling.
#![feature(asm_experimental_arch)]

mod apply;
mod call;
mod decision;
mod entry;
mod file;
mod kernel;
mod maps;
mod observe;
mod park;
mod partition;
mod path;
mod place;
mod preemption;
mod probe;
mod report;
mod signal;
mod straight;
mod table;
mod target;

/// Reading kernel memory and most tracing helpers are for programs under the GPL only; the
/// programs are offered under it as well.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No panic survives the verifier: a path that led here would be an endless loop.
    loop {}
}
