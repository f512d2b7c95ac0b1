//! What is wrong with a spec, and where.

use std::fmt;

use super::Location;

/// How much of a source line is shown, in characters.
const EXCERPT: usize = 100;

/// A spec that cannot be used: unreadable, not Starlark, or declaring something impossible.
///
/// Shown as `file:line:column: text`, the source line, and a caret under the column; without a
/// place as the text alone. Whoever prints it adds `error: ` in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    /// What is wrong and what to do about it.
    pub text: String,
    /// Where, when it has a place.
    pub location: Option<Location>,
    /// The source line of the place, whole.
    pub line: Option<String>,
}

impl SpecError {
    /// An error of the file as a whole; the text names the file.
    pub(super) fn whole(text: impl Into<String>) -> Self {
        Self { text: text.into(), location: None, line: None }
    }

    /// An error at a place of this source.
    pub(super) fn at(location: Location, source: &str, text: impl Into<String>) -> Self {
        let line = source.lines().nth(location.line.saturating_sub(1)).map(str::to_owned);
        Self { text: text.into(), location: Some(location), line }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(location) = &self.location else {
            return f.write_str(&self.text);
        };
        write!(f, "{location}: {}", self.text)?;
        if let Some(line) = &self.line {
            let (excerpt, column) = excerpt(line, location.column);
            write!(f, "\n  {excerpt}\n  {}^", " ".repeat(column - 1))?;
        }
        Ok(())
    }
}

/// The part of a line around a column, on one line of a terminal, and the column within it.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    let length = line.chars().count();
    let column = column.clamp(1, length + 1);
    // The place is kept at two thirds, since what leads up to it says more than what follows.
    let start = if length <= EXCERPT { 0 } else { column.saturating_sub(EXCERPT * 2 / 3) };
    let mut text = String::new();
    if start > 0 {
        text.push('…');
    }
    // A tab or another control character would move the caret away from its column.
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.extend(line.chars().skip(start).take(EXCERPT).map(visible));
    if length > start + EXCERPT {
        text.push('…');
    }
    (text, column - start + usize::from(start > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Location {
        Location { file: "a.star".to_owned(), line, column }
    }

    #[test]
    fn the_caret_is_under_the_column() {
        let error = SpecError::at(at(2, 3), "x\n\tab\n", "bad");
        assert_eq!(error.to_string(), "a.star:2:3: bad\n   ab\n    ^");
    }

    #[test]
    fn a_place_behind_the_end_is_shown_at_the_end() {
        let error = SpecError::at(at(1, 99), "ab", "bad");
        assert_eq!(error.to_string(), "a.star:1:99: bad\n  ab\n    ^");
        assert_eq!(SpecError::at(at(7, 1), "ab", "bad").to_string(), "a.star:7:1: bad");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}HERE{}", "a".repeat(5000), "b".repeat(5000));
        let text = SpecError::at(at(1, 5001), &line, "bad").to_string();
        let mut lines = text.lines().skip(1);
        let (shown, caret) = (lines.next().unwrap(), lines.next().unwrap());
        let column = caret.chars().count() - 1;
        assert_eq!(shown.chars().skip(column).take(4).collect::<String>(), "HERE");
        assert!(shown.chars().count() < 120);
    }
}
