//! The engine against the real kernel: calls that a child makes inside a target's cgroup.
//!
//! In-kernel tests run where `FAULTBOX_TEST_ENGINE` is `ebpf` (`cargo xtask test` does that in
//! virtual machines); elsewhere they say that they did not run.

mod agreement;
#[allow(clippy::cast_ptr_alignment, reason = "the rings of io_uring(7) are aligned as it says")]
mod callers;
mod delays;
mod in_kernel;
mod kprobes;
mod observation;
pub(super) mod partitions;
pub(super) mod stress;
mod subject;

use std::sync::{Arc, Mutex, PoisonError};

use super::{Record, RecordSink};

/// Keeps records.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Record>>);

impl Kept {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RecordSink for Kept {
    fn record(&self, record: Record) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}

/// Whether this run is to exercise in-kernel programs; says so when it is not.
pub(super) fn in_kernel() -> bool {
    let wanted = std::env::var("FAULTBOX_TEST_ENGINE").is_ok_and(|engine| engine == "ebpf");
    if !wanted {
        eprintln!("not run here: needs in-kernel programs; cargo xtask test runs it in the VM");
    }
    wanted
}
