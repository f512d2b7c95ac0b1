//! Whose call is it?

use aya_ebpf::helpers::bpf_get_current_ancestor_cgroup_id;
use faultbox_common::{
    Control, LEVELS, MAX_SYSCALLS, PROBES, RuleSet, TARGET_SLOTS, TargetInfo, target_slot,
};

use crate::maps::{CONTROL, SET_OF, SETS, TARGETS};

/// The switches.
#[inline(always)]
pub fn control() -> Option<&'static mut Control> {
    // SAFETY: an array element lives as long as the map, and races on its words are meant.
    CONTROL.get_ptr_mut(0).map(|control| unsafe { &mut *control })
}

/// The target that the current task belongs to, by any ancestor of its cgroup.
///
/// Every process on the machine passes here, so the usual answer, no, must be cheap: one helper
/// and one look at an array for each depth at which there are targets.
#[inline(always)]
pub fn current() -> Option<&'static TargetInfo> {
    current_by(control()?)
}

/// The same, for who has the switches at hand.
#[inline(always)]
pub fn current_by(control: &Control) -> Option<&'static TargetInfo> {
    for i in 0..LEVELS {
        // SAFETY: user space changes the word at any time; a stale one is as good.
        let level = unsafe { core::ptr::read_volatile(&raw const control.levels[i]) };
        if level == 0 {
            break;
        }
        // SAFETY: no preconditions; 0 when the task's cgroup is not that deep.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32 - 1) };
        if let Some(target) = find(cgroup) {
            return Some(target);
        }
    }
    None
}

#[inline(always)]
fn find(cgroup: u64) -> Option<&'static TargetInfo> {
    let start = target_slot(cgroup);
    for probe in 0..PROBES {
        let slot = TARGETS.get((start + probe) & (TARGET_SLOTS - 1))?;
        // SAFETY: as above.
        let found = unsafe { core::ptr::read_volatile(&raw const slot.cgroup) };
        if found == 0 {
            break;
        }
        if found == cgroup {
            return Some(&slot.info);
        }
    }
    None
}

/// The rules of a target on a call.
#[inline(always)]
pub fn rules(target: &TargetInfo, syscall: u32) -> Option<&'static RuleSet> {
    let sets = SET_OF.get(target.index)?;
    // SAFETY: in bounds by the mask; user space changes the word at any time.
    let set = unsafe {
        core::ptr::read_volatile(
            (&raw const *sets).cast::<u16>().add(syscall as usize & (MAX_SYSCALLS - 1)),
        )
    };
    if set == 0 { None } else { SETS.get(set.into()) }
}
