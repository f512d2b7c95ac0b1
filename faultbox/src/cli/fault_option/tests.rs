use std::time::Duration;

use super::*;
use crate::engine::Errno;

#[track_caller]
fn shown(grammar: Grammar, text: &str) -> String {
    match FaultOption::parse(grammar, text) {
        Ok(option) => option.to_string(),
        Err(error) => panic!("{text}: {error}"),
    }
}

#[track_caller]
fn error(grammar: Grammar, text: &str) -> String {
    match FaultOption::parse(grammar, text) {
        Ok(option) => panic!("{text}: {option}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_form_with_colons_is_read() {
    for (text, expected) in [
        ("write=EIO:100%", "write=deny(EIO) → filter:[write]"),
        ("write=eio:10%", "write=deny(EIO) → filter:[write] probability=10%"),
        ("fsync=EIO:0.5%:nth=3", "fsync=deny(EIO) → filter:[fsync] probability=0.5% nth=3"),
        ("read=EIO:100%:after=2", "read=deny(EIO) → filter:[read] after=2"),
        ("openat=ENOENT:100%:/data/**", "openat=deny(ENOENT) → filter:[openat] path=/data/**"),
        (
            "openat=ENOENT:50%:/a:b/*:nth=1",
            "openat=deny(ENOENT) → filter:[openat] path=/a:b/* probability=50% nth=1",
        ),
        ("write=delay:500ms:100%", "write=delay(500ms) → filter:[write]"),
        (
            "connect=delay:1m30s:20%:after=1",
            "connect=delay(90s) → filter:[connect] probability=20% after=1",
        ),
        ("write=delay:1s:100%:/tmp/*", "write=delay(1s) → filter:[write] path=/tmp/*"),
    ] {
        assert_eq!(shown(Grammar::Either, text), expected, "{text}");
    }
}

#[test]
fn every_action_of_a_spec_is_read_with_and_without_quotes() {
    for (text, expected) in [
        ("write=deny(EIO)", "write=deny(EIO) → filter:[write,writev,pwrite64]"),
        (
            "write=deny(\"EIO\", probability=\"10%\")",
            "write=deny(EIO) → filter:[write,writev,pwrite64] probability=10%",
        ),
        (
            " write = deny( errno = 'EIO' , probability=0.1, ) ",
            "write=deny(EIO) → filter:[write,writev,pwrite64] probability=10%",
        ),
        (
            "fsync=delay(500ms, nth=2, label=\"slow disk\")",
            "fsync=delay(500ms) → filter:[fsync,fdatasync] nth=2 label=\"slow disk\"",
        ),
        (
            "unlinkat=returns(0, after=3, max_hits=1)",
            "unlinkat=returns(0) → filter:[unlinkat] after=3 max_hits=1",
        ),
        ("read=eof(probability=7)", "read=eof() → filter:[read,readv,pread64] probability=7%"),
        ("fsync=crash()", "fsync=crash(SIGKILL) → filter:[fsync,fdatasync]"),
        ("fsync=crash(SIGSEGV)", "fsync=crash(SIGSEGV) → filter:[fsync,fdatasync]"),
        ("fsync=crash('term')", "fsync=crash(SIGTERM) → filter:[fsync,fdatasync]"),
        ("write=allow()", "write=allow() → filter:[write,writev,pwrite64]"),
        ("openat=deny(EIO, path=\"/a,b/**\")", "openat=deny(EIO) → filter:[openat] path=/a,b/**"),
        ("openat=deny(EIO, path=/a/\\*)", "openat=deny(EIO) → filter:[openat] path=/a/\\*"),
    ] {
        assert_eq!(shown(Grammar::Expression, text), expected, "{text}");
        assert_eq!(shown(Grammar::Either, text), expected, "{text}");
    }
}

#[test]
fn file_ops_stand_for_their_calls() {
    let calls = |text: &str| {
        let text = shown(Grammar::Files, text);
        text.split(['[', ']']).nth(1).unwrap().to_owned()
    };
    assert_eq!(calls("write=EIO:10%:/data/**"), "write,writev,pwrite64,pwritev,pwritev2");
    assert_eq!(calls("fsync=EIO:10%"), "fsync,fdatasync");
    assert!(calls("open=ENOENT:10%:/data/**").starts_with("open"));
    for op in ["sync", "mkdir", "delete", "stat"] {
        assert!(!calls(&format!("{op}=EIO:1%")).is_empty());
    }
}

#[test]
fn a_rule_has_all_that_was_asked_for() {
    let text = "write=deny(ENOSPC, probability=25%, path=/x/*, after=4, max_hits=2)";
    let option = FaultOption::parse(Grammar::Either, text).unwrap();
    let rule = option.rule(TargetId(3), "run", 7, 1);
    assert_eq!(rule.action, Action::Deny(Errno::from_name("ENOSPC").unwrap()));
    assert_eq!(rule.path.as_ref().unwrap().as_str(), "/x/*");
    assert_eq!((rule.after, rule.max_hits.unwrap().get(), rule.id), (4, 2, RuleId(1)));
    assert_eq!(rule.sites, [Site::of(TargetId(3))]);
    assert_eq!(rule.stream, option.rule(TargetId(3), "run", 7, 1).stream);
    assert_ne!(rule.stream, option.rule(TargetId(3), "run", 8, 1).stream);
    assert_ne!(rule.stream, option.rule(TargetId(3), "run", 7, 2).stream);
    let late = FaultOption::parse(Grammar::Either, "write=delay:5ms:100%").unwrap();
    assert_eq!(late.rule(TargetId(0), "run", 0, 0).action, Action::Delay(Duration::from_millis(5)));
}

#[test]
fn errors_name_the_option_the_column_and_what_to_do() {
    assert_eq!(
        error(Grammar::Expression, "write=deny(EIOO)"),
        "--fault: unknown errno \"EIOO\"; did you mean: EIO? (column 12)\n  \
         write=deny(EIOO)\n             ^"
    );
    assert!(error(Grammar::Files, "write=EIOO:1%").starts_with("--fs-fault: unknown errno"));
    let shown = error(Grammar::Either, "wr\u{1b}[31mite=deny(EIO)");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn every_mistake_has_a_text_of_its_own() {
    use Grammar::{Either, Expression, Files};
    for (grammar, text, expected, column) in [
        (Either, "write", "expected KEYWORD=ACTION", 6),
        (Either, "=EIO:1%", "expected a keyword before =", 1),
        (Either, "wirte=EIO:1%", "unknown system call \"wirte\"; did you mean: write?", 1),
        (Expression, "wirte=deny(EIO)", "did you mean: write?", 1),
        (Either, "write=EIO", "a probability is required, as in EIO:100%", 10),
        (Either, "write=EIO:10", "bad probability \"10\"", 11),
        (Either, "write=EIO:101%", "bad probability \"101%\"", 11),
        (Either, "write=:10%", "unknown errno \"\"", 7),
        (Either, "write=delay:5:10%", "bad duration \"5\"", 13),
        (Either, "write=delay:5ms", "a probability is required", 16),
        (Either, "write=EIO:10%:nth=0", "nth= must be a whole number from 1", 15),
        (Either, "write=EIO:10%:data", "is neither a path", 15),
        (Either, "write=EIO:10%:/a[", "has a [ without ]", 15),
        (Either, "connect=EIO:10%:/a", "connect works on no file", 9),
        (Expression, "write=EIO:10%", "expected an action with parentheses", 7),
        (Files, "write=deny(EIO)", "takes the form with colons", 7),
        (Files, "chmod=EIO:1%", "unknown op \"chmod\"; there are open, read, write", 1),
        (Files, "write=EIO:1%", "say which files", 7),
        (Expression, "write=denny(EIO)", "did you mean: deny?", 7),
        (Expression, "write=deny()", "an errno is required, as in deny(EIO)", 12),
        (Expression, "write=delay()", "a duration is required", 13),
        (Expression, "write=returns(-1)", "must be a whole number from 0", 15),
        (Expression, "write=crash(KIL)", "did you mean: KILL?", 13),
        (Expression, "write=crash(CONT)", "does not end a process", 13),
        (Expression, "write=eof()", "eof() is for calls that read", 7),
        (Expression, "write=deny(EIO, nht=3)", "unknown argument \"nht\"; did you mean: nth?", 17),
        (Expression, "write=deny(EIO, to=db)", "to= needs the services of a spec", 17),
        (Expression, "write=deny(EIO, 3)", "expected NAME=VALUE", 17),
        (Expression, "write=deny(EIO, nth=1, nth=2)", "nth is given twice", 28),
        (Expression, "write=deny(EIO, nth=1, after=2)", "leave out after=", 30),
        (Expression, "write=deny(EIO, nth=x)", "must be a whole number from 1", 21),
        (Expression, "write=deny(EIO, probability=\"10\")", "bad probability", 29),
        (Expression, "write=deny(EIO, probability=1.5)", "bad probability", 29),
        (Expression, "write=deny(EIO, path=data)", "must be absolute", 22),
        (Expression, "write=deny(\"EIO", "this quote is never closed", 12),
        (Expression, "write=deny(EIO", "expected ) at the end", 15),
        (Expression, "write=deny(EIO, )x", "nothing may follow the )", 18),
        (Expression, "write=deny(EIO fsync)", "expected , or )", 16),
        (Expression, "write=deny(,)", "expected a value", 12),
        (Expression, "write=allow(nth=1)", "allow() takes no arguments", 13),
    ] {
        let error = error(grammar, text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.contains(&format!("(column {column})")), "{text}: {error}");
    }
}

#[test]
fn why_a_rule_never_fired_is_told() {
    let why =
        |text, matched| FaultOption::parse(Grammar::Either, text).unwrap().why_never_fired(matched);
    assert!(why("write=EIO:100%", 0).contains("no call matched"));
    assert!(why("write=EIO:100%:nth=5", 3).contains("only 3 calls matched, fewer than nth=5"));
    assert!(why("write=EIO:100%:after=3", 1).contains("only 1 call matched, and after=3"));
    assert!(why("write=EIO:1%", 9).contains("probability=1% spared each"));
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange_to_be_answered(text in ".{0,60}") {
        for grammar in [Grammar::Either, Grammar::Expression, Grammar::Files] {
            for text in [text.clone(), format!("write={text}"), format!("write=deny({text}")] {
                let _ = FaultOption::parse(grammar, &text).map_err(|error| error.to_string());
            }
        }
    }
}
