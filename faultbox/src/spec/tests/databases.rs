//! Steps of databases, what they return, and `ready()`.

use std::time::Duration;

use super::{Recorder, call_with, load, statement_error};
use crate::spec::{Data, Healthcheck, Protocol};

const SERVICES: &str = "cache = service(\"cache\", \"x\", interface(\"main\", \"redis\", 6379))\n\
    db = service(\"db\", \"x\", interface(\"main\", \"postgres\", 5432))\n";

/// Runs an expression in a test whose databases answer with this.
fn run(data: Option<Data>, expression: &str) -> (Result<String, String>, Vec<String>) {
    let host = Recorder { data, ..Recorder::default() };
    let source = format!("{SERVICES}def test_x():\n    return {expression}\n");
    let (result, calls) = call_with(&source, host);
    let result = result.map(Option::unwrap_or_default).map_err(|failure| failure.reason);
    (result, calls)
}

/// What the host was asked for.
fn asked(step: &str) -> String {
    let (result, calls) = run(Some(Data::None), step);
    assert!(result.is_ok(), "{step}: {result:?}");
    calls.join(" ")
}

/// Why a step cannot be made.
fn refused(step: &str) -> String {
    let (result, calls) = run(Some(Data::None), step);
    assert_eq!(calls, [""; 0], "{step}");
    result.unwrap_err()
}

