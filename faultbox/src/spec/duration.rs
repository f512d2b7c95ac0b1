//! Durations as specs write them: `"500ms"`, `"1m30s"`.

use std::time::Duration;

/// Units of a duration, in nanoseconds. Longer names come before those they begin with.
const UNITS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// The longest duration that is believed to be meant: a year.
const LONGEST: f64 = 365.0 * 24.0 * 3.6e12;

/// Reads a duration in the syntax of Go's `time.ParseDuration`, without a sign. `None` unless it
/// is well formed, positive and at most a year.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    parse_wait(text).filter(|it| !it.is_zero())
}

/// The same, and nothing at all is a duration, too: `"0ms"`.
pub(super) fn parse_wait(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (name, unit) = UNITS.iter().find(|(name, _)| {
            // `m` must not take the beginning of `ms`, nor `ns` the end of something unknown.
            rest.strip_prefix(name).is_some_and(|after| !after.starts_with(char::is_alphabetic))
        })?;
        nanoseconds += number * unit;
        rest = &rest[name.len()..];
    }
    let is_whole = nanoseconds == 0.0 || nanoseconds >= 1.0;
    (is_whole && nanoseconds <= LONGEST).then(|| Duration::from_nanos(nanoseconds.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_syntax_is_read() {
        for (text, expected) in [
            ("500us", Duration::from_micros(500)),
            ("500ms", Duration::from_millis(500)),
            ("2s", Duration::from_secs(2)),
            ("1m30s", Duration::from_secs(90)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("1µs", Duration::from_micros(1)),
            ("1h2m3s4ms", Duration::from_millis(3_723_004)),
        ] {
            assert_eq!(parse_duration(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn waiting_may_take_no_time() {
        for text in ["0ms", "0s", "0.0us"] {
            assert_eq!((parse_wait(text), parse_duration(text)), (Some(Duration::ZERO), None));
        }
        for text in ["", "0", "0.1ns", "-1s"] {
            assert_eq!(parse_wait(text), None, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "5",
            "0s",
            "0",
            "-1s",
            "+1s",
            "1",
            "s",
            "1 s",
            "1sec",
            "1.2.3s",
            "1e3s",
            "nan",
            "inf",
            "999999999h",
            "1s2",
            ".s",
            "1d",
            "0.1ns",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
