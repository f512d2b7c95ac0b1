//! Making a thread wait: the kernel's half of a delay.
//!
//! A program cannot sleep. It sends its own thread a harmless signal and returns `ERESTARTNOINTR`
//! instead of running the call: on its way out the thread stops for the tracer, which keeps it
//! stopped until the time has come and then lets it go on without the signal, and the kernel
//! enters the call again by itself. Wherever this could go wrong, the call runs undelayed and is
//! counted: the one thing that must never happen is that the program sees errno 513.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_send_signal, bpf_send_signal_thread,
};
use faultbox_common::{
    ACTION_CRASH, ACTION_NONE, Control, Outcome, Park, TOKENS, Token, WAKE_SEIZE, Wake,
};

use crate::{
    decision::increment,
    kernel::{Address, member, member_at, offset, task},
    maps::{PARKED, PARKED_UNTIL, WAKES},
    target::control,
};

/// `ERESTARTNOINTR` of `include/linux/errno.h`: the kernel enters the call again, whatever
/// handlers run in between.
pub const RESTART: i64 = -513;
const EINTR: i64 = -4;

/// `PF_EXITING`, `PF_IO_WORKER`, `PF_USER_WORKER` (a bit that `PF_VCPU` has before 6.4, when the
/// task never calls) and `PF_KTHREAD`: nobody's calls. `include/linux/sched.h`.
const NOT_A_PROGRAM: u32 = 0x4 | 0x10 | 0x4000 | 0x20_0000;
const PT_PTRACED: u32 = 1;

const SIGCHLD: u32 = 17;
const SIGCONT: u32 = 18;
const SIGSTOP: u32 = 19;
const SIGURG: u32 = 23;
const SIGWINCH: u32 = 28;

/// A token that nobody has come back for by then was left by a handler that jumped out.
const STALE: u64 = 1_000_000_000;

static EMPTY: Park = Park {
    until: 0,
    signal: 0,
    deliver: 0,
    tokens: [Token { until: 0, ip: 0, sp: 0, value: 0, syscall: 0, action: 0 }; TOKENS],
};

/// A call that is entered is new: decide.
pub const NEW: u64 = 0;
/// It goes on waiting: [`RESTART`] is to be returned.
pub const WAITS: u64 = 1;
/// It has waited before: what is left of the decision is to be carried out.
pub const RESUMED: u64 = 2;

#[inline(always)]
fn thread() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// Whether a token is of the call with this number, entered from this place.
#[inline(always)]
fn is_of(token: &Token, syscall: u32, ip: u64, sp: u64) -> bool {
    token.until != 0 && token.syscall == syscall && token.ip == ip && token.sp == sp
}

/// Recognises a call that waits; `left` gets what is left of its decision. With `here`, it goes
/// on waiting at once if it must; else it cannot wait here but at a hook further in, and the time
/// that is left is part of what is left.
#[inline(never)]
pub fn enter(syscall: u32, ip: u64, sp: u64, left: &mut Outcome, here: u64) -> u64 {
    let Some(park) = PARKED.get_ptr_mut(thread()) else { return NEW };
    // SAFETY: a live map value.
    let control = unsafe { &mut *control() };
    // SAFETY: a thread's entry is changed by its own programs only.
    let park = unsafe { &mut *park };
    let mut found = TOKENS;
    for i in 0..TOKENS {
        if is_of(&park.tokens[i], syscall, ip, sp) {
            found = i;
        }
    }
    if found >= TOKENS {
        return NEW;
    }
    let token = &mut park.tokens[found];
    let until = token.until;
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    left.action = token.action;
    left.value = token.value;
    left.delay = 0;
    if now < until {
        if here != 0 && stop(control, park, until) {
            return WAITS;
        }
        if here == 0 {
            left.delay = until - now;
        }
    }
    park.tokens[found].until = 0;
    park.until = 0;
    leave_if_idle(park);
    RESUMED
}

/// Removes the thread's entry when it has no calls left. The tracer removes those of threads that
/// end, but it is there only while there is a delay.
#[inline(always)]
fn leave_if_idle(park: &Park) {
    let mut busy = 0;
    for i in 0..TOKENS {
        busy |= park.tokens[i].until;
    }
    if busy == 0 {
        let _ = PARKED.remove(thread());
    }
}

