//! Whose call is it?

use aya_ebpf::helpers::{bpf_get_current_ancestor_cgroup_id, generated::bpf_get_current_cgroup_id};
use faultbox_common::{
    Control, FIELD_SET, LEVELS, MAX_SYSCALLS, MAX_TARGETS, PROBES, RuleSet, Whose, target_slot,
};

use crate::{
    decision::fetch_add,
    kernel::{Address, load_wide, member, offset, read, task},
    maps::{CONTROL, SET_OF, SETS, TARGETS, WHOSE},
};

/// The switches, on whose words races are meant.
#[inline(always)]
pub fn control() -> *mut Control {
    CONTROL.start()
}

/// Reads a switch, which user space changes at any time.
macro_rules! switch {
    ($($member:tt)+) => {
        // SAFETY: a member of a live map value.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::target::control()).$($member)+) }
    };
}
pub(crate) use switch;

/// The index of the target that the current task belongs to, by any ancestor of its cgroup; more
/// than an index where it is [`is_foreign`], which look-ups do not mind.
///
/// Every process on the machine passes here, so the answer is remembered for each cgroup in one
/// word, with the epoch as of which it was found. User space changes targets first and then the
/// epoch; here the epoch is read first and then, if need be, the targets. So what is remembered
/// under the present epoch was found after the last change, and what was found in the middle of
/// one is remembered under an epoch that ends with it.
#[inline(always)]
pub fn current() -> Option<u64> {
    let epoch = switch!(epoch);
    // SAFETY: no preconditions.
    let cgroup = unsafe { bpf_get_current_cgroup_id() };
    let whose = Whose::of(cgroup, epoch);
    // SAFETY: a word of a live map value, which is read and written whole.
    let answer = whose.answer(unsafe { core::ptr::read_volatile(WHOSE.within(whose.slot())) });
    if answer < Whose::NOBODY {
        return Some(answer);
    }
    if answer == Whose::NOBODY {
        return None;
    }
    let answer = find_out(cgroup, epoch);
    (answer < Whose::NOBODY).then_some(answer)
}

/// Looks it up and remembers it, as of an epoch.
#[inline(never)]
fn find_out(cgroup: u64, epoch: u64) -> u64 {
    // An atomic addition that returns something is a full barrier: no processor reads the targets
    // before the epoch.
    // SAFETY: a word of a live map value.
    fetch_add(unsafe { &raw mut (*control()).epoch }, 0);
    let answer = search();
    // Not if somebody has just moved the task to another cgroup: whose is the answer?
    // SAFETY: no preconditions.
    if unsafe { bpf_get_current_cgroup_id() } == cgroup {
        let whose = Whose::of(cgroup, epoch);
        // SAFETY: as in `current`.
        unsafe { core::ptr::write_volatile(WHOSE.within(whose.slot()), whose.word(answer)) };
    }
    answer
}

#[inline(always)]
fn search() -> u64 {
    for i in 0..LEVELS {
        let level = switch!(levels[i]);
        if level == 0 {
            break;
        }
        // SAFETY: no preconditions; 0 when the task's cgroup is not that deep.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32 - 1) };
        if cgroup == 0 {
            continue;
        }
        for probe in 0..PROBES {
            let slot = TARGETS.at((target_slot(cgroup) + probe).into());
            // SAFETY: a live map value, whose words user space changes at any time.
            let found = unsafe { core::ptr::read_volatile(&raw const (*slot).cgroup) };
            if found == 0 {
                break;
            }
            if found == cgroup {
                // SAFETY: as above.
                let (index, foreign) = unsafe {
                    let slot = &raw const *slot;
                    (
                        (&raw const (*slot).index).read_volatile(),
                        (&raw const (*slot).foreign).read_volatile(),
                    )
                };
                let kind = if foreign == 0 { 0 } else { Whose::FOREIGN };
                return u64::from(index) & (MAX_TARGETS as u64 - 1) | kind;
            }
        }
    }
    Whose::NOBODY
}

/// Whether somebody else starts the target's processes.
#[inline(always)]
pub fn is_foreign(target: u64) -> bool {
    target >= Whose::FOREIGN
}

/// Whether the current task is about to become the first process of a container, and is still its
/// runtime: the first of its pid namespace (`pid_namespaces(7)`), and never been through
/// `execve(2)`. What the runtime does in there is none of the container's own calls, and failing
/// it would be refusing to start, whatever the rule is about.
#[inline(never)]
pub fn is_runtime() -> bool {
    /// `PF_FORKNOEXEC` of `linux/sched.h`.
    const FORKED: u32 = 0x40;
    /// `struct upid`: the number, and its namespace.
    const UPID: usize = 16;
    let task = task();
    if member!(u32, task, task_flags) & FORKED == 0 {
        return false;
    }
    let pid: Address = member!(Address, task, task_thread_pid);
    // At most 32, as namespaces lie in each other.
    let level = member!(u32, pid, pid_level) as usize & 31;
    read::<u32>(pid, offset!(pid_numbers) + level * UPID) == Some(1)
}

/// The rules of a target on a call.
#[inline(always)]
pub fn rules(target: u64, syscall: u32) -> Option<&'static RuleSet> {
    let sets = SET_OF.at(target).cast::<u16>();
    // SAFETY: in bounds by the mask; user space changes the word at any time.
    let set = unsafe { core::ptr::read_volatile(sets.add(syscall as usize & (MAX_SYSCALLS - 1))) };
    named(set.into())
}

/// Those on the call that this program is loaded for.
#[inline(always)]
pub fn rules_here(target: u64) -> Option<&'static RuleSet> {
    named(load_wide::<u16, FIELD_SET>(SET_OF.at(target).cast_const().cast()))
}

#[inline(always)]
fn named(set: u64) -> Option<&'static RuleSet> {
    if set == 0 {
        return None;
    }
    let set = SETS.at(set);
    // SAFETY: an element is never at zero and lives as long as the map; user space fills it before
    // it is named.
    unsafe {
        core::hint::assert_unchecked(!set.is_null());
        Some(&*set)
    }
}
