//! The figures that faultbox wants to keep to, beside which the measured ones are printed.

use super::figures::{Figure, Figures};

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// At most so many instructions added to the call, or spent on the action.
    AtMost(f64),
    /// At most so many more than another case adds.
    AtMostMoreThan(&'static str, f64),
    /// At least so many times what another case adds.
    AtLeastTimes(&'static str, f64),
    /// At most so many microseconds; in the guest, where a nanosecond is an instruction, of its time.
    Microseconds(f64),
    /// It must not happen.
    Never,
}

use Limit::{AtLeastTimes, AtMost, AtMostMoreThan, Microseconds, Never};

const LIMITS: &[(&str, Limit)] = &[
    ("other", AtMost(90.0)),
    ("other-getppid", AtMost(90.0)),
    ("unfaulted", AtMost(200.0)),
    ("unfaulted-getppid", AtMost(200.0)),
    ("deny", AtMost(180.0)),
    ("path-miss", AtMost(300.0)),
    ("traced-other", AtMostMoreThan("other", 90.0)),
    ("traced-other-getppid", AtMostMoreThan("other-getppid", 90.0)),
    ("notify-deny", AtLeastTimes("deny", 30.0)),
    ("switch-on", Microseconds(50.0)),
    ("switch-off", Microseconds(50.0)),
    ("notify-switch-on", Microseconds(50.0)),
    ("notify-switch-off", Microseconds(50.0)),
    ("native-notify-switch-on", Microseconds(50.0)),
    ("native-notify-switch-off", Microseconds(50.0)),
    ("misses", Never),
];

/// The limit of a case, and whether it is kept to, in words; empty if there is none.
pub(super) fn verdict(figures: &Figures, id: &str) -> String {
    let Some((_, limit)) = LIMITS.iter().find(|(limited, _)| *limited == id) else {
        return String::new();
    };
    let Some(row) = figures.row(id) else { return String::new() };
    let value = match &row.figure {
        Figure::Call(call) => call.added.unwrap_or(call.total),
        Figure::Once(value)
        | Figure::Action(value)
        | Figure::Native(value)
        | Figure::Count(value) => *value,
        Figure::Skipped(_) => return format!("{}: unknown", limit.text(figures)),
    };
    let kept = match *limit {
        AtMost(most) => Some(value <= most),
        AtMostMoreThan(other, most) => figures.added(other).map(|other| value <= other + most),
        // What costs nothing is any number of times cheaper.
        AtLeastTimes(other, least) => {
            figures.added(other).map(|other| other <= 0.0 || value >= other * least)
        }
        Microseconds(most) => Some(value <= most * 1000.0),
        Never => Some(value <= 0.0),
    };
    let kept = match kept {
        Some(true) => "met",
        Some(false) => "not met",
        None => "unknown",
    };
    format!("{}: {kept}", limit.text(figures))
}

impl Limit {
    fn text(self, figures: &Figures) -> String {
        let title = |id: &str| {
            figures.row(id).map_or_else(|| id.to_owned(), |row| format!("“{}”", row.title))
        };
        match self {
            AtMost(most) => format!("≤ {most}"),
            AtMostMoreThan(other, most) => format!("≤ {most} more than {}", title(other)),
            AtLeastTimes(other, least) => format!("≥ {least} × {}", title(other)),
            Microseconds(most) => format!("≤ {most} µs"),
            Never => "0".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::figures::tests::run_with, *};

    #[test]
    fn each_limit_says_whether_it_is_met() {
        let good = run_with(180.0);
        assert_eq!(verdict(&good, "deny"), "≤ 180: met");
        assert_eq!(verdict(&good, "notify-deny"), "≥ 30 × “deny”: met");
        assert_eq!(verdict(&good, "switch-on"), "≤ 50 µs: met");
        assert_eq!(verdict(&good, "nothing"), "");
        let bad = run_with(240.0);
        assert_eq!(verdict(&bad, "deny"), "≤ 180: not met");
        assert_eq!(verdict(&bad, "notify-deny"), "≥ 30 × “deny”: not met");
    }

    #[test]
    fn a_deny_that_costs_less_than_nothing_is_any_number_of_times_cheaper() {
        assert_eq!(verdict(&run_with(-20.0), "notify-deny"), "≥ 30 × “deny”: met");
    }
}
