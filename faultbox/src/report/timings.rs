//! What the time of runs went into (`--timings`).

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lap {
    /// Its cgroup, its network namespace, its log.
    Sandbox,
    /// Evaluating the spec.
    Spec,
    /// Starting processes and containers.
    Spawn,
    /// Waiting until they are ready.
    Ready,
    /// The test function.
    Test,
    /// Ending the services.
    Stop,
    /// Removing the sandbox.
    CleanUp,
}

const NAMES: [&str; STEPS] = ["sandbox", "spec", "spawn", "ready", "test", "stop", "clean-up"];
const STEPS: usize = 7;

/// How long each step took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings([Duration; STEPS]);

/// Measures the steps of a run.
#[derive(Debug)]
pub struct Stopwatch {
    last: Cell<Instant>,
    timings: Cell<Timings>,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self { last: Cell::new(Instant::now()), timings: Cell::default() }
    }

    /// What has passed since the last time went into this step.
    pub fn lap(&self, lap: Lap) {
        let now = Instant::now();
        let mut timings = self.timings.get();
        timings.0[lap as usize] += now - self.last.replace(now);
        self.timings.set(timings);
    }

    /// What there was so far.
    pub fn timings(&self) -> Timings {
        self.timings.get()
    }
}

/// The timings of many runs.
#[derive(Clone, Debug, Default)]
pub struct AllTimings(Vec<Timings>);

impl AllTimings {
    /// Adds those of a run.
    pub fn add(&mut self, timings: Timings) {
        self.0.push(timings);
    }

    /// A line per step, from a blank line on; nothing if nothing has run.
    pub fn lines(&self) -> Vec<String> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let line = |name: &str, of: &dyn Fn(&Timings) -> Duration| {
            let mut times: Vec<_> = self.0.iter().map(of).collect();
            times.sort_unstable();
            let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
            let total = times.iter().sum::<Duration>().as_secs_f64();
            format!("  {name:<8} {:>9.2} {:>9.2} {total:>9.2}", at(50), at(99))
        };
        let mut lines = vec![
            String::new(),
            format!("Timings of {} runs:", self.0.len()),
            "  step        p50 ms    p99 ms   total s".to_owned(),
        ];
        let steps = NAMES.iter().enumerate();
        lines.extend(steps.map(|(step, name)| line(name, &|it| it.0[step])));
        lines.push(line("all", &|it| it.0.iter().sum()));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_is_added_to_its_step_and_all_of_them_are_the_whole_time() {
        let begin = Instant::now();
        let watch = Stopwatch::start();
        watch.lap(Lap::Sandbox);
        std::thread::sleep(Duration::from_millis(5));
        watch.lap(Lap::Test);
        watch.lap(Lap::Ready);
        watch.lap(Lap::Test);
        let timings = watch.timings();
        assert!(timings.0[Lap::Test as usize] >= Duration::from_millis(5));
        assert!(timings.0.iter().sum::<Duration>() <= begin.elapsed());
        assert_eq!(timings.0[Lap::CleanUp as usize], Duration::ZERO);
    }

    #[test]
    fn medians_are_of_steps_and_totals_of_all_runs() {
        let mut all = AllTimings::default();
        assert_eq!(all.lines(), [""; 0]);
        for millis in [1, 3, 2] {
            let mut timings = Timings::default();
            timings.0[Lap::Spawn as usize] = Duration::from_millis(millis);
            timings.0[Lap::Stop as usize] = Duration::from_millis(10);
            all.add(timings);
        }
        let lines = all.lines();
        assert_eq!(lines[1], "Timings of 3 runs:");
        assert_eq!(lines[2], "  step        p50 ms    p99 ms   total s");
        assert_eq!(lines[5], "  spawn         2.00      2.00      0.01");
        assert_eq!(lines[10], "  all          12.00     12.00      0.04");
        assert_eq!(lines.len(), 3 + STEPS + 1);
    }
}
