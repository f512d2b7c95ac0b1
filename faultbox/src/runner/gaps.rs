//! What should have been looked at and was not: counted by the engine, said by the report.

use crate::engine::Engine;

/// What an engine has let pass so far that it should not have.
#[derive(Clone, Copy)]
pub(crate) struct Gaps {
    misses: u64,
    undelayed: u64,
    restarts: u64,
}

impl Gaps {
    /// By now.
    pub(crate) fn of(engine: &Engine) -> Self {
        let (misses, undelayed) = (engine.misses(), engine.undelayed());
        Self { misses, undelayed, restarts: engine.tracer_restarts() }
    }

    /// What has come since, in words.
    pub(crate) fn since(self, engine: &Engine) -> Vec<String> {
        let now = Self::of(engine);
        let counts = [
            now.misses - self.misses,
            now.undelayed - self.undelayed,
            now.restarts - self.restarts,
        ];
        let [unexamined, undelayed, restarts] = counts;
        let texts = [
            format!(
                "{unexamined} calls passed unexamined (their path was not in memory, or the \
                 kernel skipped a hook)"
            ),
            format!(
                "{undelayed} calls ran undelayed (their thread was not traced yet, or by another \
                 tracer)"
            ),
            format!("the tracer that delays calls was killed {restarts} times"),
        ];
        let some = counts.into_iter().zip(texts).filter(|(count, _)| *count > 0);
        some.map(|(_, text)| text).collect()
    }
}
