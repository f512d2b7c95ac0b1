//! Lines of the log on stderr (language.md 1.16.1).

use std::{
    fmt::Write,
    mem::MaybeUninit,
    time::{SystemTime, UNIX_EPOCH},
};

use super::plain::one_line;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only with `--debug`.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warning,
    /// What is wrong.
    Error,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Debug => "DBG",
            Self::Info => "INF",
            Self::Warning => "WRN",
            Self::Error => "ERR",
        }
    }
}

/// A line without its newline: `10:31:07.042 INF [starlark] running test  test=test_ping`. The
/// time is shown as local time; values that are empty or have spaces or quotes are quoted.
pub fn log_line(
    time: SystemTime,
    level: Level,
    component: &str,
    message: &str,
    fields: &[(&str, &str)],
) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = clock(since.as_secs() as libc::time_t);
    let mut line = format!(
        "{clock}.{:03} {} [{component}] {}",
        since.subsec_millis(),
        level.word(),
        one_line(message)
    );
    for (key, value) in fields {
        // Writing to a string cannot fail.
        let _ = write!(line, "  {key}={}", quoted(value));
    }
    line
}

fn quoted(value: &str) -> String {
    let plain = one_line(value);
    let bare = !value.is_empty()
        && plain == value
        && !value.contains(|it: char| it.is_whitespace() || it == '"');
    if bare { plain } else { format!("\"{}\"", plain.replace('"', "\\\"")) }
}

/// `HH:MM:SS` in local time.
fn clock(seconds: libc::time_t) -> String {
    let mut parts = MaybeUninit::<libc::tm>::uninit();
    // SAFETY: localtime_r(3) reads the time through a pointer to a live value and writes a whole
    // `tm` through the other, or returns null and may leave it unwritten; it is read only in the
    // first case. glibc locks its time zone data, and this program never changes TZ.
    let parts = unsafe {
        if libc::localtime_r(&raw const seconds, parts.as_mut_ptr()).is_null() {
            // A year beyond an int: no such time comes from a clock.
            return "--:--:--".to_owned();
        }
        parts.assume_init()
    };
    format!("{:02}:{:02}:{:02}", parts.tm_hour, parts.tm_min, parts.tm_sec)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(level: Level, message: &str, fields: &[(&str, &str)]) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_042);
        log_line(time, level, "starlark", message, fields)
    }

    #[test]
    fn a_line_has_time_level_component_message_and_fields() {
        let line = line(Level::Info, "running test", &[("test", "test_happy_path"), ("pid", "7")]);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, "INF [starlark] running test  test=test_happy_path  pid=7");
        // Time zones differ by whole quarters of an hour, so the rest is known anywhere.
        let (hour, rest) = time.split_at(2);
        assert!(hour.parse::<u32>().unwrap() < 24);
        let (minute, rest) = rest.split_at(3);
        assert_eq!(minute[1..].parse::<u32>().unwrap() % 15, 13);
        assert_eq!(rest, ":20.042");
    }

    #[test]
    fn values_that_would_be_ambiguous_are_quoted() {
        let line = line(
            Level::Warning,
            "x\ny",
            &[("a", "two words"), ("b", ""), ("c", "a\"b"), ("d", "\x1b[0m"), ("e", "k=v")],
        );
        let expected = r#"WRN [starlark] x\ny  a="two words"  b=""  c="a\"b"  d="\x1b[0m"  e=k=v"#;
        assert!(line.ends_with(expected), "{line}");
    }

    #[test]
    fn levels_have_three_letters() {
        for (level, word) in [(Level::Debug, "DBG"), (Level::Error, "ERR")] {
            assert!(line(level, "m", &[]).contains(&format!(" {word} [starlark] m")));
        }
        assert!(Level::Debug < Level::Info && Level::Warning < Level::Error);
    }
}
