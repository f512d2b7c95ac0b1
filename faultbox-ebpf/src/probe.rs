//! The program that tells whether a hook really fires: loading alone has been seen to mislead.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_override_return};

use crate::{entry::as_error, target::switch};

/// `ENOTRECOVERABLE`: an error that `getpgid(2)` never has.
const PROOF: u16 = 131;

/// Whether it is the current thread that is asking.
#[inline(always)]
fn is_asking() -> bool {
    let thread = bpf_get_current_pid_tgid() as u32;
    switch!(probe_tid) == thread
}

/// Fails the function for the thread that is asking.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/probe")]
extern "C" fn probe(_ctx: *mut c_void) -> i64 {
    if is_asking() { as_error(-i64::from(PROOF)) } else { 0 }
}

/// The same by `bpf_override_return`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "kprobe/probe_override")]
extern "C" fn probe_override(ctx: *mut c_void) -> u32 {
    if is_asking() {
        // SAFETY: the context is the program's own.
        unsafe { bpf_override_return(ctx.cast(), as_error(-i64::from(PROOF)) as u64) };
    }
    0
}
