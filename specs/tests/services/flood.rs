//! The program that never stops printing.

use crate::program::Program;
use std::io::Read;

#[test]
fn it_prints_without_end_and_answers_whether_or_not_anybody_reads() {
    let mut flood = Program::start("flood", &[]);
    // Nobody has read since the first line, so the pipe is full or will be.
    assert_eq!(flood.ask("PING"), "PONG");
    let mut stdout = flood.child.stdout.take().unwrap();
    let mut bytes = vec![0; 4 * 1024 * 1024];
    stdout.read_exact(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("\nflood line 20000: "), "the lines are numbered");
    drop(stdout);
    assert_eq!(flood.ask("PING"), "PONG");
    assert!(flood.is_running());
}
