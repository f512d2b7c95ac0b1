//! What globs mean, as cases and against a plain backtracking matcher.

use proptest::prelude::*;

use super::*;

fn compiled(list: &[&str]) -> Box<Globs> {
    let mut globs = Box::new(Globs::EMPTY);
    let result = globs.compile(list.iter().map(|glob| glob.as_bytes()));
    result.unwrap_or_else(|error| panic!("{list:?}: {error}"));
    globs
}

fn matches(glob: &str, path: &str) -> bool {
    compiled(&[glob]).matches(path.as_bytes()) == 1
}

#[test]
fn several_globs_answer_for_themselves() {
    let globs = compiled(&["/tmp/*.wal", "/tmp/**", "/var/[ab]", "**/x"]);
    let answers = ["/tmp/a.wal", "/tmp/a/x", "/var/a", "/var/c", "/x"];
    let answers = answers.map(|path| globs.matches(path.as_bytes()));
    assert_eq!(answers, [0b0011, 0b1010, 0b0100, 0, 0b1000]);
    assert_eq!(Globs::EMPTY.matches(b"/"), 0);
}

#[test]
fn wildcards_mean_what_the_contract_says() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("/tmp/*.wal", &["/tmp/a.wal", "/tmp/.wal"], &["/tmp/x/a.wal", "/tmp/a.wal2", "/a.wal"]),
        ("/a/?", &["/a/b", "/a/é", "/a/€"], &["/a/", "/a/bc", "/a//"]),
        ("/a/[a-c]x", &["/a/ax", "/a/cx"], &["/a/dx", "/a/x", "/a/a"]),
        ("/a/[!a-c]", &["/a/d", "/a/-"], &["/a/a", "/a//"]),
        ("/a/[]x]", &["/a/]", "/a/x"], &["/a/y"]),
        ("/dir/**", &["/dir", "/dir/a", "/dir/a/b"], &["/dirt", "/di", "/x/dir"]),
        ("/a/**/b", &["/a/b", "/a/x/b", "/a/x/y/b"], &["/ab", "/a/xb", "/ax/b", "/b"]),
        ("**/b", &["/b", "/x/b", "/x/y/b"], &["/xb", "/b/c"]),
        ("/a/**b", &["/a/b", "/a/x/yb"], &["/a/bc"]),
        ("/**", &["/", "/a", "/a/b"], &[]),
        ("/a/**/**/b", &["/a/b", "/a/x/b"], &["/ab"]),
        ("/*/**/x", &["/a/x", "/a/b/c/x"], &["/x"]),
        ("/a\\*b", &["/a*b"], &["/axb"]),
        ("/a/***/b", &["/a/b", "/a/c/d/b"], &[]),
    ];
    for (glob, yes, no) in cases {
        for path in *yes {
            assert!(matches(glob, path), "{glob} should match {path}");
        }
        for path in *no {
            assert!(!matches(glob, path), "{glob} should not match {path}");
        }
    }
}

#[test]
fn what_cannot_be_compiled_says_why() {
    let error = |glob: &str| { Globs::EMPTY }.compile([glob.as_bytes()]).unwrap_err();
    assert_eq!(error("*.wal"), GlobError::Relative);
    assert_eq!(error(""), GlobError::Relative);
    assert_eq!(error("/a["), GlobError::UnclosedClass);
    assert_eq!(error("/[/]"), GlobError::EmptyClass);
    assert_eq!(error("/a\\"), GlobError::TrailingBackslash);
    let long = format!("/{}", "a".repeat(GLOB_POSITIONS - 2));
    assert_eq!(error(&long), GlobError::TooLong);
    let many = [b"/a".as_slice(); MAX_GLOBS + 1];
    assert_eq!({ Globs::EMPTY }.compile(many), Err(GlobError::TooMany));
    let fits = &long[..long.len() - 1];
    assert!(matches(fits, fits));
    assert!(!matches(fits, &fits[1..]));
}

/// The same question, answered by trying everything.
fn plainly(glob: &[u8], path: &[u8]) -> bool {
    match glob {
        [] => path.is_empty(),
        [b'/', b'*', b'*'] if path.is_empty() => true,
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|at| plainly(rest, &path[at..])),
        [b'*', rest @ ..] => (0..=path.len())
            .take_while(|at| *at == 0 || path[at - 1] != b'/')
            .any(|at| plainly(rest, &path[at..])),
        [b'?', rest @ ..] => {
            path.first().is_some_and(|it| *it != b'/') && plainly(rest, &path[1..])
        }
        [b'/', b'*', b'*', b'/', rest @ ..] if path.first() == Some(&b'/') => {
            plainly(rest, &path[1..]) || plainly(&glob[1..], &path[1..])
        }
        [byte, rest @ ..] => path.first() == Some(byte) && plainly(rest, &path[1..]),
    }
}

proptest! {
    #[test]
    fn every_match_is_the_plain_ones(
        glob in "/([ab]|\\*|\\?|/){0,8}",
        path in "/[ab/]{0,8}",
    ) {
        // Where stars meet, the plain matcher reads them from the left, as `**` and `*`.
        prop_assume!(!glob.contains("***") && !glob.contains("**/**"));
        prop_assert_eq!(matches(&glob, &path), plainly(glob.as_bytes(), path.as_bytes()), "{} {}", glob, path);
    }
}
