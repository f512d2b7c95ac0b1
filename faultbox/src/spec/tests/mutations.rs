//! Specs that are almost right: whatever is wrong with them, it is said and not a panic.

use std::time::{Duration, Instant};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, TestRunner},
};

use super::{Recorder, evaluate, file, on_thread};
use crate::spec::{Loaded, Location, file::location, file::parse, layout, scan::Scan};

/// A spec that uses everything there is.
const SPEC: &str = r#"
db = service("db", "bin/db", interface("main", "tcp", 5432), ops = {"persist": op(["write"], path = "/tmp/*.wal")})
api = service("api", "x", interface("a", "http", 1), interface("b", "tcp", 2), args = ["x"],
    env = {"DB": db.main.addr}, depends_on = [db, "db"], healthcheck = http("a:1/x", timeout = "1s"))
def test_x():
    def work():
        return api.a.get(path = "/x", headers = {"k": "v"})
    r = fault(db, write = deny("EIO", probability = "30%", label = "l"), run = work)
    fault_start(db, persist = deny("EIO", probability = 0.5), read = allow(), include_driver = True)
    fault_start(api, connect = delay("1ms", to = db, after = 1, max_hits = 2), read = eof(nth = 1))
    fault_start(api, fsync = returns(0, nth = 3), openat = crash("TERM", direction = None))
    fault_stop(db)
    print(db.send(data = "x"), "%s" % db, [x for x in r.data if x], json.encode(r.headers))
    assert_eq(r.status, 200, "m")
    assert_true(r, msg = "m")
    fail("a", 1)
def probe():
    return api.a.get()
scenario(probe)
down = fault_assumption("down", target = db, connect = deny("EIO"), description = "d", monitors = [])
both = fault_assumption("both", target = api, faults = [down], include_driver = True, read = eof())
fault_scenario("s", scenario = probe, faults = [down, both], expect = expect_hang(), timeout = "1s")
fault_matrix(scenarios = [probe], faults = [down, both], default_expect = expect_error_within(ms = 5),
    overrides = {(probe, both): lambda r: assert_true(r.ok)}, exclude = [(probe, down)], require_faults_fire = True)
def test_y():
    sleep("1ms")
    fault(both, run = probe)
    return fault_all([db, api], write = delay("1ms"), run = lambda: duration("1us"))
"#;

/// What takes the place of tokens or comes between them.
const WORDS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    "=",
    ":",
    ".x",
    "-",
    "+",
    "|",
    "%",
    "#",
    "'",
    "\"\"\"",
    "\\",
    "\n",
    "\n    ",
    "\0",
    "é",
    "\"\"",
    "\"x\"",
    "\"\\x00\"",
    "0",
    "-1",
    "1.5",
    "None",
    "True",
    "db",
    "api.a",
    "r",
    "deny(\"EIO\")",
    "delay(\"1s\")",
    "returns(-1)",
    "crash()",
    "eof()",
    "to",
    "nth",
    "allow()",
    "lambda: 1",
    "lambda x: x",
    "op([\"write\"])",
    "tcp(\"a:1\")",
    "interface(\"q\", \"tcp\", 3)",
    "*[1]",
    "**{\"a\": 1}",
    "if",
    "else",
    "for",
    "in",
    "not",
    "def",
    "return",
    "struct(a = 1)",
    "[].append",
    "print",
    "fail",
    "service",
    "sorted",
    "partial(fail, 1)",
    "fault",
    "delay",
    "[[]]",
    "set([1])",
    "test_x",
    "work",
    "probe",
    "down",
    "scenario(probe)",
    "expect_success()",
    "(probe, both)",
];

/// One change: where, how, and with what.
fn change() -> impl Strategy<Value = (Index, u8, &'static str)> {
    (any::<Index>(), 0..3_u8, select(WORDS))
}

fn apply(changes: &[(Index, u8, &str)]) -> String {
    let mut starts: Vec<usize> = Scan::new(SPEC).map(|(at, _)| at).collect();
    starts.push(SPEC.len());
    let mut tokens: Vec<String> =
        starts.windows(2).map(|pair| SPEC[pair[0]..pair[1]].to_owned()).collect();
    for (at, how, word) in changes {
        let at = at.index(tokens.len());
        match how {
            0 => tokens[at].clear(),
            1 => tokens[at] = format!("{word} "),
            _ => tokens[at] += word,
        }
    }
    tokens.concat()
}

#[test]
fn nothing_that_is_almost_a_spec_makes_it_panic() {
    on_thread(|| {
        let mut runner =
            TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
        let changes = prop::collection::vec(change(), 1..4);
        let result = runner.run(&changes, |changes| {
            let host = Recorder {
                body: Some("{\"a\": 1}".to_owned()),
                deadline: Some(Instant::now() + Duration::from_millis(500)),
                ..Recorder::default()
            };
            let call_all = |it: &mut Loaded<'_, '_, '_>| {
                for test in it.declarations().tests.clone() {
                    // Most fail, one way or another.
                    let _ = it.call(&test.name);
                }
            };
            let result = file(&apply(&changes)).and_then(|file| evaluate(&file, &host, call_all));
            if let Err(error) = result {
                prop_assert!(!error.to_string().is_empty());
            }
            // Whatever was switched on is off again.
            let calls = host.calls();
            let count = |word: &str| calls.iter().filter(|it| it.starts_with(word)).count();
            prop_assert_eq!(count("on "), count("off "));
            Ok(())
        });
        result.unwrap();
    });
}

/// Whatever can be parsed can be parsed as a loaded file, too, with each statement at its place.
#[test]
fn being_loaded_moves_no_statement() {
    let places = |path: &str, text: &str| -> Option<Vec<Location>> {
        let module = parse(path, text, text).ok()?;
        Some(module.stmt_locations().iter().map(location).collect())
    };
    on_thread(|| {
        let mut runner =
            TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
        let changes = prop::collection::vec(change(), 0..4);
        let count = std::cell::Cell::new(0);
        let result = runner.run(&(changes, 0..3_usize), |(changes, repeat)| {
            let strings = "x = '''a\n b'''; y = \"\"\"\n\"\"\"; z = (\n1)\n".repeat(repeat);
            let source = format!("{strings}{}", apply(&changes));
            let Some(direct) = places("a.star", &source) else {
                return Ok(());
            };
            let text = layout::wrapped(&source, &["db".to_owned()].into(), "__l");
            let loaded = places(&layout::marked("a.star"), &text);
            // The function around it comes before, its return and its name behind it.
            let middle = loaded.as_ref().map(|it| &it[1..it.len() - 2]);
            prop_assert_eq!(middle, Some(&*direct), "{}", text);
            count.set(count.get() + 1);
            Ok(())
        });
        result.unwrap();
        assert!(count.get() > 100, "only {} could be parsed", count.get());
    });
}
