//! What is printed: one JSON object per line.

use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

/// One line.
#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(crate) enum Line<'a> {
    /// Where this is measured.
    Kernel {
        /// As `uname -r` has it.
        release: &'a str,
    },
    /// One call; nanoseconds each, which the virtual machine makes instructions.
    Call {
        id: &'a str,
        title: &'a str,
        /// The case that this one's cost is counted from; none: it is such a case itself.
        against: Option<&'a str>,
        /// Whether the call waits for another process, whose work is its cost, too.
        waits: bool,
        /// Spent by the calling thread, in and out of the kernel.
        own: f64,
        /// From call to call, work of other processes on the same processor included.
        elapsed: f64,
        /// Slowest round less fastest, as part of the median.
        spread: f64,
    },
    /// Something that the engine does only once; nanoseconds.
    Once { id: &'a str, title: &'a str, elapsed: f64 },
    /// Something that the engine does again and again; nanoseconds, the median.
    Action { id: &'a str, title: &'a str, elapsed: f64 },
    /// Something that should not have happened, how often.
    Count { id: &'a str, title: &'a str, count: u64 },
    /// A case that cannot be measured here.
    Skipped { id: &'a str, title: &'a str, why: String },
}

impl Line<'_> {
    /// Prints it.
    pub(crate) fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, self)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }
}

/// The middle one; of an even number, the upper of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
