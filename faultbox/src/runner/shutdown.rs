//! Ending all services of a test: SIGTERM to each main process (a container gets the signal that
//! its image asks for), and whatever of it and of its descendants is left two seconds later is
//! killed.

use std::time::{Duration, Instant};

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
pub(crate) fn stop(services: &mut [RunningService], sandbox: &Sandbox<'_>, at_once: bool) {
    if !at_once {
        services.iter().for_each(RunningService::ask_to_end);
        wait_for_all(services, Instant::now() + GRACE);
    }
    sandbox.kill();
    services.iter().for_each(RunningService::kill);
    wait_for_all(services, Instant::now() + PATIENCE);
}

/// Waits until all main processes have ended.
fn wait_for_all(services: &mut [RunningService], deadline: Instant) {
    loop {
        for service in services.iter_mut() {
            service.ended();
        }
        let running = services.iter().filter(|it| !it.goes_on());
        let running = running.filter_map(RunningService::descriptor);
        let mut descriptors: Vec<_> =
            running.map(|it| PollFd::new(it, PollFlags::POLLIN)).collect();
        let left = deadline.saturating_duration_since(Instant::now());
        if descriptors.is_empty() || left.is_zero() {
            return;
        }
        // An error is a signal; the deadline ends the loop whatever happens.
        let _ = ppoll(&mut descriptors, Some(TimeSpec::from(left)), None);
    }
}
