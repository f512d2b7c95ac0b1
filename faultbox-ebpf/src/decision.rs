//! Every armed rule of a set, asked about one call.

use core::arch::asm;

use faultbox_common::{ACTION_DELAY, Counters, MAX_SITES, Place, Rule, RuleSet, Site, decide};

use crate::{
    apply::Pending,
    kernel::{blur, blurred},
    maps::{RULES, SCOPES},
};

/// A rule with its counters, by the kernel's atomic instructions (Linux 5.12): rustc has none for
/// eBPF.
pub struct InMap {
    pub rule: *mut Rule,
}

impl InMap {
    /// What it consists of.
    #[inline(always)]
    pub fn get(&self) -> &'static Rule {
        // SAFETY: elements live as long as the map.
        unsafe { &*self.rule }
    }
}

/// Adds a number and returns what was there before.
#[inline(always)]
pub fn fetch_add(at: *mut u64, mut number: u64) -> u64 {
    // SAFETY: the pointer is to an aligned word of a map's value.
    unsafe {
        asm!(
            "{v} = atomic_fetch_add((u64 *)({p} + 0), {v})",
            p = in(reg) at,
            v = inout(reg) number,
            options(nostack),
        );
    }
    number
}

/// Adds one.
#[inline(always)]
pub fn increment(at: *mut u64) {
    // SAFETY: as above.
    unsafe {
        asm!("lock *(u64 *)({p} + 0) += {v}", p = in(reg) at, v = in(reg) 1u64, options(nostack));
    }
}

impl Counters for InMap {
    #[inline(always)]
    fn next_match(&self) -> u64 {
        // SAFETY: a field of a live map value.
        fetch_add(unsafe { &raw mut (*self.rule).counters.matched }.cast(), 1)
    }

    #[inline(always)]
    fn next_ticket(&self) -> u64 {
        // SAFETY: as above.
        fetch_add(unsafe { &raw mut (*self.rule).counters.tickets }.cast(), 1)
    }

    #[inline(always)]
    fn exempt(&self) {
        // SAFETY: as above.
        increment(unsafe { &raw mut (*self.rule).counters.exempt }.cast());
    }
}

/// The same of one rule among others: the verifier comes here from each that was before.
struct AmongOthers {
    rule: InMap,
    /// See [`blurred`].
    unknown: u64,
}

impl Counters for AmongOthers {
    #[inline(always)]
    fn next_match(&self) -> u64 {
        self.rule.next_match()
    }

    #[inline(always)]
    fn next_ticket(&self) -> u64 {
        self.rule.next_ticket()
    }

    #[inline(always)]
    fn exempt(&self) {
        self.rule.exempt();
    }

    #[inline(always)]
    fn opaque(&self, value: u64) -> u64 {
        blurred(value, self.unknown)
    }
}

/// Whether a rule is on, and still the one that a set means.
#[inline(always)]
pub fn is_armed(rule: &Rule, site: &Site) -> bool {
    // SAFETY: a live map value, which user space changes at any time.
    let armed = unsafe { core::ptr::read_volatile(SCOPES.at(rule.scope.into())) };
    armed != 0 && rule.generation == site.generation
}

/// The rules of a set that fired, by their places in the set: a bit for each.
pub type Fired = u16;

/// Counts the rules that fired; those that delay only if the call was parked.
#[inline(always)]
pub fn count_fired(slots: &[u16; MAX_SITES], fired: Fired, parked: bool) {
    for i in 0..MAX_SITES {
        if fired >> i & 1 == 0 {
            continue;
        }
        let rule = RULES.at(slots[i].into());
        // SAFETY: fields of a live map value.
        unsafe {
            if parked || (*rule).action != ACTION_DELAY {
                increment((&raw mut (*rule).counters.fired).cast());
            }
        }
    }
}

/// Finds what all rules of a set do to a call, and which of them fired. With `at_once`, those that
/// end the call are counted here; the others are when it is known whether they can be carried out.
#[inline(always)]
pub fn decide_by_all(
    set: &RuleSet,
    place: Place,
    decided: &mut Pending,
    at_once: bool,
    unknown: u64,
) {
    let mut fired = 0u64;
    for i in 0..MAX_SITES {
        if i as u32 >= set.count {
            break;
        }
        let site = &set.sites[i];
        let pointer = RULES.at(site.slot.into());
        let counters = AmongOthers { rule: InMap { rule: pointer }, unknown };
        let rule = counters.rule.get();
        if is_armed(rule, site) {
            let verdict = decide(rule, &counters, site, &decided.seen.call, place);
            if decided.outcome.add(rule, verdict) {
                if at_once && rule.action != ACTION_DELAY {
                    // SAFETY: a field of a live map value.
                    increment(unsafe { &raw mut (*pointer).counters.fired }.cast());
                } else {
                    fired |= 1 << i;
                }
            }
        }
        decided.slots[i] = site.slot as u16;
        blur(&mut decided.outcome, unknown);
        fired = blurred(fired, unknown);
    }
    decided.fired = fired as Fired;
}
