//! Drives the Starlark layer with a host that records what is asked of it.

mod assertions;
mod composition;
mod databases;
mod domain_errors;
mod errors;
mod events;
mod expectations;
mod faults;
mod host;
mod language;
mod limits;
mod load;
mod monitors;
mod mutations;
mod partitions;
mod rules;
mod services;
mod steps;

use std::thread;

use super::{Declarations, SpecError, SpecFile, TestFailure, evaluate};

pub(super) use host::Recorder;

/// What the runner gives the threads that evaluate.
const STACK: usize = 64 << 20;

/// A declaration that most specs begin with: line 1 and 2.
const DB: &str = "db = service(\"db\", \"bin/mock-db\", interface(\"main\", \"tcp\", 5432),\n    \
    ops = {\"persist\": op(syscalls = [\"write\", \"fsync\"])})\n";

fn file(source: &str) -> Result<SpecFile, SpecError> {
    SpecFile::new("a.star".to_owned(), source.as_bytes().to_vec())
}

/// Runs on a thread with the stack that the runner gives.
pub(super) fn on_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(STACK);
        builder.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// Evaluates a source that is fine and returns what it declares.
fn load(source: &str) -> Declarations {
    try_load(source).unwrap_or_else(|error| panic!("{error}"))
}

fn try_load(source: &str) -> Result<Declarations, SpecError> {
    let source = source.to_owned();
    on_thread(move || {
        evaluate(&file(&source)?, &Recorder::default(), |it| it.declarations().clone())
    })
}

/// The first line of the error that a source has: its place and text.
fn load_error(source: &str) -> String {
    let error = try_load(source).expect_err("the spec loads");
    let text = error.to_string();
    text.lines().next().unwrap().to_owned()
}

/// The error of a statement, without its place.
fn statement_error(statement: &str) -> String {
    let error = try_load(&format!("{statement}\n")).expect_err("the spec loads");
    assert!(error.location.is_some(), "{error}");
    error.text
}

/// Calls a test of a source with `db` declared and returns what it gave and what the host was
/// asked for.
fn call_named(
    source: &str,
    test: &str,
    host: Recorder,
) -> (Result<Option<String>, TestFailure>, Vec<String>) {
    let source = format!("{DB}{source}");
    on_thread(move || {
        let file = file(&source).unwrap();
        let result = evaluate(&file, &host, |it| it.call(test));
        (result.unwrap_or_else(|error| panic!("{error}")), host.calls())
    })
}

/// Calls `test_x` of a source and returns what it gave and what the host was asked for.
fn call(source: &str) -> (Result<Option<String>, TestFailure>, Vec<String>) {
    call_with(source, Recorder::default())
}

fn call_with(source: &str, host: Recorder) -> (Result<Option<String>, TestFailure>, Vec<String>) {
    let source = source.to_owned();
    on_thread(move || {
        let file = file(&source).unwrap();
        let result = evaluate(&file, &host, |it| it.call("test_x"));
        (result.unwrap_or_else(|error| panic!("{error}")), host.calls())
    })
}

/// Runs these lines as a test with `db` declared; they begin at line 4.
fn run(lines: &str) -> (Result<Option<String>, TestFailure>, Vec<String>) {
    call(&test(lines))
}

/// Lines as the body of a function.
fn indented(lines: &str) -> String {
    lines.lines().fold(String::new(), |body, line| body + "    " + line + "\n")
}

/// The source of [`run`].
fn test(lines: &str) -> String {
    format!("{DB}def test_x():\n{}", indented(lines))
}

/// Why a test of these lines fails.
fn failure(lines: &str) -> TestFailure {
    run(lines).0.expect_err("the test passes")
}

fn reason(lines: &str) -> String {
    failure(lines).reason
}
