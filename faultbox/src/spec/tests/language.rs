//! What of Starlark specs rely on.

use super::{Recorder, evaluate, file, load_error, on_thread, run};

/// Calls several tests of one evaluation and returns what each gave.
fn call_all(source: &str, tests: &[&str]) -> Vec<Option<String>> {
    on_thread(|| {
        let host = Recorder::default();
        let call = |it: &mut super::super::Loaded<'_, '_, '_>| {
            tests.iter().map(|test| it.call(test).unwrap()).collect()
        };
        evaluate(&file(source).unwrap(), &host, call).unwrap()
    })
}

const COUNTER: &str = "seen = {\"n\": 0}\norder = []\n\
    def count():\n    seen[\"n\"] += 1\n    order.append(seen[\"n\"])\n    return seen[\"n\"]\n\
    def test_a():\n    return count()\ndef test_b():\n    return count()\n";

#[test]
fn globals_can_be_changed_by_tests() {
    let expected = [Some("1".to_owned()), Some("2".to_owned())];
    assert_eq!(call_all(COUNTER, &["test_a", "test_b"]), expected);
}

#[test]
fn every_evaluation_starts_afresh() {
    for _ in 0..3 {
        assert_eq!(call_all(COUNTER, &["test_b"]), [Some("1".to_owned())]);
    }
    // One file evaluated twice, too, and on two threads.
    let file = file(COUNTER).unwrap();
    for _ in 0..2 {
        let result = on_thread(|| {
            evaluate(&file, &Recorder::default(), |it| it.call("test_a").unwrap()).unwrap()
        });
        assert_eq!(result, Some("1".to_owned()));
    }
}

#[test]
fn functions_are_keys() {
    let lines = "def f():\n    pass\nf2 = f\ng = lambda: 1\nh = lambda: 1\n\
                 d = {(f, db): 1, g: 2, h: 3, len: 4}\n\
                 return [d[(f2, db)], d[g], d[h], d[len], len(d)]";
    assert_eq!(run(lines).0, Ok(Some("[1, 2, 3, 4, 4]".to_owned())));
}

#[test]
fn closures_nest_and_keep_their_variables() {
    let lines = "def outer(n):\n    box = [n]\n    def add(k):\n        box[0] += k\n        \
                 return lambda: box[0]\n    return add\n\
                 a = outer(1)\nb = outer(10)\na(1)\nreturn [a(1)(), b(1)()]";
    assert_eq!(run(lines).0, Ok(Some("[3, 11]".to_owned())));
}

#[test]
fn statements_at_the_top_level_and_docstrings_are_allowed() {
    let source = "\"\"\"A spec.\"\"\"\nx = []\nfor i in range(3):\n    if i % 2 == 0:\n        x.append(i)\n\
                  def test_a():\n    \"\"\"Doc.\"\"\"\n    return [\"%s-%d\" % (\"a\", 1), x, {k: v for k, v in [(1, 2)]}]\n";
    assert_eq!(call_all(source, &["test_a"]), [Some("[\"a-1\", [0, 2], {1: 2}]".to_owned())]);
}

#[test]
fn the_standard_functions_are_there() {
    let lines = "return [len([1]), str(1), int(\"2\"), float(1), list((1,)), dict(a = 1), tuple([1]), \
                 list(range(2)), sorted([2, 1]), min(1, 2), max([1, 2]), enumerate([\"a\"]), zip([1], [2]), \
                 any([0, 1]), all([]), hasattr(db, \"x\"), getattr(db, \"name\"), type(1), repr(\"a\"), \
                 reversed([1, 2]), struct(a = 1).a, bool(\"\"), \"a\" in \"abc\", json.encode({\"a\": 1}), \
                 json.decode(\"[1]\")]";
    assert_eq!(
        run(lines).0.unwrap().unwrap(),
        "[1, \"1\", 2, 1.0, [1], {\"a\": 1}, (1,), [0, 1], [1, 2], 1, 2, [(0, \"a\")], [(1, 2)], \
         True, True, False, \"db\", \"int\", \"\\\"a\\\"\", [2, 1], 1, False, True, \"{\\\"a\\\":1}\", [1]]"
    );
}

#[test]
fn print_goes_to_the_host_in_one_line() {
    let (_, calls) = run("print(\"a\", 1, [None])");
    assert_eq!(calls, ["print a 1 [None]"]);
}

#[test]
fn what_is_not_in_the_language_is_refused() {
    for (source, text) in [
        ("import os\n", "a.star:1:1: "),
        ("class A:\n    pass\n", "a.star:1:1: "),
        ("x = f\"{y}\"\n", "a.star:1:5: "),
        ("def f(x: int):\n    pass\n", "a.star:1:"),
        ("while True:\n    pass\n", "a.star:1:1: "),
        ("x.del()\n", "a.star:1:3: "),
        ("x = (1,\n", "a.star:"),
        ("x = 'a\n", "a.star:1:5: "),
        ("def f():\npass\n", "a.star:2:1: "),
        ("x = y\n", "a.star:1:5: Variable `y` not found"),
    ] {
        let error = load_error(source);
        assert!(error.starts_with(text), "{source:?}: {error}");
    }
}

#[test]
fn line_ends_of_other_systems_are_fine() {
    let source = "\u{feff}x = 1\r\ndef test_a():\r\n    return x\r\n";
    assert_eq!(call_all(source, &["test_a"]), [Some("1".to_owned())]);
}
