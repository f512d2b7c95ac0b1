//! Ending all services of a test: SIGTERM to each main process, and whatever of it and of its
//! descendants is left two seconds later is killed.

use std::{
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{sandbox::Sandbox, service::RunningService};

/// How long a service may take to end by itself.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How long the kernel may take to end a killed process.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends all services and everything they have started. With `at_once` nobody is asked.
pub(crate) fn stop(services: &mut [RunningService], sandbox: &Sandbox, at_once: bool) {
    if !at_once {
        for process in services.iter().filter_map(RunningService::process) {
            process.signal(libc::SIGTERM);
        }
        wait_for_all(services, Instant::now() + GRACE);
    }
    sandbox.kill();
    wait_for_all(services, Instant::now() + PATIENCE);
}

/// Waits until all main processes have ended.
fn wait_for_all(services: &mut [RunningService], deadline: Instant) {
    loop {
        for service in services.iter_mut() {
            service.ended();
        }
        let running = services.iter().filter_map(RunningService::process);
        let mut descriptors: Vec<_> =
            running.map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if descriptors.is_empty() || left.is_zero() {
            return;
        }
        // An error is a signal; the deadline ends the loop whatever happens.
        let _ = ppoll(&mut descriptors, Some(TimeSpec::from(left)), None);
    }
}
