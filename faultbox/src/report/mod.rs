//! Formats what a test left behind. Reads reports and logs; decides nothing.

mod firing;
mod hints;
mod json;
mod log_line;
mod matrix;
mod model;
mod partition_lines;
mod plain;
mod replay;
mod rule_lines;
mod rule_text;
mod service_lines;
mod style;
mod terminal;
mod trace_lines;

pub use firing::{nothing_fired, unfired};
pub use json::Document;
pub use log_line::{Level, log_line};
pub use matrix::MatrixReport;
pub use model::{
    FailureType, Outcome, PartitionReport, RuleReport, ServiceReport, TestReport, WindowReport,
};
pub use partition_lines::uncut;
pub(crate) use rule_text::decision_text;
pub use style::Style;
pub use terminal::Terminal;

#[cfg(test)]
mod sample;
