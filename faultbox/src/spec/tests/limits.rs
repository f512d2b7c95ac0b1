//! Input that is hostile or broken: one clear error each, and never a crash or a hang.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    Recorder, call_with, evaluate, file, load, load_error, on_thread, reason, test, try_load,
};
use crate::spec::{FailureKind, SpecFile};

const TESTS: &str = "def test_x():\n    pass\n";

/// A test of these lines that is to end after 200 ms.
fn with_deadline(lines: &str) -> crate::spec::TestFailure {
    let started = Instant::now();
    let failure =
        call_with(&test(lines), Recorder::with_deadline(Duration::from_millis(200))).0.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5), "{lines}");
    failure
}

#[test]
fn a_test_that_loops_for_ever_times_out() {
    for lines in [
        "for i in range(2000000000):\n    pass",
        "[i for i in range(2000000000)]",
        "def f():\n    for i in range(2000000000):\n        db.main.send(data = \"x\")\n\
         fault(db, write = deny(\"EIO\"), run = f)",
        "def f(n):\n    for i in range(100):\n        if n > 0:\n            f(n - 1)\nf(900)",
    ] {
        let failure = with_deadline(lines);
        assert_eq!(
            (&*failure.reason, failure.kind),
            ("timed out", FailureKind::Timeout),
            "{lines}"
        );
    }
}

#[test]
fn a_deadline_within_a_step_ends_the_test_at_once() {
    for lines in [
        "db.main.send(data = \"x\")\nprint(1)",
        "db.main.send(data = \"x\")",
        "def f():\n    assert_eq(db.main.send(data = \"x\"), 1)\nf()\nprint(1)",
    ] {
        let host = Recorder { ends_at_step: true, ..Recorder::default() };
        let (result, calls) = call_with(&test(lines), host);
        let failure = result.unwrap_err();
        assert_eq!((&*failure.reason, failure.kind), ("timed out", FailureKind::Timeout));
        assert_eq!(calls, ["db.main send \"x\""]);
    }
}

#[test]
fn faults_are_lifted_after_a_deadline() {
    let host = Recorder { ends_at_step: true, ..Recorder::default() };
    let lines = "fault(db, write = deny(\"EIO\"), run = lambda: db.main.send(data = \"x\"))";
    let (result, calls) = call_with(&test(lines), host);
    assert_eq!(result.unwrap_err().kind, FailureKind::Timeout);
    assert_eq!(calls, ["on 0 db write=deny(EIO)", "db.main send \"x\"", "off 0"]);
}

#[test]
fn a_file_that_loops_for_ever_is_stopped() {
    let source = format!("for i in range(2000000000):\n    pass\n{TESTS}");
    let error = on_thread(|| {
        let host = Recorder::with_deadline(Duration::from_millis(200));
        evaluate(&file(&source).unwrap(), &host, |_| ()).unwrap_err()
    });
    assert_eq!(error.text, "a.star: stopped before it was evaluated to its end");
}

#[test]
fn endless_recursion_is_an_error() {
    let endless = "more than 1000 calls inside each other; is the recursion endless?";
    assert_eq!(reason("def f():\n    f()\nf()"), endless);
    assert_eq!(reason("f = lambda g: g(g)\nf(f)"), endless);
    assert_eq!(reason("def f():\n    fault(db, write = deny(\"EIO\"), run = f)\nf()"), endless);
    assert_eq!(reason("def f(x):\n    return sorted([2, 1], key = f)\nf(1)"), endless);
    assert_eq!(load_error("def f():\n    f()\nf()\n"), format!("a.star:2:5: {endless}"));
}

#[test]
fn recursion_that_ends_is_fine() {
    let source =
        format!("def f(n):\n    return 0 if n == 0 else 1 + f(n - 1)\nx = f(900)\n{TESTS}");
    load(&source);
}

#[test]
fn memory_is_bounded() {
    let lines = "x = []\nfor i in range(2000000000):\n    x.append(\"abcdefgh\" * 1000 + str(i))";
    assert_eq!(reason(lines), "the spec's values take more than 512 MiB");
}

