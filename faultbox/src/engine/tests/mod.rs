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
mod targets;

use std::sync::{Arc, Mutex, PoisonError};

use super::{Choice, Engine, EngineError, Options, Record, RecordSink, TraceLevel};

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

static SHARED: Mutex<Option<Engine>> = Mutex::new(None);

/// The engine of all in-kernel tests that need none of their own: a program that one of them made
/// the verifier check is there for the next.
pub(super) fn shared_engine() -> Engine {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.get_or_insert_with(|| start_engine(Choice::Ebpf).unwrap()).clone()
}

/// One for a test that breaks it, or exchanges what calls are hooked by: processes that the test
/// has forked keep what was there open. The shared one ends, because a kprobe has no effect on a
/// function that is hooked by `fmod_ret` as well.
pub(super) fn own_engine(choice: Choice) -> Result<Engine, EngineError> {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
    start_engine(choice)
}

/// One of a test's own that records nothing, and so decides as fast as it can.
pub(super) fn quiet_engine(choice: Choice) -> Result<Engine, EngineError> {
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
    Engine::start(&Options { choice, trace: TraceLevel::Off, ..Options::default() })
}

/// One beside the shared one, as in a process that a test has forked.
pub(super) fn start_engine(choice: Choice) -> Result<Engine, EngineError> {
    Engine::start(&Options { choice, ..Options::default() })
}
