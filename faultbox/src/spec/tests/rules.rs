//! Mistakes in rules and globs, each with the text and the place that the user gets.

use super::{DB, call, load_error, reason, statement_error};

#[test]
fn durations_have_to_be_positive_and_to_have_a_unit() {
    for wrong in ["5", "0s", "-1s", "fast", "", "1h2"] {
        assert_eq!(
            statement_error(&format!("delay(\"{wrong}\")")),
            format!("delay(): bad duration \"{wrong}\"; use e.g. \"500ms\" or \"2s\"")
        );
    }
    assert_eq!(
        statement_error("delay()"),
        "delay(): a duration is required, as in delay(\"500ms\")"
    );
    assert_eq!(statement_error("delay(500)"), "delay(): duration must be a string, got int");
    assert_eq!(
        statement_error("delay(\"1s\", \"50%\")"),
        "delay(): one positional argument too many (string)"
    );
}

#[test]
fn returned_values_are_no_errors() {
    let hint = "to make a call fail use deny(), as in deny(\"EIO\")";
    for wrong in ["-5", "-1", "9223372036854775808"] {
        assert_eq!(
            statement_error(&format!("returns({wrong})")),
            format!("returns(): value must be from 0 to 9223372036854775807, got {wrong}; {hint}")
        );
    }
    assert_eq!(statement_error("returns()"), "returns(): a value is required, as in returns(0)");
    assert_eq!(statement_error("returns(True)"), "returns(): value must be an int, got bool");
    assert_eq!(statement_error("returns(\"0\")"), "returns(): value must be an int, got string");
}

#[test]
fn an_end_of_file_is_for_calls_that_read() {
    let only = "eof() is for calls that read (read, readv, pread64, preadv, preadv2, recvfrom, \
                recvmsg)";
    for (keyword, other) in [("write", "write"), ("recvmmsg", "recvmmsg"), ("persist", "write")] {
        assert_eq!(
            reason(&format!("fault_start(db, {keyword} = eof())")),
            format!(
                "fault_start(): {keyword}=: {only}, and {other} does not; to skip a call and \
                 report a value use returns()"
            )
        );
    }
    for keyword in ["read", "recvfrom", "preadv2"] {
        assert_eq!(super::run(&format!("fault_start(db, {keyword} = eof())")).0, Ok(None));
    }
    assert_eq!(statement_error("eof(0)"), "eof(): one positional argument too many (int)");
}

#[test]
fn signals_have_to_exist_and_to_end_a_process() {
    assert_eq!(
        statement_error("crash(\"SIGKIL\")"),
        "crash(): unknown signal \"SIGKIL\"; did you mean: KILL?"
    );
    assert_eq!(
        statement_error("crash(\"nonsense\")"),
        "crash(): unknown signal \"nonsense\"; use e.g. KILL, TERM or SEGV"
    );
    assert_eq!(
        statement_error("crash(\"STOP\")"),
        "crash(): SIGSTOP does not end a process; use e.g. KILL, TERM or SEGV"
    );
    assert_eq!(statement_error("crash(9)"), "crash(): signal must be a string, got int");
}

#[test]
fn counts_are_ints_from_one() {
    for (option, least) in [("nth", 1), ("after", 0), ("max_hits", 1)] {
        let wrong = |value: &str| statement_error(&format!("deny(\"EIO\", {option} = {value})"));
        let below = (least - 1).to_string();
        for value in [below.as_str(), "-7", "9223372036854775808"] {
            assert_eq!(
                wrong(value),
                format!("deny(): {option}= must be an int of at least {least}, got {value}")
            );
        }
        for (value, kind) in [("True", "bool"), ("\"3\"", "string"), ("1.0", "float")] {
            assert_eq!(wrong(value), format!("deny(): {option}= must be an int, got {kind}"));
        }
    }
    assert_eq!(
        statement_error("delay(\"1s\", nth = 3, after = 1)"),
        "delay(): nth= already says which match is hit; leave out after="
    );
}

#[test]
fn unknown_options_list_the_valid_ones() {
    let options = "probability, label, direction, to, nth, after, max_hits";
    for (call, own) in [
        ("deny(\"EIO\", ", "errno, "),
        ("delay(\"1s\", ", "duration, "),
        ("returns(0, ", "value, "),
        ("eof(", ""),
        ("crash(", "signal, "),
    ] {
        let name = call.split('(').next().unwrap();
        assert_eq!(
            statement_error(&format!("{call}times = 1)")),
            format!("{name}(): unknown keyword \"times\"; valid: {own}{options}")
        );
    }
}

