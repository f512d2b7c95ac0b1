//! The decision: what one rule does to one call.

use crate::{
    ACTION_DENY, CHANCE_ALWAYS, Call, Counters, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, NO_RULE,
    Object, Rule, Site,
};

/// What one rule says about one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule does not apply.
    Pass,
    /// It would apply, but the peer is the test driver.
    Exempt,
    /// It applies, and chance, `nth`, `after` or `max_hits` let the call go.
    Spared,
    /// It applies and says that the call runs.
    Allow,
    /// The call fails with this errno.
    Deny(u16),
}

/// Decides about one call by one armed rule, and counts.
///
/// The k-th call that a rule applies to (from 0) always gets the same answer for the same
/// stream, whatever other rules, services or processors do: chance is a hash, not a generator
/// with a state to share.
#[inline(always)]
pub fn decide<C: Counters>(rule: &Rule, counters: &C, site: &Site, call: &Call) -> Verdict {
    let eligible = match call.object {
        Object::Ineligible | Object::SystemFile => false,
        object => rule.flags & FLAG_SOCKETS_ONLY == 0 || object.is_socket(),
    };
    if !eligible || !site.admits(&call.peer) {
        return Verdict::Pass;
    }
    if call.peer.driver != 0 && rule.flags & FLAG_INCLUDE_DRIVER == 0 {
        counters.exempt();
        return Verdict::Exempt;
    }
    let k = counters.next_match();
    if rule.action != ACTION_DENY {
        return Verdict::Allow;
    }
    let chosen = (rule.nth == 0 || k + 1 == rule.nth)
        && k >= rule.after
        && (rule.chance >= CHANCE_ALWAYS || hash(rule.stream, k) >> 32 < rule.chance);
    if chosen && (rule.max_hits == 0 || counters.next_ticket() < rule.max_hits) {
        Verdict::Deny(rule.errno)
    } else {
        Verdict::Spared
    }
}

/// The `k`-th number of a stream: `SplitMix64`'s output function over a counter.
#[inline(always)]
fn hash(stream: u64, k: u64) -> u64 {
    let mut z = stream.wrapping_add(k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What all rules together do to one call: the first denial counts, in order of declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Id of the rule that decided, or of the first that applied; [`NO_RULE`]: none applied.
    pub rule: u32,
    /// To fail the call with; 0: the call runs.
    pub errno: u16,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { rule: NO_RULE, errno: 0 }
    }
}

impl Outcome {
    /// Adds a rule's verdict. Returns whether this verdict is the one that breaks the call, and
    /// so counts as fired: a denial behind another denial has no effect of its own.
    #[inline(always)]
    pub fn add(&mut self, rule: &Rule, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Pass | Verdict::Exempt => false,
            Verdict::Spared | Verdict::Allow => {
                if self.rule == NO_RULE {
                    self.rule = rule.id;
                }
                false
            }
            Verdict::Deny(_) if self.errno != 0 => false,
            Verdict::Deny(errno) => {
                self.errno = errno;
                self.rule = rule.id;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests;
