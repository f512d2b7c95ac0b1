//! The program that tells whether a hook really fires: loading alone has been seen to mislead.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::{entry::negated, target::control};

/// `ENOTRECOVERABLE`: an error that `getpgid(2)` never has.
const PROOF: u16 = 131;

/// Fails the function for the thread that is asking.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/probe")]
extern "C" fn probe(_ctx: *mut c_void) -> i64 {
    let thread = bpf_get_current_pid_tgid() as u32;
    match control() {
        Some(control) if control.probe_tid == thread => negated(PROOF),
        _ => 0,
    }
}
