//! Formats what a test left behind. Reads reports and logs; decides nothing.

mod block;
mod failures;
mod finished;
mod firing;
mod hints;
mod json;
mod junit;
mod log_line;
mod matrix;
mod model;
mod partition_lines;
mod plain;
mod repetitions;
mod replay;
mod rule_lines;
mod rule_text;
mod service_lines;
mod style;
mod terminal;
mod timings;
mod trace_lines;

pub use failures::Failures;
pub use finished::{FinishedRun, Keep};
pub use firing::{nothing_fired, unfired};
pub use json::Document;
pub use junit::Junit;
pub use log_line::{Level, log_line};
pub use matrix::MatrixReport;
pub use model::{
    FailureType, Outcome, PartitionReport, RuleReport, ServiceReport, TestReport, WindowReport,
};
pub use partition_lines::uncut;
pub use repetitions::Repetitions;
pub(crate) use rule_text::decision_text;
pub use style::Style;
pub use terminal::Terminal;
pub use timings::{AllTimings, Lap, Stopwatch, Timings};

#[cfg(test)]
mod sample;
