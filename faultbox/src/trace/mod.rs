//! The one ordered log of a test, and questions to it. Assertions and reports read this and
//! nothing else.

mod event;
mod fields;
mod log;
mod names;
mod query;
mod rfc3339;

pub use event::{Channel, Event, EventKind, is_faulted};
pub(crate) use fields::decision_text;
pub use fields::{EVENT_TYPES, decision_by_name};
pub use log::{Log, Watch, now};
pub use names::{Names, RuleName};
pub use query::{WindowSpan, faulted_per_service, syscall_count, window_spans};
pub use rfc3339::rfc3339;
