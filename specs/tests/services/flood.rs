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

#[test]
fn a_burst_is_as_many_writes_as_were_asked_for() {
    let sink = std::env::temp_dir().join(format!("flood-sink-{}", std::process::id()));
    let sink_text = sink.to_str().unwrap();
    let flood = Program::start("flood", &[("QUIET", "1"), ("SINK", sink_text)]);
    for count in ["3000", "17"] {
        assert_eq!(flood.ask(&format!("BURST {count}")), count);
        assert_eq!(std::fs::metadata(&sink).unwrap().len().to_string(), count);
    }
    assert_eq!(flood.ask("BURST many"), "ERR usage: BURST n");
    std::fs::remove_file(&sink).unwrap();
}
