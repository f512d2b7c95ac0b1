//! The runs of one test, taken together as they end.

use std::time::Duration;

use super::FinishedRun;

/// Counts, and the one run that is shown.
#[derive(Clone, Debug, Default)]
pub struct Repetitions {
    runs: usize,
    passed: usize,
    shown: Option<FinishedRun>,
    duration: Duration,
    by_chance: bool,
    has_fired: bool,
}

impl Repetitions {
    /// Adds the next run. What is shown is the first that failed; or else the first that has
    /// something to say; or else the first.
    pub fn add(&mut self, run: FinishedRun) {
        let worth = |it: &FinishedRun| (!it.has_passed(), it.is_telling);
        if self.runs == 0 {
            self.duration = run.duration;
        }
        self.runs += 1;
        self.passed += usize::from(run.has_passed());
        self.by_chance |= run.by_chance;
        self.has_fired |= !run.is_idle;
        match &self.shown {
            Some(shown) if worth(shown).0 || worth(shown) >= worth(&run) => {}
            _ => self.shown = Some(run),
        }
    }

    /// How many there were.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// How many of them passed.
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// The one to show; `None` if there was none.
    pub fn shown(&self) -> Option<&FinishedRun> {
        self.shown.as_ref()
    }

    /// How long the first took.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Whether chance had a part in any of them.
    pub fn by_chance(&self) -> bool {
        self.by_chance
    }

    /// Whether all had rules of which none did anything.
    pub fn is_idle(&self) -> bool {
        !self.has_fired
    }
}
