//! `load()`: what is shared, what is a test, and where errors are.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::spec::{Declarations, SpecFile, evaluate};

use super::{Recorder, on_thread};

/// A directory of one test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fb-load-{}-{number}", std::process::id()));
        for (name, source) in files {
            let file = path.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, source).unwrap();
        }
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root.star")
    }

    /// What the root declares, and what the host was asked for.
    fn load(&self) -> (Declarations, Vec<String>) {
        let (root, host) = (self.root(), Recorder::default());
        on_thread(move || {
            let declared = SpecFile::read(&root)
                .and_then(|file| evaluate(&file, &host, |it| it.declarations().clone()))
                .unwrap_or_else(|error| panic!("{error}"));
            (declared, host.calls())
        })
    }

    /// What a test of the root returns, evaluated anew, or why it fails and where.
    fn call(&self, test: &str) -> Result<Option<String>, String> {
        let (root, host) = (self.root(), Recorder::default());
        on_thread(move || {
            let file = SpecFile::read(&root).unwrap();
            let result = evaluate(&file, &host, |it| it.call(test)).unwrap();
            result.map_err(|failure| {
                let location = failure.location.map_or_else(String::new, |it| it.to_string());
                format!("{}: {}", self.shorten(&location), failure.reason)
            })
        })
    }

    /// The error of the root, with paths as if the directory were the current one.
    fn error(&self) -> String {
        let root = self.root();
        let result = on_thread(move || {
            SpecFile::read(&root).and_then(|it| evaluate(&it, &Recorder::default(), |_| ()))
        });
        self.shorten(&result.expect_err("it loads").to_string())
    }

    /// The place and text of the error, without the line.
    fn short_error(&self) -> String {
        self.error().lines().next().unwrap().to_owned()
    }

    fn shorten(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DB: &str = "db = service(\"db\", \"bin/mock-db\", interface(\"main\", \"tcp\", 5432))\n";

#[test]
fn services_functions_and_data_are_given_by_name_and_alias() {
    let folder = Folder::new(&[
        ("lib/db.star", &format!("{DB}PORT = 5432\ndef ask(): return db.send(data = \"PING\")\n")),
        (
            "root.star",
            "load(\n    \"lib/db.star\",\n    \"ask\",\n    \"db\",\n    port = \"PORT\",\n)\n\
             def test_ask(): return (ask(), db.name, port)\n",
        ),
    ]);
    let (declared, _) = folder.load();
    assert_eq!(declared.services.len(), 1);
    assert_eq!(declared.services[0].location.line, 1);
    assert!(declared.services[0].location.file.ends_with("lib/db.star"));
    assert_eq!(folder.call("test_ask").unwrap().unwrap(), "(\"PONG\", \"db\", 5432)");
}

#[test]
fn a_file_that_two_load_is_evaluated_once_and_shared() {
    let folder = Folder::new(&[
        ("base.star", &format!("print(\"once\")\n{DB}seen = []\n")),
        ("a.star", "load(\"base.star\", \"db\", \"seen\")\nseen.append(\"a\")\na = db\n"),
        ("sub/b.star", "load(\"../base.star\", \"db\", \"seen\")\nseen.append(\"b\")\nb = db\n"),
        (
            "root.star",
            "load(\"a.star\", \"a\", \"seen\")\nload(\"./sub/b.star\", \"b\")\n\
             def test_x(): return (a == b, seen)\n",
        ),
    ]);
    let (declared, calls) = folder.load();
    assert_eq!(declared.services.len(), 1);
    assert_eq!(calls, ["print once"]);
    assert_eq!(folder.call("test_x").unwrap().unwrap(), "(True, [\"a\", \"b\"])");
}

#[test]
fn globals_of_loaded_files_change_in_tests_and_start_over_with_each_evaluation() {
    let folder = Folder::new(&[
        ("lib.star", "state = {\"n\": 0}\ndef count():\n    state[\"n\"] += 1\n    return state\n"),
        (
            "root.star",
            "load(\"lib.star\", \"count\", \"state\")\ndef test_x():\n    count()\n    count()\n    \
             return state[\"n\"]\n",
        ),
    ]);
    assert_eq!(folder.call("test_x").unwrap().unwrap(), "2");
    assert_eq!(folder.call("test_x").unwrap().unwrap(), "2");
}

#[test]
fn each_file_has_names_of_its_own() {
    let folder = Folder::new(&[
        ("a.star", "BIN = \"a\"\ndef _own(): return BIN\ndef a(): return _own()\n"),
        (
            "b.star",
            "load(\"a.star\", \"a\")\nBIN = \"b\"\ndef _own(): return BIN + a()\nb = _own\n",
        ),
        (
            "root.star",
            "load(\"b.star\", \"a\", \"b\")\nBIN = \"root\"\ndef test_x(): return (a(), b(), BIN)\n",
        ),
    ]);
    assert_eq!(folder.call("test_x").unwrap().unwrap(), "(\"a\", \"ba\", \"root\")");
    let folder = Folder::new(&[
        ("a.star", "def a(): return BIN\n"),
        ("root.star", "load(\"a.star\", \"a\")\nBIN = 1\n"),
    ]);
    assert_eq!(
        folder.error(),
        "a.star:1:17: Variable `BIN` not found\n  def a(): return BIN\n                  ^"
    );
}

#[test]
fn a_load_stands_where_it_is_written() {
    let folder = Folder::new(&[
        ("lib.star", "print(\"lib\")\nx = 1\n"),
        ("root.star", "print(\"before\"); load(\"lib.star\", \"x\"); print(\"after\", x)\n"),
    ]);
    assert_eq!(folder.load().1, ["print before", "print lib", "print after 1"]);
}

#[test]
fn everything_that_a_file_may_have_at_its_top_level_is_kept() {
    let folder = Folder::new(&[
        (
            "lib.star",
            "\"\"\"What\nit is.\"\"\"\n\ntext = \"\"\"one\n  two\n\"\"\"\n\
             numbers = [\n1,\n  2]\ntotal = 0\nfor n in numbers:\n    total += n\n\
             if total > 2:\n    big = True\nelse:\n    small = True\n(p, [q]) = (1, [2])\n\
             # the end",
        ),
        (
            "root.star",
            "load(\"lib.star\", \"big\", \"text\", \"total\", \"n\", \"p\", \"q\")\n\
             def test_x(): return (big, text, total, n, p, q)\n",
        ),
    ]);
    let expected = "(True, \"one\\n  two\\n\", 3, 2, 1, 2)";
    assert_eq!(folder.call("test_x").unwrap().unwrap(), expected);
    fs::write(folder.root(), "x = 1\nload(\"lib.star\", \"small\")\n").unwrap();
    let error = folder.short_error();
    assert!(error.starts_with("root.star:2:"), "{error}");
    assert!(error.ends_with(": lib.star gives \"small\" no value when it is evaluated"), "{error}");
}

#[test]
fn errors_name_the_place_in_the_file_that_has_them() {
    for (lib, expected) in [
        ("x = 1\nx = = 2\n", "lib.star:2:5: "),
        ("x = 1\n  y = 2\n", "lib.star:2:"),
        ("x = 1\nreturn x\n", "lib.star:2:1: "),
        ("x = 1\nif x:\n    y = deny(\"EIOO\")\n", "lib.star:3:9: deny(): unknown errno \"EIOO\""),
        ("x = [\n  1,\n  deny(\"EIOO\")]\n", "lib.star:3:3: deny(): unknown errno"),
        ("x = ('''a\nb''', deny(\"EIOO\"))\n", "lib.star:2:7: deny(): unknown errno"),
        ("x = 1\ny = nobody\n", "lib.star:2:5: Variable `nobody` not found"),
        ("x = 1\nfail(\"no\")\n", "lib.star:2:1: no"),
        (DB, "root.star:2:6: service \"db\" declared twice (lib.star:1, root.star:2)"),
    ] {
        let root =
            format!("load(\"lib.star\", y = \"{}\")\n{DB}", if lib == DB { "db" } else { "x" });
        let folder = Folder::new(&[("lib.star", lib), ("root.star", &root)]);
        let error = folder.short_error();
        assert!(error.starts_with(expected), "{lib:?}: {error}");
    }
    let folder = Folder::new(&[
        ("lib.star", "def check():\n    assert_eq(1, 2)\n"),
        ("root.star", "load(\"lib.star\", \"check\")\ndef test_x(): check()\n"),
    ]);
    assert_eq!(folder.call("test_x").unwrap_err(), "lib.star:2:5: assert_eq: 1 != 2");
}

#[test]
fn an_error_shows_the_line_of_its_file() {
    let folder = Folder::new(&[
        ("lib.star", "if True:\n    x = delay(\"5\")\n"),
        ("root.star", "load(\"lib.star\", \"x\")\n"),
    ]);
    assert_eq!(
        folder.error(),
        "lib.star:2:9: delay(): bad duration \"5\"; use e.g. \"500ms\" or \"2s\"\n      \
         x = delay(\"5\")\n          ^"
    );
}

#[test]
fn what_cannot_be_loaded_is_an_error_at_the_statement() {
    let folder = Folder::new(&[
        ("lib.star", "db_down = 1\n_own = 2\n"),
        ("circle.star", "x = 1\nload(\"sub/back.star\", \"y\")\n"),
        ("sub/back.star", "load(\"../circle.star\", \"x\")\ny = 1\n"),
        ("latin.star", "x = 1\n"),
    ]);
    fs::write(folder.0.join("latin.star"), b"x = '\xe9'\n").unwrap();
    for (root, expected) in [
        (
            "x = 1\nload(\"none.star\", \"y\")\n",
            "root.star:2:6: load(\"none.star\"): cannot read none.star: No such file or directory",
        ),
        (
            "load(\"sub\", \"y\")\n",
            "root.star:1:6: load(\"sub\"): sub: cannot read the spec: Is a directory",
        ),
        (
            "load(\"lib.star\", \"db_down\",\n  \"db_dwn\")\n",
            "root.star:2:3: lib.star has no global \"db_dwn\"; did you mean: db_down?",
        ),
        (
            "load(\"lib.star\", \"_own\")\n",
            "root.star:1:18: \"_own\" is private to lib.star, because of its leading underscore",
        ),
        (
            "load(\"circle.star\", \"x\")\n",
            "sub/back.star:1:6: circular load(): circle.star -> sub/back.star -> circle.star",
        ),
        ("load(\"root.star\", \"x\")\n", "root.star:1:6: circular load(): root.star -> root.star"),
        (
            "load(\"@faultbox/mocks/http.star\", \"x\")\n",
            "root.star:1:6: load(\"@faultbox/mocks/http.star\"): names with @ are reserved for \
             files that come with faultbox, and this version has none; give a path relative to \
             this file",
        ),
        ("load(\"latin.star\", \"x\")\n", "latin.star:1:6: not UTF-8: byte 0xe9"),
        ("def f():\n    load(\"lib.star\", \"db_down\")\n", "root.star:2:5: "),
    ] {
        fs::write(folder.root(), root).unwrap();
        let error = folder.short_error();
        assert!(error.starts_with(expected), "{root:?}:\n{error}\n{expected}");
    }
}

#[test]
fn loaded_files_are_as_bounded_as_the_spec() {
    let deep = format!("x = {}1{}\n", "(".repeat(10_000), ")".repeat(10_000));
    let folder = Folder::new(&[("lib.star", &deep), ("root.star", "load(\"lib.star\", \"x\")\n")]);
    assert!(folder.short_error().contains("lib.star:1:"), "{}", folder.short_error());
    assert!(folder.short_error().contains("expression nests too deep"));
    let folder =
        Folder::new(&[("lib.star", "x = 1\n"), ("root.star", "load(\"lib.star\", \"x\")\n")]);
    fs::write(folder.0.join("lib.star"), vec![b'#'; (8 << 20) + 1]).unwrap();
    assert_eq!(
        folder.short_error(),
        "root.star:1:6: load(\"lib.star\"): lib.star: larger than 8 MiB; is it a spec?"
    );
    // The longest possible chain loads; one more file is too many.
    for (count, fits) in [(256, true), (257, false)] {
        let mut files = vec![("f0.star".to_owned(), "x = 0\n".to_owned())];
        files.extend((1..count).map(|i| {
            let source = format!("load(\"f{}.star\", y = \"x\")\nx = y + 1\n", i - 1);
            (format!("f{i}.star"), source)
        }));
        let root = format!("load(\"f{}.star\", \"x\")\ndef test_x(): return x\n", count - 1);
        files.push(("root.star".to_owned(), root));
        let files: Vec<_> = files.iter().map(|(name, source)| (&**name, &**source)).collect();
        let folder = Folder::new(&files);
        if fits {
            assert_eq!(folder.call("test_x").unwrap().unwrap(), "255");
        } else {
            let error = folder.short_error();
            assert!(error.ends_with("one spec cannot load more than 256 files"), "{error}");
        }
    }
}

#[test]
fn only_what_the_spec_itself_declares_becomes_a_test() {
    let folder = Folder::new(&[
        (
            "lib.star",
            "def test_a(): pass\ndef test_b(): pass\ndef flow(): pass\nscenario(flow)\n\
             scenario(test_b)\n",
        ),
        ("one.star", "def test_one(): pass\n"),
        (
            "root.star",
            "load(\"lib.star\", \"flow\", \"test_a\")\nload(\"one.star\", \"test_one\")\n\
             load(\"lib.star\", \"test_b\")\n\
             def test_b(): pass\ndef test_c(): pass\n",
        ),
    ]);
    let (declared, calls) = folder.load();
    let tests: Vec<_> = declared.tests.iter().map(|it| &*it.name).collect();
    assert_eq!(tests, ["test_b", "test_c"]);
    assert!(declared.scenarios.is_empty());
    let calls: Vec<_> = calls.iter().map(|it| folder.shorten(it)).collect();
    assert_eq!(
        calls,
        [
            "print note: 3 tests declared in lib.star not run",
            "print note: 1 test declared in one.star not run",
        ]
    );
    // Whoever has a scenario from elsewhere may declare it.
    fs::write(folder.root(), "load(\"lib.star\", \"flow\")\nscenario(flow)\n").unwrap();
    let names: Vec<_> = folder.load().0.scenarios.into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["flow"]);
}

