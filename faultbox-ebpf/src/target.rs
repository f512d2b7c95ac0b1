//! Whose call is it?

use aya_ebpf::helpers::bpf_get_current_ancestor_cgroup_id;
use faultbox_common::{Control, LEVELS, TargetInfo};

use crate::maps::{CONTROL, TARGETS};

/// The switches.
#[inline(always)]
pub fn control() -> Option<&'static mut Control> {
    // SAFETY: an array element lives as long as the map, and races on its words are meant.
    CONTROL.get_ptr_mut(0).map(|control| unsafe { &mut *control })
}

/// The target that the current task belongs to, by any ancestor of its cgroup.
///
/// Every process on the machine passes here, so the usual answer, no, must be cheap: one helper
/// and one look-up for each depth at which there are targets.
#[inline(always)]
pub fn current() -> Option<&'static TargetInfo> {
    let control = control()?;
    for i in 0..LEVELS {
        // SAFETY: user space changes the word at any time; a stale one is as good.
        let level = unsafe { core::ptr::read_volatile(&raw const control.levels[i]) };
        if level == 0 {
            break;
        }
        // SAFETY: no preconditions; 0 when the task's cgroup is not that deep.
        let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32 - 1) };
        if cgroup == 0 {
            continue;
        }
        // SAFETY: entries are replaced whole, never changed in place.
        if let Some(target) = unsafe { TARGETS.get(&cgroup) } {
            return Some(target);
        }
    }
    None
}
