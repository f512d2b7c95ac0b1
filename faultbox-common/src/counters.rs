//! The counts a rule keeps, wherever it is decided.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering;

/// Counts of one rule, shared by every processor and by kernel and supervisor.
///
/// The eBPF side implements it with the kernel's atomic instructions on the same memory that
/// user space maps, so a rule split between two rungs still has one sequence of matches.
pub trait Counters {
    /// Counts a match and returns how many there were before it.
    fn next_match(&self) -> u64;
    /// Takes one of the hits that `max_hits` allows and returns how many were taken before.
    fn next_ticket(&self) -> u64;
    /// Counts a call that the rule would have hit but for the driver's exemption.
    fn exempt(&self);

    /// The same value. A program hides from its verifier here how it came about, so that what
    /// follows is checked once for all values, and not once for each.
    #[inline(always)]
    fn opaque(&self, value: u64) -> u64 {
        value
    }
}

/// [`Counters`] for code that has atomics.
#[repr(C)]
#[derive(Debug, Default)]
pub struct AtomicCounters {
    /// Calls that the rule applies to.
    pub matched: AtomicU64,
    /// Calls that it broke.
    pub fired: AtomicU64,
    /// Calls it left alone because the peer is the test driver.
    pub exempt: AtomicU64,
    /// Hits handed out under `max_hits`.
    pub tickets: AtomicU64,
}

// The eBPF target has the type but not its atomic operations.
#[cfg(not(target_arch = "bpf"))]
impl Counters for AtomicCounters {
    fn next_match(&self) -> u64 {
        self.matched.fetch_add(1, Ordering::Relaxed)
    }

    fn next_ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    fn exempt(&self) {
        self.exempt.fetch_add(1, Ordering::Relaxed);
    }
}
