//! Records for user space.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use faultbox_common::{
    ACTION_CRASH, ACTION_DENY, ACTION_RETURN, Decision, Event, MAX_TARGETS, NO_RULE, Object,
    Outcome,
};

use crate::{
    call::Seen,
    decision::increment,
    kernel::{Registers, copy},
    maps::EVENTS,
    path::PathBytes,
    target::control,
};

/// An event about a file.
#[repr(C)]
struct FileEvent {
    event: Event,
    path: PathBytes,
}

/// What became of the call, in one word.
#[inline(always)]
fn decision(seen: &Seen, outcome: &Outcome) -> Decision {
    if outcome.action == ACTION_DENY as u32 {
        Decision::Deny
    } else if outcome.action == ACTION_RETURN as u32 {
        Decision::Return
    } else if outcome.action == ACTION_CRASH as u32 {
        Decision::Crash
    } else if seen.call.peer.driver != 0 && outcome.rule == NO_RULE {
        Decision::AllowDriver
    } else {
        Decision::Allow
    }
}

/// Reports a call that was entered at `time`. A full ring buffer loses the record, and counts that.
#[inline(always)]
pub fn report(
    target: u64,
    syscall: u32,
    time: u64,
    regs: &Registers,
    seen: &Seen,
    outcome: &Outcome,
) {
    // Written in place: the stack of a program is too small for a second copy.
    let fill = |to: *mut Event| {
        let ids = bpf_get_current_pid_tgid();
        // SAFETY: `to` is reserved memory of that type.
        unsafe {
            (*to).time = time;
            (*to).size = regs.argument(2);
            (*to).target = (target & (MAX_TARGETS as u64 - 1)) as u32;
            (*to).pid = (ids >> 32) as u32;
            (*to).tid = ids as u32;
            (*to).syscall = syscall;
            (*to).rule = outcome.rule;
            copy(&seen.call.peer, &raw mut (*to).peer);
            (*to).delay = outcome.delay;
            (*to).value = outcome.value;
            (*to).reserved = 0;
            (*to).decision = decision(seen, outcome) as u8;
            (*to).object = seen.call.object as u8;
            (*to).walked = 0;
            (*to).given = 0;
        }
    };
    let stored = match seen.call.object {
        Object::Ineligible => true,
        Object::File => match EVENTS.reserve::<FileEvent>(0) {
            Some(mut entry) => {
                let to = entry.as_mut_ptr();
                // SAFETY: as above; what is left of the path is never read, as `walked` and
                // `given` say.
                unsafe {
                    fill(&raw mut (*to).event);
                    let (walked, given) = seen.copy_path(&mut (*to).path);
                    (*to).event.walked = walked as u16;
                    (*to).event.given = given as u16;
                }
                entry.submit(0);
                true
            }
            None => false,
        },
        _ => match EVENTS.reserve::<Event>(0) {
            Some(mut entry) => {
                fill(entry.as_mut_ptr());
                entry.submit(0);
                true
            }
            None => false,
        },
    };
    if !stored {
        // SAFETY: a live map value.
        increment(unsafe { &raw mut (*control()).dropped });
    }
}
