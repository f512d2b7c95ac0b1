//! Every spec of `specs/bad`, against what its first lines say must come out.

use std::fs;

use super::project::{Place, root};

/// What a spec's comments ask for.
#[derive(Debug, Default)]
struct Expected {
    code: Option<i32>,
    texts: Vec<String>,
    flags: Vec<String>,
}

fn expected(source: &str) -> Expected {
    let mut expected = Expected::default();
    for line in source.lines().map_while(|line| line.strip_prefix("# ")) {
        if let Some(rest) = line.strip_prefix("expect exit=") {
            let (code, text) = rest.split_once(": ").unwrap();
            expected.code = Some(code.parse().unwrap());
            expected.texts.push(text.to_owned());
        } else if let Some(text) = line.strip_prefix("expect: ") {
            expected.texts.push(text.to_owned());
        } else if let Some(flags) = line.strip_prefix("flags: ") {
            expected.flags.extend(flags.split(' ').map(str::to_owned));
        }
    }
    if source.is_empty() {
        expected = Expected { code: Some(1), texts: vec!["no tests found".into()], flags: vec![] };
    }
    expected
}

#[test]
fn every_bad_spec_gets_its_error_and_leaves_nothing() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut paths: Vec<_> = fs::read_dir(root().join("specs/bad"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "star"))
        .collect();
    paths.sort();
    for path in paths {
        let source = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let expected = expected(&source);
        let name = format!("specs/bad/{}", path.file_name().unwrap().to_str().unwrap());
        let code = expected.code.unwrap_or_else(|| panic!("{name} does not say what to expect"));
        let flags = expected.flags.iter().map(String::as_str);
        let arguments: Vec<&str> = [name.as_str()].into_iter().chain(flags).collect();
        let run = Place::new().test(&arguments);
        let has_all = expected
            .texts
            .iter()
            .all(|text| run.stdout.contains(text) || run.stderr.contains(text));
        let is_spec_error = code == 1;
        let is_on_stderr = run.stderr.contains("error: ") && run.stdout.is_empty();
        if run.code != code || !has_all || (is_spec_error && !is_on_stderr) {
            let tail = |text: &str| text.chars().take(1500).collect::<String>();
            let (out, err) = (tail(&run.stdout), tail(&run.stderr));
            wrong.push(format!("{name}: {expected:?}, got exit={}\n{out}\n{err}", run.code));
        }
        count += 1;
    }
    assert!(count >= 30, "only {count} specs found");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n---\n"));
}

#[test]
fn a_directory_and_a_missing_file_are_one_clear_error_each() {
    for (path, text) in [
        ("specs", "error: specs: "),
        ("specs/none.star", "error: specs/none.star: "),
        ("/dev/null", "no tests found"),
    ] {
        let run = Place::new().test(&[path]).expect(1);
        run.says(text);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn a_file_that_cannot_be_loaded_does_not_keep_the_others_from_running() {
    let run = Place::new()
        .test(&["specs/bad/syntax-error.star", "specs/tutorial/first-test.star"])
        .expect(1);
    run.says("error: specs/bad/syntax-error.star:").prints("\n4 passed, 0 failed\n");
}
