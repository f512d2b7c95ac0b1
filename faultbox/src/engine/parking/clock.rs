//! The clock of [`faultbox_common::Park::until`].

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn now() -> u64 {
    // The clock exists.
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |it| it.tv_sec() as u64 * 1_000_000_000 + it.tv_nsec() as u64)
}
