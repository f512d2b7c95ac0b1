//! What this kernel really does with our programs: found by loading, attaching and calling.

use std::io;

use faultbox_common::Control;

use super::{
    super::{Syscall, mapping::Mapping},
    btf::Types,
    tracing_program::{AttachType, TracingProgram, TracingPrograms},
};

/// `ENOTRECOVERABLE`, which the probe program returns and `getpgid(2)` never does.
const PROOF: i32 = libc::ENOTRECOVERABLE;

/// Whether each in-kernel mechanism works here, or why not.
#[derive(Clone, Debug)]
pub(crate) struct Abilities {
    /// `fmod_ret` on functions that serve system calls.
    pub(crate) syscall_functions: Result<(), String>,
    /// `fmod_ret` on `security_*` functions, with `fentry` on the former.
    pub(crate) security_functions: Result<(), String>,
    /// `kprobe` on functions that serve system calls, with `bpf_override_return`.
    pub(crate) kprobes: Result<(), String>,
}

/// Tries each mechanism on `getpgid(2)`, for this thread only.
pub(super) fn probe(
    programs: &TracingPrograms,
    types: &Types,
    control: &Mapping<Control>,
) -> Abilities {
    let entry = if cfg!(target_arch = "aarch64") { "__arm64_sys_" } else { "__x64_sys_" };
    let entry = format!("{entry}getpgid");
    let syscall_functions = fires(programs, types, control, &entry).map_err(|why| {
        if why.contains("not modifiable") {
            "the kernel lets programs replace no syscall function (that needs \
             CONFIG_FUNCTION_ERROR_INJECTION=y, or Linux 7.1)"
                .to_owned()
        } else {
            why
        }
    });
    let security_functions = fires(programs, types, control, "security_task_getpgid")
        .and_then(|()| loads(programs, types, &entry));
    let kprobes = overrides(programs, control, &entry);
    Abilities { syscall_functions, security_functions, kprobes }
}

/// Whether a kprobe on this function changes what a call returns.
fn overrides(
    programs: &TracingPrograms,
    control: &Mapping<Control>,
    function: &str,
) -> Result<(), String> {
    let program = programs.load("probe_override", (function, 0), AttachType::Kprobe, None);
    let program = program.map_err(|error| {
        let text = error.reason();
        if text.contains("bpf_override_return") || text.contains("unknown func") {
            "kprobes cannot replace results here (that needs CONFIG_BPF_KPROBE_OVERRIDE=y)".into()
        } else {
            text
        }
    })?;
    let _link = program.attach().map_err(|error| error.reason())?;
    takes_effect(control, function)
}

fn target<'a>(types: &Types, function: &'a str) -> Result<(&'a str, u32), String> {
    types
        .function(function)
        .map(|id| (function, id))
        .ok_or_else(|| format!("the kernel has no function {function}"))
}

/// Whether a program on this function changes what a call returns.
fn fires(
    programs: &TracingPrograms,
    types: &Types,
    control: &Mapping<Control>,
    function: &str,
) -> Result<(), String> {
    let _link = programs
        .load("probe", target(types, function)?, AttachType::ModifyReturn, None)
        .and_then(TracingProgram::attach)
        .map_err(|error| error.reason())?;
    takes_effect(control, function)
}

/// Whether the attached probe program changes what `getpgid(2)` returns.
fn takes_effect(control: &Mapping<Control>, function: &str) -> Result<(), String> {
    let ask = |tid: i32| {
        let control = control.slot(0);
        // SAFETY: in bounds; the probe program is the only other user of the word.
        unsafe { (&raw mut (*control).probe_tid).write_volatile(tid as u32) };
        // SAFETY: no preconditions. Of ourselves by number, so that it passes the security hook.
        let result = unsafe { libc::getpgid(libc::getpid()) };
        (result == -1).then(|| io::Error::last_os_error().raw_os_error()).flatten()
    };
    // SAFETY: no preconditions.
    let answer = ask(unsafe { libc::gettid() });
    ask(0);
    if answer == Some(PROOF) {
        Ok(())
    } else {
        Err(format!("a program on {function} loads but does not take effect"))
    }
}

/// Whether a program may run before this function, whatever call it is made for.
fn loads(programs: &TracingPrograms, types: &Types, function: &str) -> Result<(), String> {
    programs
        .load(
            "defer_plain",
            target(types, function)?,
            AttachType::Fentry,
            // Whichever: what it is about matters to no verifier.
            Syscall::all().next(),
        )
        .map(drop)
        .map_err(|error| error.reason())
}