#[test]
fn calls_that_only_a_loaded_file_mentions_are_mentioned() {
    let folder = Folder::new(&[
        ("lib.star", "calls = [\"msync\"]\n"),
        ("root.star", "load(\"lib.star\", \"calls\")\nx = \"fdatasync\"\n"),
    ]);
    let file = SpecFile::read(Path::new(&folder.root())).unwrap();
    let mut names: Vec<_> = file.mentioned_syscalls().iter().map(|it| it.name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["fdatasync", "msync"]);
}

/// A file means the same when it is loaded, down to the places of its declarations.
#[test]
fn the_example_specs_declare_the_same_when_they_are_loaded() {
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("specs");
    let mut count = 0;
    for folder in ["tutorial", "servers", "domain"] {
        for entry in fs::read_dir(specs.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_spec = path.extension().is_some_and(|it| it == "star");
            // It is wrong on purpose.
            if !is_spec || path.ends_with("cycle.star") {
                continue;
            }
            let (variables, direct) = on_thread(|| {
                let file = SpecFile::read(&path).unwrap();
                let host = Recorder::default();
                evaluate(&file, &host, |it| (it.service_variables(), it.declarations().clone()))
                    .unwrap()
            });
            let Some((variable, _)) = variables.first() else {
                continue;
            };
            let root = format!("load({:?}, {variable:?})\n", path.to_str().unwrap());
            let folder = Folder::new(&[("root.star", &root)]);
            let (loaded, notes) = folder.load();
            assert_eq!(loaded.services, direct.services);
            assert!(loaded.tests.is_empty(), "{}", path.display());
            assert!(direct.tests.is_empty() || !notes.is_empty(), "{notes:?}");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} specs");
}

#[test]
fn statements_that_share_a_line_may_load() {
    let folder = Folder::new(&[
        ("base.star", "a = 1; b = 2\n"),
        ("lib.star", "c = 3; load(\"base.star\", \"a\"); d = a + c; load(\"base.star\", \"b\")\n"),
        (
            "root.star",
            "load(\"base.star\", \"a\"); load(\"base.star\", \"b\");\n\
             x = 1; load(\"lib.star\", \"c\", \"d\", e = \"b\")\n\
             def test_x(): return (a, b, c, d, e, x)\n",
        ),
    ]);
    assert_eq!(folder.call("test_x").unwrap().unwrap(), "(1, 2, 3, 4, 2, 1)");
    let wrong = Folder::new(&[
        ("base.star", "a = 1\n"),
        ("root.star", "x = 1; load(\"base.star\", \"b\")\ndef test_x(): pass\n"),
    ]);
    assert_eq!(
        wrong.short_error(),
        "root.star:1:26: base.star has no global \"b\"; did you mean: a?"
    );
}

#[test]
fn what_ends_the_evaluation_is_not_said_to_be_a_missing_value() {
    let folder = Folder::new(&[
        ("lib.star", "a = 1; b = 2\n"),
        (
            "root.star",
            "load(\"lib.star\", \"a\")\nx = \"12345678\" * (65 << 20)\nload(\"lib.star\", \"b\")\n\
             def test_x(): pass\n",
        ),
    ]);
    let error = folder.short_error();
    assert!(error.ends_with(": the spec's values take more than 512 MiB"), "{error}");
}
