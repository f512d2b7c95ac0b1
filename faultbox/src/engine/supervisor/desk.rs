//! What the answering thread has on its hands. Everyone who waits for an answer is in here, also
//! when the thread panics.

use std::{collections::VecDeque, io};

use nix::time::ClockId;

use super::{
    caller::Callers,
    delays::{Delays, Held},
    filter,
    judge::{Judge, Judgement, Watch},
    notification::{Answer, Messages, Notification, nanoseconds, now},
    signals,
};

/// How often delayed threads are asked for signals, in nanoseconds: a signal waits this long.
const PAUSE: u64 = 5_000_000;

/// Unless asking would take more than one part in this many of all time: then less often.
const PART: u64 = 500;

/// But never less often than this for each that waits, whatever it takes on a slow machine,
const LONGEST_EACH: u64 = 20_000_000;

/// nor than this.
const LONGEST_PAUSE: u64 = 1_000_000_000;

pub(super) struct Desk {
    pub(super) messages: Messages,
    callers: Callers,
    /// By the number of their watch. Neither answered nor given up, the first included.
    received: VecDeque<(u64, Notification)>,
    delays: Delays,
    /// When delayed threads were last asked for signals, or when the first began to wait.
    last_round: u64,
    /// How long it takes to ask one of them, in nanoseconds.
    cost: u64,
}

/// Finds a watch by its number.
pub(super) trait Finder<'a>: Fn(u64) -> Option<&'a Watch> {}
impl<'a, F: Fn(u64) -> Option<&'a Watch>> Finder<'a> for F {}

impl Desk {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            messages: Messages::new()?,
            callers: Callers::default(),
            received: VecDeque::new(),
            delays: Delays::default(),
            last_round: 0,
            // A guess, until the first is asked.
            cost: 15_000,
        })
    }

    /// When there is something to do if no call arrives.
    pub(super) fn alarm(&self) -> Option<u64> {
        self.delays.next().map(|due| due.min(self.next_round()))
    }

    /// When to ask delayed threads for signals.
    fn next_round(&self) -> u64 {
        let count = self.delays.len() as u64;
        let longest = (count * LONGEST_EACH).clamp(PAUSE, LONGEST_PAUSE);
        self.last_round + (count * self.cost * PART).clamp(PAUSE, longest)
    }

    /// Receives every call that has arrived at a readable listener. They are received before any
    /// of them is served, because their delays begin now, however long others take.
    pub(super) fn receive(&mut self, number: u64, watch: &Watch) -> io::Result<()> {
        loop {
            if let Some(call) = watch.listener.receive(&mut self.messages)? {
                self.received.push_back((number, call));
            }
            if !watch.listener.has_more() {
                return Ok(());
            }
        }
    }

    /// Does everything that there is to do by now.
    pub(super) fn serve<'a>(&mut self, judge: &Judge, find: impl Finder<'a>) -> io::Result<()> {
        while let Some((number, call)) = self.received.front().copied() {
            self.answer_due(&find)?;
            if let Some(watch) = find(number) {
                self.serve_one(judge, number, watch, &call)?;
            }
            self.received.pop_front();
        }
        self.answer_due(&find)?;
        self.look_for_signals(&find)
    }

    fn serve_one(
        &mut self,
        judge: &Judge,
        number: u64,
        watch: &Watch,
        call: &Notification,
    ) -> io::Result<()> {
        if let Some(held) = self.delays.resume(number, call, || signals::stack_of(call.tid)) {
            return self.hold_or_answer(watch, held);
        }
        if filter::changes_root(call.syscall) {
            watch.has_own_root.set(true);
        }
        let Some(Judgement { delay, answer }) = judge.judge(watch, call, &mut self.callers)? else {
            return Ok(());
        };
        let due = call.time.saturating_add(delay);
        self.hold_or_answer(watch, Held { watch: number, call: *call, due, answer })
    }

    fn hold_or_answer(&mut self, watch: &Watch, held: Held) -> io::Result<()> {
        // Only what is delayed is later than its call; the clock need not be asked for the others.
        if held.due <= held.call.time || watch.subject.is_none() {
            return self.answer(watch, held);
        }
        if self.delays.is_empty() {
            self.last_round = now();
        }
        self.delays.hold(held);
        Ok(())
    }

    fn answer(&mut self, watch: &Watch, held: Held) -> io::Result<()> {
        let answer = if watch.subject.is_some() { held.answer } else { Answer::Continue };
        if !watch.listener.answer(&mut self.messages, held.call.id, answer)? {
            // Before Linux 5.19 a signal may have come first. Then the call comes again.
            self.delays.interrupt(held, None);
        }
        Ok(())
    }

    fn answer_due<'a>(&mut self, find: &impl Finder<'a>) -> io::Result<()> {
        if self.delays.is_empty() {
            return Ok(());
        }
        while let Some(held) = self.delays.take_due(now()) {
            if let Some(watch) = find(held.watch) {
                self.answer(watch, held)?;
            }
        }
        Ok(())
    }

    /// Has delayed threads handle their signals. With the filter's "wait killable" flag, which
    /// other calls cannot do without, the kernel lets none but deadly ones interrupt a wait, and
    /// tells nobody.
    fn look_for_signals<'a>(&mut self, find: &impl Finder<'a>) -> io::Result<()> {
        if self.delays.is_empty() || now() < self.next_round() {
            return Ok(());
        }
        let busy = || nanoseconds(ClockId::CLOCK_THREAD_CPUTIME_ID);
        let start = busy();
        let all = self.delays.all();
        let count = all.len() as u64;
        for held in all {
            if let Some(watch) = find(held.watch) {
                self.look_at(watch, held)?;
            }
        }
        self.cost = (busy() - start) / count;
        self.last_round = now();
        Ok(())
    }

    fn look_at(&mut self, watch: &Watch, held: Held) -> io::Result<()> {
        let tid = held.call.tid;
        let has_signal = signals::has_some(tid).unwrap_or(false);
        let stack = if has_signal { signals::stack_of(tid) } else { None };
        // What was seen is the thread's if it still waits.
        let waits = watch.listener.is_waiting(held.call.id)?;
        if has_signal && waits {
            watch.listener.answer(&mut self.messages, held.call.id, Answer::Restart)?;
        }
        if has_signal || !waits {
            self.delays.interrupt(held, stack);
        }
        Ok(())
    }

    /// Lets calls run that are nobody's any more, or that wait at the end of the service.
    pub(super) fn release<'a>(
        &mut self,
        wanted: impl Fn(&Watch) -> bool,
        find: impl Finder<'a>,
    ) -> io::Result<()> {
        for held in self.delays.take(|number| find(number).is_some_and(&wanted)) {
            if let Some(watch) = find(held.watch) {
                watch.listener.answer(&mut self.messages, held.call.id, Answer::Continue)?;
            }
        }
        Ok(())
    }

    /// Forgets what waited at a listener that has no processes any more.
    pub(super) fn forget(&mut self, number: u64) {
        self.delays.take(|it| it == number);
    }

    /// Kills everyone who waits.
    pub(super) fn kill_callers<'a>(&mut self, find: impl Finder<'a>) -> io::Result<()> {
        let delayed = self.delays.take(|_| true).into_iter().map(|held| (held.watch, held.call));
        let waiting: Vec<_> = self.received.drain(..).chain(delayed).collect();
        for (number, call) in waiting {
            if let Some(watch) = find(number) {
                watch.listener.kill_caller(&call)?;
            }
        }
        Ok(())
    }
}
