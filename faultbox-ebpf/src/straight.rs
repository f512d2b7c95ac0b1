//! The straight way: a set of one rule, about a call whose object is a few loads away.
//!
//! The long way keeps what it finds in memory, which has to be cleared first, and to be made
//! unknown to the verifier wherever many paths meet. Here nothing outlives the decision, so it is
//! all in registers. The meaning is that of the long way: the same looks, the same `decide()`, the
//! same `Outcome`. What is not simple is left to that, before anything has been counted.

use core::mem::MaybeUninit;

use faultbox_common::{
    ACTION_DELAY, ACTION_NONE, Call, Object, Peer, Place, RuleSet, Site, Verdict, decide,
};

use crate::{
    call::{S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, is_unnamed_pipe, socket_call},
    decision::{InMap, increment, is_armed},
    file::{Memory, find_near},
    kernel::{Registers, field},
    maps::RULES,
    path::Dentry,
    place,
    target::switch,
};

/// What becomes of a call: an action that ends it, or `ACTION_DELAY`, or `ACTION_NONE`; and what
/// is meant by it.
pub type Ending = (u32, i64);
const RUNS: Ending = (ACTION_NONE as u32, 0);

/// Decides by the one rule of a set about a call on a descriptor. The stack has no room to spare, so
/// it gets some that the long way does not need yet.
#[inline(always)]
pub fn by_descriptor(
    set: &RuleSet,
    target: u64,
    regs: &Registers,
    memory: impl Memory,
    room: &mut MaybeUninit<Dentry>,
) -> Option<Ending> {
    let rule = the_rule(set)?;
    let site = &set.sites[0];
    if !is_armed(rule.get(), site) {
        return Some(RUNS);
    }
    let descriptor = regs.descriptor();
    // Whatever it is, unless something better is known below.
    let is_output = descriptor == 1 || descriptor == 2;
    let file = match find_near(descriptor) {
        Ok(Some(file)) => file,
        // It is not open.
        Ok(None) => return Some(RUNS),
        Err(_) => return None,
    };
    let inode = memory.follow::<{ field!(file_f_inode) }>(file)?;
    let mode = memory.load_wide::<u16, { field!(inode_i_mode) }>(inode)? & S_IFMT;
    if mode == S_IFREG || mode == S_IFDIR {
        let start = room.write(Dentry::of_file(file, memory)?);
        let number = memory.load::<u64, { field!(inode_i_ino) }>(inode)?;
        let place = place::of_file(memory.number(inode), number, start, set.globs);
        let place = place::unknown(place, switch!(epoch));
        return Some(ending(&rule, site, &of(Object::File), place));
    }
    if mode == S_IFSOCK {
        let (socket, memory) = memory.socket(file)?;
        if let Some(call) = socket_call(socket, memory, target) {
            return Some(ending(&rule, site, &call, Place::default()));
        }
    }
    let object = if is_output {
        Object::Stdio
    } else if mode != S_IFIFO {
        Object::Ineligible
    } else if !is_unnamed_pipe(inode, memory)? {
        Object::Fifo
    } else {
        // Asked for again: the verifier knows the number of each descriptor that was found, and
        // must not follow this once for each.
        if regs.descriptor() == 0 { Object::Stdio } else { Object::Ineligible }
    };
    Some(ending(&rule, site, &of(object), Place::default()))
}

/// Decides by the one rule of a set about a call without an operand.
#[inline(always)]
pub fn by_nothing(set: &RuleSet) -> Option<Ending> {
    let rule = the_rule(set)?;
    let site = &set.sites[0];
    if !is_armed(rule.get(), site) {
        return Some(RUNS);
    }
    Some(ending(&rule, site, &of(Object::Plain), Place::default()))
}

#[inline(always)]
fn of(object: Object) -> Call {
    Call { object, peer: Peer::default() }
}

/// The only rule of a set.
#[inline(always)]
fn the_rule(set: &RuleSet) -> Option<InMap> {
    (set.count == 1).then(|| InMap { rule: RULES.at(set.sites[0].slot.into()) })
}

/// What one rule does to a call, counted, as `Outcome` has it for a single rule. That a delay has
/// fired is known, and to be counted, only when the thread waits.
#[inline(always)]
fn ending(rule: &InMap, site: &Site, call: &Call, place: Place) -> Ending {
    if decide(rule.get(), rule, site, call, place) != Verdict::Fire {
        return RUNS;
    }
    let action = rule.get().action;
    if action != ACTION_DELAY {
        // SAFETY: a field of a live map value.
        increment(unsafe { &raw mut (*rule.rule).counters.fired }.cast());
    }
    (action.into(), rule.get().value)
}