/// Makes a call wait, if that is possible: then not [`NEW`] but [`WAITS`].
#[inline(never)]
pub fn begin(syscall: u32, ip: u64, sp: u64, outcome: &Outcome) -> u64 {
    let id = thread();
    // SAFETY: a live map value.
    let control = unsafe { &mut *control() };
    if PARKED.get_ptr_mut(id).is_none() {
        // If that fails, so does the next look-up.
        let _ = PARKED.insert(id, &EMPTY, 0);
    }
    // SAFETY: no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let until = now.saturating_add(outcome.delay);
    let Some(park) = PARKED.get_ptr_mut(id) else {
        increment(&raw mut control.undelayed);
        return NEW;
    };
    // SAFETY: as above.
    let park = unsafe { &mut *park };
    let mut free = TOKENS;
    for i in 0..TOKENS {
        let token = &park.tokens[i];
        if token.until == 0 || token.until.saturating_add(STALE) < now {
            free = i;
        }
    }
    if free >= TOKENS {
        increment(&raw mut control.undelayed);
        return NEW;
    }
    let token = &mut park.tokens[free];
    token.ip = ip;
    token.sp = sp;
    token.value = outcome.value;
    token.syscall = syscall;
    token.action = outcome.action;
    token.until = until;
    if stop(control, park, until) {
        return WAITS;
    }
    park.tokens[free].until = 0;
    leave_if_idle(park);
    NEW
}

/// Stops the thread on its way out until the tracer lets it go on. Returns whether it will.
#[inline(always)]
fn stop(control: &mut Control, park: &mut Park, until: u64) -> bool {
    let stopped = try_stop(control, park, until);
    if !stopped {
        // A signal that comes late must not hold the thread.
        park.until = 0;
        increment(&raw mut control.undelayed);
    }
    stopped
}

#[inline(always)]
fn try_stop(control: &Control, park: &mut Park, until: u64) -> bool {
    let task = task();
    if member!(u32, task, task_flags) & NOT_A_PROGRAM != 0 {
        return false;
    }
    let ids = bpf_get_current_pid_tgid();
    // SAFETY: user space changes the word at any time.
    let tracer = unsafe { core::ptr::read_volatile(&raw const control.tracer) };
    if tracer == 0 || !is_traced_by(task, tracer) {
        wake(&Wake { kind: WAKE_SEIZE, pid: (ids >> 32) as u32, tid: ids as u32, signal: 0 });
        return false;
    }
    let (signal, deliver) = choose(task);
    park.signal = signal;
    park.deliver = deliver;
    park.until = until;
    let process = (ids >> 32) as u32;
    // SAFETY: the value is a word. Two threads that both raise it may leave the lower one, and
    // then a signal waits for the park to end.
    let known = unsafe { PARKED_UNTIL.get(&process) };
    if known.is_none_or(|known| *known < until) {
        let _ = PARKED_UNTIL.insert(process, until, 0);
    }
    // SAFETY: no preconditions.
    if unsafe { bpf_send_signal_thread(signal) } != 0 {
        return false;
    }
    if signal == SIGSTOP && member!(u32, task, task_ptrace) & PT_PTRACED == 0 {
        // The tracer has died just now, and the whole process would stop.
        // SAFETY: no preconditions.
        unsafe { bpf_send_signal(SIGCONT) };
        return false;
    }
    // An ignored signal is dropped with success. Only a pending one is sure to stop the thread.
    member!(u64, task, task_pending) & bit(signal) != 0
}

#[inline(always)]
fn is_traced_by(task: Address, tracer: u32) -> bool {
    if member!(u32, task, task_ptrace) & PT_PTRACED == 0 {
        return false;
    }
    let parent = member!(Address, task, task_parent);
    !parent.is_null() && member!(u32, parent, task_tgid) == tracer
}

/// The bit of a signal in a `sigset_t`.
#[inline(always)]
fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// The signal to stop with, and whether it must be delivered in the end. Preferably one that
/// means nothing to this program, so that nothing is lost when it merges with one of the
/// program's own, or when the tracer dies.
#[inline(always)]
fn choose(task: Address) -> (u32, u32) {
    let blocked = member!(u64, task, task_blocked);
    let hands = member!(Address, task, task_sighand);
    if hands.is_null() {
        return (SIGSTOP, 0);
    }
    let usable = |signal| {
        let at = offset!(sighand_action) + (signal as usize - 1) * offset!(action_size);
        // `SIG_DFL` and `SIG_IGN` are 0 and 1.
        blocked & bit(signal) == 0 && member_at::<u64>(hands, at) <= 1
    };
    if usable(SIGURG) {
        (SIGURG, 0)
    } else if usable(SIGWINCH) {
        (SIGWINCH, 0)
    } else if usable(SIGCHLD) {
        (SIGCHLD, 0)
    } else if blocked & bit(SIGURG) == 0 {
        (SIGURG, 1)
    } else {
        (SIGSTOP, 0)
    }
}

/// Tells the tracer. A full buffer loses the message: the call is counted as undelayed anyway.
#[inline(always)]
pub fn wake(message: &Wake) {
    if let Some(mut entry) = WAKES.reserve::<Wake>(0) {
        entry.write(*message);
        entry.submit(0);
    }
}

/// What the program must return to end a call with an action.
#[inline(always)]
pub fn end(action: u32, value: i64) -> i64 {
    if action == ACTION_NONE as u32 {
        return 0;
    }
    if action == ACTION_CRASH as u32 {
        // To the process: whichever thread takes it, the default action ends all.
        // SAFETY: no preconditions.
        unsafe { bpf_send_signal(value as u32) };
        return EINTR;
    }
    value
}
