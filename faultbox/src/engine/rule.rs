//! What a caller asks the engine to break.

use std::{fmt, str::FromStr};

use super::{Errno, Syscall, TargetId};

/// Tells rules apart in records; chosen by the caller, unique within one engine while installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// What happens to a call that a rule hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its body does not run; the caller gets -1 and this error.
    Deny(Errno),
    /// It runs. The match is counted and recorded.
    Allow,
}

/// How likely a rule is to fire at a match, in parts of 2³².
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probability(u64);

impl Probability {
    /// Fires at every match.
    pub const ALWAYS: Self = Self(faultbox_common::CHANCE_ALWAYS);

    /// From a fraction; `None` unless it is between 0 and 1.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        let parts = faultbox_common::CHANCE_ALWAYS as f64;
        (0.0..=1.0).contains(&fraction).then(|| Self((fraction * parts).round() as u64))
    }

    /// In parts of 2³².
    pub fn parts(self) -> u64 {
        self.0
    }

    /// Whether it fires at every match.
    pub fn is_certain(self) -> bool {
        self == Self::ALWAYS
    }
}

/// From `"30%"` or `"0.5%"`.
impl FromStr for Probability {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = text.trim().strip_suffix('%').ok_or(())?;
        let percent: f64 = number.trim().parse().map_err(|_| ())?;
        Self::from_fraction(percent / 100.0).ok_or(())
    }
}

/// As percent, without needless digits: `50%`, `0.5%`.
impl fmt::Display for Probability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 as f64 / faultbox_common::CHANCE_ALWAYS as f64 * 100.0;
        // Six digits undo the rounding to parts of 2³².
        write!(f, "{}%", (percent * 1e6).round() / 1e6)
    }
}

/// Where a rule applies: the calls of one target, to anyone or to some ports only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Whose calls.
    pub target: TargetId,
    /// Empty: whatever the peer. Else only calls to these ports on the same host's loopback.
    pub ports: Vec<u16>,
}

/// One rule: which calls of which targets, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule's name in records.
    pub id: RuleId,
    /// Where it applies.
    pub sites: Vec<Site>,
    /// Which calls.
    pub syscalls: Vec<Syscall>,
    /// What happens.
    pub action: Action,
    /// How likely.
    pub probability: Probability,
    /// Where the rule's stream of chance starts: the same value gives the same decisions at the
    /// same matches.
    pub stream: u64,
    /// Whether calls to and from the test driver are hit, too.
    pub include_driver: bool,
}

/// Counts of one rule since it was armed. Exact, whatever happened to records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Calls that the rule applied to.
    pub matched: u64,
    /// Calls that it broke.
    pub fired: u64,
    /// Calls left alone because their peer is the test driver.
    pub exempt: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_percent_is_one_percent() {
        let one: Probability = "1%".parse().unwrap();
        assert_eq!(one, Probability::from_fraction(0.01).unwrap());
        assert_eq!(one.to_string(), "1%");
        assert_eq!("0.5%".parse::<Probability>().unwrap().to_string(), "0.5%");
        assert!("100%".parse::<Probability>().unwrap().is_certain());
        for wrong in ["101%", "-1%", "50", "", "%", "nan%"] {
            assert!(wrong.parse::<Probability>().is_err(), "{wrong}");
        }
    }
}