#[test]
fn steps_of_redis_are_its_commands() {
    for (step, command) in [
        ("get(key = \"cart\")", r#"["GET", "cart"]"#),
        ("set(key = \"cart\", value = \"a b\")", r#"["SET", "cart", "a b"]"#),
        ("set(key = \"cart\", value = 3)", r#"["SET", "cart", "3"]"#),
        ("set(key = \"\", value = -2.5)", r#"["SET", "", "-2.5"]"#),
        ("delete(key = \"cart\")", r#"["DEL", "cart"]"#),
        ("keys()", r#"["KEYS", "*"]"#),
        ("keys(pattern = \"c?rt\")", r#"["KEYS", "c?rt"]"#),
        ("ping()", r#"["PING"]"#),
        ("incr(key = \"n\")", r#"["INCR", "n"]"#),
        ("lpush(key = \"l\", value = \"x\")", r#"["LPUSH", "l", "x"]"#),
        ("rpush(key = \"l\", value = \"x\")", r#"["RPUSH", "l", "x"]"#),
        ("lrange(key = \"l\", start = 1, stop = -2)", r#"["LRANGE", "l", "1", "-2"]"#),
        ("lrange(key = \"l\")", r#"["LRANGE", "l", "0", "-1"]"#),
        ("command(cmd = \"DBSIZE\")", r#"["DBSIZE"]"#),
        ("command(cmd = \"HSET\", args = [\"h\", \"f g\", 1])", r#"["HSET", "h", "f g", "1"]"#),
    ] {
        assert_eq!(asked(&format!("cache.main.{step}")), format!("cache.main {command}"));
        assert_eq!(asked(&format!("cache.{step}")), format!("cache.main {command}"));
    }
}

#[test]
fn steps_of_postgres_say_what_and_as_whom() {
    assert_eq!(asked("db.query(sql = \"SELECT 1\")"), "db.main Rows \"SELECT 1\" []");
    let all = "db.main.exec(sql = \"X\", user = \"u\", password = \"p\", database = \"d\", \
               connstr = \"dbname=e\")";
    assert_eq!(asked(all), r#"db.main Count "X" ["u", "p", "d", "dbname=e"]"#);
}

#[test]
fn step_arguments_are_checked() {
    for (step, text) in [
        ("cache.get()", "cache.main.get(): key= is required, as in get(key=\"cart\")"),
        (
            "cache.get(\"cart\")",
            "cache.main.get(): arguments need their names, as in get(key=\"cart\")",
        ),
        ("cache.get(key = 1)", "cache.main.get(): key= must be a string, got int"),
        (
            "cache.get(kay = \"a\", key = \"b\")",
            "cache.main.get(): unknown keyword \"kay\"; valid: key",
        ),
        (
            "cache.set(key = \"a\")",
            "cache.main.set(): value= is required, as in set(key=\"cart\", value=\"3\")",
        ),
        (
            "cache.set(key = \"a\", value = [1])",
            "cache.main.set(): value= must be a string or a number, got list",
        ),
        (
            "cache.set(key = \"a\", value = True)",
            "cache.main.set(): value= must be a string or a number, got bool",
        ),
        (
            "cache.ping(key = \"a\")",
            "cache.main.ping(): unknown keyword \"key\"; it takes no arguments",
        ),
        (
            "cache.lrange(key = \"a\", start = \"0\")",
            "cache.main.lrange(): start= must be an int, got string",
        ),
        ("cache.lrange(key = \"a\", stop = 1 << 70)", "cache.main.lrange(): stop= is too large"),
        (
            "cache.command(args = [\"x\"])",
            "cache.main.command(): cmd= is required, as in command(cmd=\"CONFIG\", args=[\"GET\", \"maxmemory\"])",
        ),
        (
            "cache.command(cmd = \"SET a 1\")",
            "cache.main.command(): cmd= must be one word, got \"SET a 1\"; as in \
             command(cmd=\"CONFIG\", args=[\"GET\", \"maxmemory\"])",
        ),
        (
            "cache.command(cmd = \"DEL\", args = [None])",
            "cache.main.command(): args[0] must be a string or a number, got NoneType",
        ),
        (
            "cache.command(cmd = \"DEL\", args = \"a\")",
            "cache.main.command(): args= must be a list, got string",
        ),
        ("db.query()", "db.main.query(): sql= is required, as in query(sql=\"SELECT 1\")"),
        (
            "db.query(\"SELECT 1\")",
            "db.main.query(): arguments need their names, as in query(sql=\"SELECT 1\")",
        ),
        ("db.exec(sql = 1)", "db.main.exec(): sql= must be a string, got int"),
        ("db.exec(sql = \"a\\x00\")", "db.main.exec(): sql= contains a NUL character"),
        (
            "db.exec(sql = \"x\", user = \"a\\x00\")",
            "db.main.exec(): user= contains a NUL character",
        ),
        (
            "db.exec(sql = \"x\", db = \"d\")",
            "db.main.exec(): unknown keyword \"db\"; valid: sql, user, password, database, connstr",
        ),
        (
            "db.query(sql = \"x\", connstr = \"postgres://other:5432/d\")",
            "db.main.query(): connstr=: a step goes to its own interface; leave the host out",
        ),
        (
            "db.query(sql = \"x\", connstr = \"port=5433\")",
            "db.main.query(): connstr=: a step goes to its own interface, on port 5432, not 5433; \
             leave the port out",
        ),
        (
            "cache.query(sql = \"x\")",
            "cache.main (redis) has no method \"query\"; available: get, set, delete, keys, ping, \
             incr, lpush, rpush, lrange, command",
        ),
        ("db.get(key = \"x\")", "db.main (postgres) has no method \"get\"; available: query, exec"),
    ] {
        assert_eq!(refused(step), text);
    }
}

#[test]
fn an_answer_has_the_attributes_of_a_response() {
    let fields = "[r.ok, bool(r), r.data, r.body, r.error, r.status, r.headers, r.duration_ms]";
    let read = |data| run(data, &format!("(lambda r: {fields})(cache.ping())")).0.unwrap();
    let row = |n| Data::Map(vec![("n".to_owned(), Data::Int(n)), ("a".to_owned(), Data::None)]);
    assert_eq!(
        read(Some(Data::List(vec![row(7), row(i64::MAX)]))),
        "[True, True, [{\"n\": 7, \"a\": None}, {\"n\": 9223372036854775807, \"a\": None}], \
         \"[{\\\"n\\\":7,\\\"a\\\":null},{\\\"n\\\":9223372036854775807,\\\"a\\\":null}]\", \
         \"\", 0, {}, 8]"
    );
    assert_eq!(read(None), "[False, False, None, \"\", \"connection refused\", 0, {}, 8]");
    let data = Data::List(vec![Data::Bool(true), Data::Float(2.5), Data::Text("x".to_owned())]);
    assert_eq!(run(Some(data), "cache.ping().data").0.unwrap(), "[True, 2.5, \"x\"]");
}

#[test]
fn an_answer_shows_itself() {
    let value = Data::Map(vec![("value".to_owned(), Data::Text("a\nb".to_owned()))]);
    let shown = "response(ok=True, data={\"value\": \"a\\nb\"}, duration_ms=8)";
    assert_eq!(run(Some(value), "cache.ping()").0.unwrap(), shown);
    let (result, _) = run(None, "assert_true(cache.ping().ok, str(cache.ping()))");
    let shown = "response(ok=False, error=\"connection refused\", duration_ms=8)";
    assert_eq!(result, Err(format!("assert_true: {shown}")));
}

#[test]
fn judges_know_an_answer_that_failed() {
    let judged = |data, judge: &str| run(data, &format!("{judge}(cache.ping())")).0;
    assert!(judged(Some(Data::None), "expect_success()").is_ok());
    let failed = judged(None, "expect_success()").unwrap_err();
    assert!(failed.ends_with("(connection refused)"), "{failed}");
    assert!(judged(None, "expect_error_within(ms = 100)").is_ok());
    assert!(judged(Some(Data::None), "expect_error_within(ms = 100)").is_err());
}

/// The healthcheck of a service with two interfaces.
fn healthcheck(healthcheck: &str) -> String {
    format!(
        "service(\"db\", \"x\", interface(\"main\", \"redis\", 6379), interface(\"web\", \"http\", \
         8080), healthcheck = {healthcheck})"
    )
}

#[test]
fn ready_asks_the_first_interface_or_the_one_it_names() {
    let declared = |text: &str| {
        let declared = load(&format!("{}\ndef test_x():\n    pass\n", healthcheck(text)));
        declared.services[0].healthcheck.clone().unwrap()
    };
    let ready = |protocol, port, seconds| Healthcheck::Ready {
        protocol,
        port,
        timeout: Duration::from_secs(seconds),
    };
    assert_eq!(declared("ready()"), ready(Protocol::Redis, 6379, 30));
    assert_eq!(declared("ready(timeout = \"1m\")"), ready(Protocol::Redis, 6379, 60));
    assert_eq!(declared("ready(interface = \"web\")"), ready(Protocol::Http, 8080, 30));
}

#[test]
fn ready_names_an_interface_that_is_there() {
    for (wrong, text) in [
        (
            "ready(interface = \"wbe\")",
            "service(\"db\"): ready() names no interface of it: \"wbe\"; did you mean: web?",
        ),
        (
            "ready(interface = \"other\")",
            "service(\"db\"): ready() names no interface of it: \"other\"; available: main, web",
        ),
        ("ready(timeout = \"5\")", "ready(): bad duration \"5\"; use e.g. \"500ms\" or \"2s\""),
        ("ready(port = 1)", "ready(): unknown keyword \"port\"; valid: timeout, interface"),
    ] {
        assert_eq!(statement_error(&healthcheck(wrong)), text);
    }
}
