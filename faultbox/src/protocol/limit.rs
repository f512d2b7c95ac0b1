//! How long a step may take, and who may end it earlier.

use std::{
    io,
    os::fd::BorrowedFd,
    pin::pin,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::go_duration;

/// The longest wait between two looks at the cancellation.
const SLICE: Duration = Duration::from_millis(50);

/// A deadline and a cancellation: no wait outlasts either.
#[derive(Clone, Copy)]
pub struct Limit<'a> {
    started: Instant,
    deadline: Instant,
    cancelled: &'a dyn Fn() -> bool,
}

impl<'a> Limit<'a> {
    /// Waits end at the deadline, or at most 100 ms after `cancelled` starts to return true.
    pub fn new(deadline: Instant, cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { started: Instant::now(), deadline, cancelled }
    }

    /// The same, and at most `time` from now on.
    pub fn within(&self, time: Duration) -> Self {
        let started = Instant::now();
        let deadline =
            started.checked_add(time).map_or(self.deadline, |end| end.min(self.deadline));
        Self { started, deadline, cancelled: self.cancelled }
    }

    /// Time left; an error of kind `TimedOut` when there is none, or one that says that the test
    /// is being stopped.
    pub fn remaining(&self) -> io::Result<Duration> {
        if (self.cancelled)() {
            // Not `Interrupted`: loops that repeat interrupted calls would repeat for ever.
            return Err(io::Error::other("stopped: the test has ended"));
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let total = self.deadline.saturating_duration_since(self.started);
            let total = Duration::from_millis(total.as_micros().div_ceil(1000) as u64);
            let text = format!("timed out after {}", go_duration(total));
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(left)
    }

    /// Time to wait before asking again, at most 100 ms.
    pub(super) fn slice(&self) -> io::Result<Duration> {
        Ok(self.remaining()?.min(SLICE))
    }

    /// Runs a future to its end, in a runtime that has a clock; an error when the limit comes first.
    pub(super) async fn bound<T>(&self, future: impl Future<Output = T>) -> io::Result<T> {
        let mut future = pin!(future);
        loop {
            if let Ok(done) = tokio::time::timeout(self.slice()?, future.as_mut()).await {
                return Ok(done);
            }
        }
    }

    /// Waits until the descriptor is ready for one of `events`, or broken (`poll(2)`).
    pub(super) fn wait(&self, fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
        loop {
            // Rounded up, so that the last wait does not spin through its final millisecond.
            let millis = self.slice()?.as_micros().div_ceil(1000) as u16;
            match poll(&mut [PollFd::new(fd, events)], PollTimeout::from(millis)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_wait_ends_at_the_shorter_of_two_deadlines_and_says_how_long_it_was() {
        let (silent, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let started = Instant::now();
        let limit = Limit::new(started + Duration::from_secs(60), &|| false);
        let error = limit
            .within(Duration::from_millis(120))
            .wait(silent.as_fd(), PollFlags::POLLIN)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "timed out after 120ms");
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(120), "{took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn a_cancelled_wait_ends_within_a_tenth_of_a_second() {
        let (silent, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let started = Instant::now();
        let cancelled = || started.elapsed() > Duration::from_millis(150);
        let limit = Limit::new(started + Duration::from_secs(60), &cancelled);
        let error = limit.wait(silent.as_fd(), PollFlags::POLLIN).unwrap_err();
        assert!(error.to_string().starts_with("stopped"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