#[test]
fn a_peer_is_another_service_and_has_connections() {
    assert_eq!(
        statement_error("deny(\"EIO\", to = \"db\")"),
        "deny(): to= must be a service, got string"
    );
    assert_eq!(
        reason("fault_start(db, connect = deny(\"EIO\", to = db))"),
        "fault_start(): connect=: to=db is the target itself; name the service that db dials, or \
         fault the services that dial db"
    );
    let with_cache = |rule: &str| {
        let source = format!(
            "{DB}cache = service(\"cache\", \"x\", interface(\"main\", \"tcp\", 6379),\n    \
             ops = {{\"wal\": op([\"write\"], path = \"/x\")}})\n\
             def test_x():\n    fault_start(cache, {rule})\n"
        );
        call(&source).0.unwrap_err().reason
    };
    for keyword in ["fsync", "openat", "accept4"] {
        assert_eq!(
            with_cache(&format!("{keyword} = deny(\"EIO\", to = db)")),
            format!(
                "fault_start(): {keyword}=: to= is for calls on connections, such as connect, \
                 read, write, sendto and recvfrom"
            )
        );
    }
    assert_eq!(
        with_cache("wal = deny(\"EIO\", to = db)"),
        "fault_start(): wal=: to= is about connections, and an op with path= is about files"
    );
    for direction in ["in", "both"] {
        assert_eq!(
            with_cache(&format!("connect = deny(\"EIO\", to = db, direction = \"{direction}\")")),
            "deny(): to= is about connections that the target opens; leave out direction=, or let \
             it be \"out\""
        );
    }
}

#[test]
fn globs_are_checked_where_they_are_written() {
    let example = "use e.g. path=\"/tmp/*.wal\"";
    for (glob, why) in [
        ("tmp/*.wal", "must be absolute: start it with / or **/"),
        ("/tmp/[a", "has a [ without ]; write \\[ to mean the character"),
        ("/tmp/[z-a]", "has a [] that matches nothing"),
    ] {
        let error = load_error(&format!("x = 1\nwal = op([\"write\"], path = \"{glob}\")\n"));
        assert_eq!(error, format!("a.star:2:7: op(): path= \"{glob}\" {why}; {example}"));
    }
    let long = format!("op([\"write\"], path = \"/{}\")", "x".repeat(500));
    let error = statement_error(&long);
    assert!(error.contains("has more than ") && error.len() < 300, "{error}");
    assert_eq!(
        statement_error("op([\"write\"], path = \"\")"),
        format!("op(): path= is empty; {example}")
    );
    assert_eq!(
        statement_error("op([\"write\"], path = 1)"),
        "op(): path= must be a string, got int"
    );
}

#[test]
fn a_path_needs_a_call_that_has_one() {
    assert_eq!(
        statement_error("op([\"connect\", \"sendto\"], path = \"/tmp/*\")"),
        "op(): path= needs a call that works on files, such as write, fsync or openat; these have \
         no path: connect, sendto, sendmsg"
    );
    for fine in ["fsync", "unlinkat", "mmap", "rename"] {
        super::load(&format!(
            "x = op([\"connect\", \"{fine}\"], path = \"/tmp/*\")\ndef test_x():\n    pass\n"
        ));
    }
}

#[test]
fn an_error_of_the_network_is_none_of_a_file() {
    let reason = |calls: &str, errno: &str| {
        let source = format!(
            "db = service(\"db\", \"x\", interface(\"main\", \"tcp\", 1),\n    \
             ops = {{\"wal\": op([{calls}], path = \"/x\")}})\n\
             def test_x():\n    fault_start(db, wal = deny(\"{errno}\"))\n"
        );
        call(&source).0.map_err(|failure| failure.reason)
    };
    assert_eq!(
        reason("\"fsync\", \"write\"", "ECONNRESET").unwrap_err(),
        "fault_start(): wal=: reading and writing files, which path= is about, never fails with \
         ECONNRESET; use e.g. EIO or ENOSPC"
    );
    assert_eq!(reason("\"openat\"", "ETIMEDOUT"), Ok(None), "some file systems are remote");
    assert_eq!(reason("\"write\"", "EIO"), Ok(None));
}

#[test]
fn errors_show_the_column_of_the_call() {
    assert_eq!(
        load_error("x = 1\ny = [deny(\"EIO\"),\n     delay(\"5\")]\n"),
        "a.star:3:6: delay(): bad duration \"5\"; use e.g. \"500ms\" or \"2s\""
    );
}
