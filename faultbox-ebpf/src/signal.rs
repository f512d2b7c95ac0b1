//! The tracepoint on signals: a signal to a process with parked threads is the tracer's business.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use faultbox_common::{WAKE_SIGNAL, Wake};

use crate::{
    kernel::{Address, offset, read},
    maps::PARKED_UNTIL,
    park::wake,
};

/// `signal_generate(int sig, struct kernel_siginfo *info, struct task_struct *task, int group,
/// int result)`: `include/trace/events/signal.h`.
#[raw_tracepoint(tracepoint = "signal_generate")]
fn signal_generate(ctx: RawTracePointContext) -> i32 {
    let arguments = ctx.as_ptr().cast::<u64>();
    // SAFETY: the context is an array of arguments, of which this tracepoint has five.
    let (signal, task, group, result) = unsafe {
        let argument = |index| *arguments.add(index);
        (argument(0) as u32, argument(2) as Address, argument(3) as u32, argument(4) as u32)
    };
    if result != 0 {
        // `TRACE_SIGNAL_IGNORED`, `TRACE_SIGNAL_ALREADY_PENDING` and worse: nothing new.
        return 0;
    }
    let Some(process) = read::<u32>(task, offset!(task_tgid)) else { return 0 };
    // SAFETY: the value is a word, which is replaced whole.
    let Some(until) = (unsafe { PARKED_UNTIL.get(&process) }) else { return 0 };
    // SAFETY: no preconditions.
    if *until < unsafe { bpf_ktime_get_ns() } {
        return 0;
    }
    let thread = read::<u32>(task, offset!(task_pid)).unwrap_or(0);
    if thread == bpf_get_current_pid_tgid() as u32 {
        // It runs; and what parks it is a signal to itself.
        return 0;
    }
    let tid = if group == 0 { thread } else { 0 };
    wake(&Wake { kind: WAKE_SIGNAL, pid: process, tid, signal });
    0
}
