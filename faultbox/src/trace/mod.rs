//! The one ordered log of a test, and questions to it. Assertions and reports read this and
//! nothing else.

mod event;
mod log;
mod names;
mod query;

pub use event::{Event, EventKind, is_faulted};
pub use log::{Log, now};
pub use names::{Names, RuleName};
pub use query::{WindowSpan, faulted_per_service, syscall_count, window_spans};
