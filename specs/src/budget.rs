//! Work that is waited for only so long.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Asking a name server and a peer takes little stack.
const STACK_BYTES: usize = 256 * 1024;

/// What `work` returns, if it does within `budget`; `None` otherwise.
///
/// The work is done on a thread of its own, because neither the look-up of a name nor a
/// `connect(2)` that somebody holds up can be given a limit. A thread that is no longer waited
/// for goes on to its end, and nobody hears of it.
pub fn within<T: Send + 'static>(
    budget: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        // The one who asked may have stopped waiting.
        let _ = sender.send(work());
    });
    spawned.ok()?;
    receiver.recv_timeout(budget).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn work_that_is_done_in_time_has_its_result() {
        assert_eq!(within(Duration::from_secs(20), || 7), Some(7));
    }

    #[test]
    fn nobody_waits_longer_than_the_budget() {
        let start = Instant::now();
        let late = within(Duration::from_millis(30), || thread::sleep(Duration::from_secs(20)));
        assert_eq!(late, None);
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
