//! What a caller asks the engine to break.

use std::{fmt, net::IpAddr, num::NonZeroU64, str::FromStr, sync::Arc, time::Duration};

use faultbox_common::{GlobError, Globs};
use nix::sys::signal::Signal;

use super::{Errno, Syscall, TargetId};

/// Tells rules apart in records; chosen by the caller, unique within one engine while installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// What happens to a call that a rule hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its body does not run; the caller gets -1 and this error.
    Deny(Errno),
    /// The calling thread waits first; then the call runs, unless another rule ends it.
    Delay(Duration),
    /// Its body does not run, and it reports success with this value, which is not negative.
    Return(i64),
    /// Its body does not run, and the process gets this signal.
    Crash(Signal),
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

/// Which files a rule is about, by a glob on the path as the process sees it.
///
/// `*` is any run of characters but `/`, `**` any run at all, `?` one character but `/`, `[a-z]`
/// and `[!a-z]` one byte of a class. `/dir/**` matches `/dir` as well. At most 127 characters and
/// wildcards. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob {
    text: Arc<str>,
    compiled: Arc<Globs>,
}

impl PathGlob {
    /// Whether a path, as the process sees it, matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.compiled.matches(path) != 0
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for PathGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        let mut compiled = Arc::new(Globs::EMPTY);
        Arc::make_mut(&mut compiled).compile([text.as_bytes()])?;
        Ok(Self { text: text.into(), compiled })
    }
}

impl fmt::Display for PathGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where a rule applies: the calls of one target, to anyone or to some ports of a host only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Whose calls.
    pub target: TargetId,
    /// Empty: whatever the peer. Else only calls to these ports of `host`.
    pub ports: Vec<u16>,
    /// `None`, and any loopback address: the loopback of the host, or container, that the target
    /// runs on.
    pub host: Option<IpAddr>,
}

impl Site {
    /// All calls of a target, whatever their peer.
    pub fn of(target: TargetId) -> Self {
        Self { target, ports: Vec::new(), host: None }
    }
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
    /// Only calls on files whose path matches, those in the system's own directories included;
    /// `None`: on anything eligible.
    pub path: Option<PathGlob>,
    /// What happens.
    pub action: Action,
    /// How likely.
    pub probability: Probability,
    /// Only at this match, counted from 1.
    pub nth: Option<NonZeroU64>,
    /// Only after this many matches.
    pub after: u64,
    /// At most this often.
    pub max_hits: Option<NonZeroU64>,
    /// Where the rule's stream of chance starts: the same value gives the same decisions at the
    /// same matches.
    pub stream: u64,
    /// Whether calls to and from the test driver are hit, too.
    pub include_driver: bool,
}

impl Rule {
    /// A rule that always fires, with nothing but what it cannot do without.
    pub fn new(id: RuleId, site: Site, syscalls: Vec<Syscall>, action: Action) -> Self {
        Self {
            id,
            sites: vec![site],
            syscalls,
            path: None,
            action,
            probability: Probability::ALWAYS,
            nth: None,
            after: 0,
            max_hits: None,
            stream: 0,
            include_driver: false,
        }
    }
}

/// Counts of one rule since it was armed. Exact, whatever happened to records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Calls that the rule applied to.
    pub matched: u64,
    /// Calls that it broke, delayed or ended.
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
