//! The decision: what one rule does to one call.

use crate::{
    ACTION_ALLOW, ACTION_DELAY, ACTION_NONE, CHANCE_ALWAYS, Call, Counters, FLAG_ALWAYS,
    FLAG_ANYTHING, FLAG_INCLUDE_DRIVER, FLAG_SOCKETS_ONLY, NO_RULE, Object, Rule, Site,
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
    /// It applies, and the rule's action is taken.
    Fire,
}

/// Where the file of a call lies; nothing that matters when the call works on no file.
// Aligned for those who handle it as a word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Non-zero if it is one of the system's own, which rules without a path spare: see
    /// [`crate::is_system_path`].
    pub system: u32,
    /// The globs of the rules' set that its path matches, a bit for each.
    pub globs: u32,
}

/// Decides about one call by one armed rule, and counts.
///
/// The k-th call that a rule applies to (from 0) always gets the same answer for the same
/// stream, whatever other rules, services or processors do: chance is a hash, not a generator
/// with a state to share.
#[inline(always)]
pub fn decide<C: Counters>(
    rule: &Rule,
    counters: &C,
    site: &Site,
    call: &Call,
    place: Place,
) -> Verdict {
    if rule.flags == FLAG_ALWAYS | FLAG_ANYTHING {
        // Most rules are of this kind: what follows says the same of them, in many more steps.
        let spared = matches!(call.object, Object::File) && place.system != 0;
        if spared || matches!(call.object, Object::Ineligible) {
            return Verdict::Pass;
        }
        if call.peer.driver != 0 {
            counters.exempt();
            return Verdict::Exempt;
        }
        counters.next_match();
        return Verdict::Fire;
    }
    // First, where a verifier has the fewest states to follow it from: it is the longest part.
    let admitted = counters.opaque(site.admits(&call.peer));
    let is_file = matches!(call.object, Object::File);
    let eligible = if site.globs != 0 {
        is_file && place.globs & site.globs != 0
    } else if rule.flags & FLAG_SOCKETS_ONLY != 0 {
        call.object.is_socket()
    } else {
        let is_spared = is_file && place.system != 0;
        !matches!(call.object, Object::Ineligible) && !is_spared
    };
    if counters.opaque(u64::from(eligible) & admitted) == 0 {
        return Verdict::Pass;
    }
    if call.peer.driver != 0 && rule.flags & FLAG_INCLUDE_DRIVER == 0 {
        counters.exempt();
        return Verdict::Exempt;
    }
    let k = counters.next_match();
    if rule.flags & FLAG_ALWAYS != 0 {
        return Verdict::Fire;
    }
    if rule.action == ACTION_ALLOW {
        return Verdict::Allow;
    }
    let chosen = (rule.nth == 0 || k + 1 == rule.nth)
        && k >= rule.after
        && (rule.chance >= CHANCE_ALWAYS || hash(rule.stream, k) >> 32 < rule.chance);
    if chosen && (rule.max_hits == 0 || counters.next_ticket() < rule.max_hits) {
        Verdict::Fire
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

/// What all rules together do to one call: the delays that fire add up, and of the actions that
/// end a call the first in order of declaration counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For how long the call waits first, in nanoseconds.
    pub delay: u64,
    /// What the action means by it.
    pub value: i64,
    /// Id of the rule that ends the call, else of the first that delays it, else of the first
    /// that applied; [`NO_RULE`]: none applied.
    pub rule: u32,
    /// `ACTION_DENY`, `ACTION_RETURN` or `ACTION_CRASH`; `ACTION_NONE`: the call runs.
    pub action: u32,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { delay: 0, value: 0, rule: NO_RULE, action: ACTION_NONE as u32 }
    }
}

impl Outcome {
    /// Whether the call's body runs, at once or later.
    #[inline(always)]
    pub fn runs(&self) -> bool {
        self.action == ACTION_NONE as u32
    }

    /// Adds a rule's verdict. Returns whether the rule fired: one that would end a call that
    /// another has ended has no effect of its own.
    #[inline(always)]
    pub fn add(&mut self, rule: &Rule, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Pass | Verdict::Exempt => return false,
            Verdict::Spared | Verdict::Allow => {
                if self.rule == NO_RULE {
                    self.rule = rule.id;
                }
                return false;
            }
            Verdict::Fire => {}
        }
        if rule.action == ACTION_DELAY {
            if self.delay == 0 && self.runs() {
                self.rule = rule.id;
            }
            self.delay = self.delay.saturating_add(rule.value as u64);
            return true;
        }
        if !self.runs() {
            return false;
        }
        self.action = rule.action as u32;
        self.value = rule.value;
        self.rule = rule.id;
        true
    }
}

#[cfg(test)]
mod tests;