#[test]
fn nesting_at_the_bound_is_fine_and_beyond_it_an_error() {
    let parentheses = |n: usize| format!("x = {}1{}\n{TESTS}", "(".repeat(n), ")".repeat(n));
    load(&parentheses(990));
    assert_eq!(load_error(&parentheses(100_000)), "a.star:1:1003: expression nests too deep");
    for (left, right) in [
        ("[", "]"),
        ("not ", ""),
        ("-", ""),
        ("lambda: ", ""),
        ("[0] + [", "]"),
        ("len(", ")"),
        ("1 if 1 else ", ""),
        ("{1: ", "}"),
    ] {
        let n = 240;
        let source = |n: usize| {
            format!("def f():\n    return {}1{}\n{TESTS}", left.repeat(n), right.repeat(n))
        };
        // It compiles; what it would mean does not matter.
        load(&source(n));
        assert!(load_error(&source(100_000)).ends_with("nests too deep"), "{left}");
    }
    load(&format!("x = 0{}\n{TESTS}", " + 1".repeat(450)));
    let blocks = |n: usize| {
        let lines = (0..n).fold(String::new(), |lines, i| lines + &" ".repeat(i) + "if 1:\n");
        format!("{lines}{}pass\n{TESTS}", " ".repeat(n))
    };
    load(&blocks(90));
    assert!(load_error(&blocks(1000)).ends_with("block nests too deep"));
    let elif =
        |n: usize| format!("x = 0\nif x:\n    pass\n{}{TESTS}", "elif x:\n    pass\n".repeat(n));
    load(&elif(500));
    assert!(load_error(&elif(100_000)).ends_with("too many elif"));
}

#[test]
fn deep_values_are_an_error_or_fine() {
    // Equality is bounded by the evaluator.
    let lines =
        "a = []\nb = []\nfor i in range(100000):\n    a = [a]\n    b = [b]\nassert_eq(a, b)";
    assert!(reason(lines).contains("recursion"), "{}", reason(lines));
    assert_eq!(reason("a = []\na.append(a)\nassert_eq(a, 1)"), "assert_eq: [[...]] != 1");
}

#[test]
fn long_texts_are_not_repeated() {
    for source in [
        format!("deny(\"{}\")\n", "E".repeat(10_000)),
        format!("interface(\"m\", \"{}\", 1)\n", "E".repeat(10_000)),
        format!("tcp(\"{}\")\n", "E".repeat(10_000)),
        format!("op([\"{}\"])\n", "E".repeat(10_000)),
        format!("deny(\"EIO\", {} = 1)\n", "E".repeat(10_000)),
        format!("deny(\"EIO\", probability = \"{}\")\n", "E".repeat(10_000)),
        format!("interface(\"m\", \"tcp\", 1{})\n", "0".repeat(10_000)),
        format!("interface(\"{}\", \"tcp\", 1)\n", "a".repeat(10_000)),
    ] {
        let error = try_load(&source).unwrap_err().to_string();
        assert!(error.chars().count() < 500, "{error}");
    }
}

#[test]
fn a_file_that_is_not_text_is_an_error() {
    let error = SpecFile::new("a.star".to_owned(), b"x = 1\ny = '\xff'\n".to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "a.star:2:6: not UTF-8: byte 0xff\n  y = '\u{fffd}'\n       ^");
    for bytes in [&b"\xff\xfe"[..], b"\x7fELF\x02\x01\x01\0\0\xff", b"\xc3"] {
        assert!(SpecFile::new("a.star".to_owned(), bytes.to_vec()).is_err());
    }
    assert!(load_error("x = \0\n").starts_with("a.star:1:5: "));
}

#[test]
fn files_that_cannot_be_read_are_errors() {
    let read = |path: &str| SpecFile::read(Path::new(path)).unwrap_err().to_string();
    assert_eq!(
        read("/nonexistent.star"),
        "/nonexistent.star: cannot read the spec: No such file or directory"
    );
    assert_eq!(read("/tmp"), "/tmp: cannot read the spec: Is a directory");
    assert_eq!(read("/dev/zero"), "/dev/zero: larger than 8 MiB; is it a spec?");
}

#[test]
fn a_file_is_read_and_knows_its_words() {
    let path = std::env::temp_dir().join(format!("faultbox-spec-{}.star", std::process::id()));
    fs::write(&path, format!("x = {{\"msync\": deny}}  # statfs\n{TESTS}")).unwrap();
    let file = SpecFile::read(&path);
    fs::remove_file(&path).unwrap();
    let file = file.unwrap();
    assert_eq!(file.path(), path.display().to_string());
    let names: Vec<_> = file.mentioned_syscalls().iter().map(|it| it.name()).collect();
    assert_eq!(names, ["msync"]);
}
