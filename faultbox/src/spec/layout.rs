//! Rewrites files that load, or are loaded, without moving anything in them.
//!
//! The evaluator's own `load()` freezes what it loads: globals could not change in tests, and
//! every value would need a second, frozen form. So a loaded file is evaluated as the body of a
//! function in the module of the spec, where its globals are the function's variables: private to
//! it, and as mutable as those of the spec. And so `load()` becomes an assignment from a call.
//!
//! Lines and columns must stay, because errors name them: a call takes exactly the place of its
//! `load()`, and in the body of the function everything is one line and one column further on,
//! which [`original`] takes back.

use std::{collections::BTreeSet, fmt::Write, ops::Range};

use super::scan::{Scan, Token};

/// Begins the name under which the evaluator knows a wrapped text.
const MARK: char = '\u{1}';

/// A `load()` statement in a source.
pub(super) struct LoadStatement {
    pub(super) bytes: Range<usize>,
    /// The number that it is called by.
    pub(super) site: usize,
    /// What it binds.
    pub(super) names: Vec<String>,
}

/// A name that none of the sources has anywhere. Short, so that a call is no longer than the
/// shortest `load()`.
pub(super) fn unused_name(sources: &[&str]) -> String {
    let mut name = "__l".to_owned();
    while sources.iter().any(|source| source.contains(&name)) {
        name.push('l');
    }
    name
}

/// The source with each `load()` made an assignment from a call of `function`.
pub(super) fn with_calls(source: &str, loads: &[LoadStatement], function: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut copied = 0;
    for LoadStatement { bytes, site, names } in loads {
        text += &source[copied..bytes.start];
        copied = bytes.end;
        let statement = &source[bytes.clone()];
        let mut call = String::new();
        if !names.is_empty() {
            call = format!("[{}]=", names.join(","));
        }
        // Writing to a string cannot fail.
        let _ = write!(call, "{function}({site}");
        let (lines, mut missing) = match statement.rsplit_once('\n') {
            Some((before, last)) => (before.matches('\n').count() + 1, last.chars().count()),
            None => (0, statement.chars().count().saturating_sub(call.len())),
        };
        missing = missing.saturating_sub(1);
        text += &call;
        text += &"\n".repeat(lines);
        text += &" ".repeat(missing);
        text.push(')');
    }
    text + &source[copied..]
}

/// The text as the body of a function which returns, by name, functions that return its
/// variables: those that it never gave a value are errors when asked for. The value of the
/// whole is that function.
pub(super) fn wrapped(text: &str, exports: &BTreeSet<String>, function: &str) -> String {
    // As unused as the name that it begins with.
    let own = format!("{function}f");
    let mut body = format!("def {own}():\n");
    indent(text, &mut body);
    body += "\n return {";
    for name in exports {
        let _ = write!(body, "{name:?}:lambda:{name},");
    }
    let _ = write!(body, "}}\n{own}\n");
    body
}

/// Moves every line by one column. What follows the end of a string of several lines is moved
/// instead of the line, whose beginning belongs to the string.
fn indent(text: &str, body: &mut String) {
    let mut copied = 0;
    let lines = |part: &str, body: &mut String| {
        for (i, line) in part.split('\n').enumerate() {
            if i > 0 {
                body.push('\n');
            }
            body.push(' ');
            body.push_str(line);
        }
    };
    for (at, token) in Scan::new(text) {
        let Token::Text(content) = token else {
            continue;
        };
        if !content.contains('\n') {
            continue;
        }
        let quote = &text[at..=at];
        let quotes = if text[at..].starts_with(&quote.repeat(3)) { 3 } else { 1 };
        let end = (at + content.len() + 2 * quotes).min(text.len());
        lines(&text[copied..at], body);
        body.push_str(&text[at..end]);
        copied = end;
    }
    lines(&text[copied..], body);
}

/// What the evaluator is to call a wrapped text.
pub(super) fn marked(path: &str) -> String {
    format!("{MARK}{path}")
}

/// The path, line and column, from 1, of what the evaluator places at this line and column, from
/// 0, of the file that it calls so.
pub(super) fn original(file: &str, line: usize, column: usize) -> (&str, usize, usize) {
    match file.strip_prefix(MARK) {
        Some(path) => (path, line.max(1), column.max(1)),
        None => (file, line + 1, column + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(source: &str, names: &[&str]) -> LoadStatement {
        let start = source.find("load(").unwrap();
        let end = start + source[start..].find(')').unwrap() + 1;
        let names = names.iter().map(|it| (*it).to_owned()).collect();
        LoadStatement { bytes: start..end, site: 0, names }
    }

    #[test]
    fn a_call_takes_exactly_the_place_of_its_load() {
        for (source, names, expected) in [
            ("load(\"b\",\"x\"); y = x", &["x"][..], "[x]=__l(0   ); y = x"),
            ("load(\"b\", y = \"x\")\n", &["y"], "[y]=__l(0        )\n"),
            ("load(\n    \"b\",\n  \"x\", \"y\")\nz", &["x", "y"], "[x,y]=__l(0\n\n          )\nz"),
            ("load(\n  \"b\",\n  \"x\",\n)\nz", &["x"], "[x]=__l(0\n\n\n)\nz"),
        ] {
            assert_eq!(with_calls(source, &[statement(source, names)], "__l"), expected);
        }
    }

    #[test]
    fn the_name_of_the_call_is_used_by_nobody() {
        assert_eq!(unused_name(&["x = 1"]), "__l");
        assert_eq!(unused_name(&["__l = 1", "__lll = 2"]), "__llll");
    }

    #[test]
    fn all_tokens_move_by_one_column_and_strings_stay_as_they_are() {
        let source = "x = '''a\n  b\n''' + 'c'\nif x:\n    y = f(\n1)\n";
        let mut body = String::new();
        indent(source, &mut body);
        assert_eq!(body, " x = '''a\n  b\n'''  + 'c'\n if x:\n     y = f(\n 1)\n ");
        let places = |text: &str, shift: usize| -> Vec<_> {
            Scan::new(text)
                .filter(|(_, token)| !matches!(token, Token::Line(_)))
                .map(|(at, token)| {
                    let line_start = text[..at].rfind('\n').map_or(0, |it| it + 1);
                    (
                        text[..at].matches('\n').count(),
                        at - line_start - shift,
                        format!("{token:?}"),
                    )
                })
                .collect()
        };
        assert_eq!(places(&body, 1), places(source, 0));
    }

    #[test]
    fn places_in_wrapped_texts_are_those_of_the_file() {
        assert_eq!(original(&marked("a.star"), 1, 1), ("a.star", 1, 1));
        assert_eq!(original(&marked("a.star"), 0, 0), ("a.star", 1, 1));
        assert_eq!(original("a.star", 0, 0), ("a.star", 1, 1));
    }
}
