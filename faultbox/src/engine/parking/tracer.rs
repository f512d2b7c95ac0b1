//! What the tracer does: hold every thread that a program parks, and release it in time.
//!
//! The rules for a tracee that stops at a signal:
//! - our signal, sent by the kernel as the thread's [`Park`] says, for a time to come: it stays
//!   stopped, unless another signal waits that it would take first;
//! - our signal when that time is over: released at once;
//! - a SIGSTOP by the kernel that nobody expects: swallowed. It is ours and came late, and would
//!   stop the service for good;
//! - anything else is not our business and delivered as if we were not there.
//!
//! A thread that is released early, for a signal's sake, runs the signal's handler if there is
//! one, enters its call again and is parked for the rest of the time by the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd as _,
};

use aya::maps::{MapData, RingBuf};
use faultbox_common::{WAKE_SEIZE, WAKE_SIGNAL, Wake};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{signalfd::SignalFd, time::TimeSpec},
};

use super::{
    clock::now,
    message::{Control, Reply, Request},
    ptrace,
    seize::Tracees,
    stop::Stop,
    table::ParkTable,
};

/// How the kernel marks a signal that it sends itself (`include/uapi/asm-generic/siginfo.h`).
const SI_KERNEL: i32 = 0x80;
const SIGSTOP: u32 = libc::SIGSTOP as u32;

/// How long a process that could not be seized is left alone when its calls are not delayed, in
/// nanoseconds: each of them says so.
const LEFT_ALONE: u64 = 100_000_000;
/// How often an idle tracer looks whether it may end, in nanoseconds.
const IDLE_LOOK: u64 = 5_000_000;

/// A thread that is held.
struct Held {
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    until: u64,
    /// The signal to release it with, or 0.
    with: u32,
}

/// The tracer's state. It serves on the thread that made it, whom ptrace binds the tracees to.
pub(super) struct Tracer {
    table: ParkTable,
    wakes: RingBuf<MapData>,
    control: Control,
    /// SIGCHLD, which is blocked.
    children: SignalFd,
    tracees: Tracees,
    held: BTreeMap<u32, Held>,
    /// The same threads by their time.
    deadlines: BTreeSet<(u64, u32)>,
    /// Processes that could not be seized, and until when they are left alone.
    unseizable: BTreeMap<u32, u64>,
    is_idle: bool,
}

impl Tracer {
    pub(super) fn new(
        table: ParkTable,
        wakes: RingBuf<MapData>,
        control: Control,
        children: SignalFd,
    ) -> Self {
        Self {
            table,
            wakes,
            control,
            children,
            tracees: Tracees::default(),
            held: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unseizable: BTreeMap::new(),
            is_idle: false,
        }
    }

    /// Serves until nobody needs it, or the runner is gone: then it returns at once, and the
    /// caller must end the process, which frees everyone who is held.
    pub(super) fn serve(mut self) -> io::Result<()> {
        loop {
            self.take_stops();
            self.release_due();
            if self.is_idle && self.is_done() {
                return Ok(());
            }
            let [children, control, wakes] = self.wait()?;
            if children {
                // How often is of no interest, `waitpid(2)` knows who.
                while let Ok(Some(_)) = self.children.read_signal() {}
            }
            if wakes {
                self.take_wakes();
            }
            if control && let Err(error) = self.take_requests() {
                self.leave();
                return Err(error);
            }
        }
    }

    /// Waits for something to happen or the next time to come. Returns whether there is something
    /// from tracees, the runner and the programs.
    fn wait(&self) -> io::Result<[bool; 3]> {
        let next = self.deadlines.first().map(|(until, _)| *until);
        let next =
            if self.is_idle { Some(next.unwrap_or(u64::MAX).min(now() + IDLE_LOOK)) } else { next };
        let left = next.map(|at| {
            let left = std::time::Duration::from_nanos(at.saturating_sub(now()));
            TimeSpec::from_duration(left)
        });
        let ring = self.wakes.as_fd();
        let mut fds = [self.children.as_fd(), self.control.as_fd(), ring]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match ppoll(&mut fds, left, None) {
            Ok(_) => Ok(fds.map(|fd| fd.any() == Some(true))),
            Err(Errno::EINTR) => Ok([false; 3]),
            Err(error) => Err(error.into()),
        }
    }

    /// Deals with every tracee that has stopped or ended.
    fn take_stops(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: the kernel writes one status.
            let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
            // 0: nobody has; ECHILD: there are no tracees.
            if tid <= 0 {
                return;
            }
            let tid = tid as u32;
            self.forget_hold(tid);
            if let Some(stop) = Stop::of(status) {
                self.at_stop(tid, stop);
            }
        }
    }

    fn at_stop(&mut self, tid: u32, stop: Stop) {
        match stop {
            Stop::Ended => {
                self.tracees.remove(tid);
                // The id will be another thread's, and the table is for the living.
                self.table.remove(tid);
                return;
            }
            Stop::Signal(signal) => self.at_signal(tid, signal),
            Stop::Group => ptrace::listen(tid),
            Stop::Born => {
                if let Ok(child) = ptrace::event_message(tid) {
                    self.tracees.add(child);
                }
                ptrace::resume(tid, 0);
            }
            Stop::Executed => {
                // The other threads are gone. Only the caller's own end is not reported, if it
                // has taken the leader's place.
                if let Ok(former) = ptrace::event_message(tid)
                    && former != tid
                {
                    self.tracees.remove(former);
                    self.table.remove(former);
                }
                ptrace::resume(tid, 0);
            }
            Stop::Other => ptrace::resume(tid, 0),
        }
        // A new tracee may be heard of before its parent's event is.
        self.tracees.add(tid);
    }

    fn at_signal(&mut self, tid: u32, signal: u32) {
        // Killed meanwhile: its end will be reported.
        let Ok(code) = ptrace::signal_code(tid) else { return };
        if code != SI_KERNEL {
            return ptrace::resume(tid, signal);
        }
        match self.table.get(tid) {
            Some(park) if park.signal == signal && park.until != 0 => {
                let with = if park.deliver != 0 { signal } else { 0 };
                if park.until <= now() || has_waiting_signal(tid) {
                    ptrace::resume(tid, with);
                } else {
                    self.held.insert(tid, Held { until: park.until, with });
                    self.deadlines.insert((park.until, tid));
                }
            }
            _ if signal == SIGSTOP => ptrace::resume(tid, 0),
            _ => ptrace::resume(tid, signal),
        }
    }

    fn forget_hold(&mut self, tid: u32) -> Option<Held> {
        let held = self.held.remove(&tid)?;
        self.deadlines.remove(&(held.until, tid));
        Some(held)
    }

    fn release(&mut self, tid: u32) {
        if let Some(held) = self.forget_hold(tid) {
            ptrace::resume(tid, held.with);
        }
    }

    fn release_due(&mut self) {
        while let Some(&(until, tid)) = self.deadlines.first()
            && until <= now()
        {
            self.release(tid);
        }
    }

    /// Reads what the programs say.
    fn take_wakes(&mut self) {
        while let Some(wake) = self.next_wake() {
            match wake.kind {
                WAKE_SEIZE => self.seize_latecomer(wake.pid),
                WAKE_SIGNAL => self.make_way(&wake),
                _ => {}
            }
        }
    }

    fn next_wake(&mut self) -> Option<Wake> {
        let item = self.wakes.next()?;
        if item.len() < size_of::<Wake>() {
            return Some(Wake::default());
        }
        // SAFETY: long enough, and any bytes are a valid record: it consists of integers.
        Some(unsafe { std::ptr::read_unaligned(item.as_ptr().cast()) })
    }

    /// Seizes a process that came into the cgroup by another way than birth.
    fn seize_latecomer(&mut self, pid: u32) {
        if self.unseizable.get(&pid).is_some_and(|until| now() < *until) {
            return;
        }
        let mut refusals = Vec::new();
        while self.tracees.seize_process(pid, &mut refusals) > 0 {}
        if refusals.is_empty() {
            self.unseizable.remove(&pid);
        } else {
            // The runner sees it by the count of calls that should have been delayed.
            self.unseizable.retain(|_, until| now() < *until);
            self.unseizable.insert(pid, now() + LEFT_ALONE);
        }
    }

    /// Releases a thread that will take a signal, early. If another thread of the process takes
    /// it, nothing is lost. A thread that stops only after this looks for signals itself.
    fn make_way(&mut self, wake: &Wake) {
        if wake.tid != 0 {
            return self.release(wake.tid);
        }
        let waiting: Vec<_> = self.held.keys().copied().collect();
        let chosen = waiting.into_iter().find(|tid| {
            self.tracees.process(*tid) == Some(wake.pid)
                && ptrace::blocked(*tid).is_ok_and(|mask| mask & ptrace::bit(wake.signal) == 0)
        });
        if let Some(tid) = chosen {
            self.release(tid);
        }
    }

    /// Does what the runner wants. An error: it is gone.
    fn take_requests(&mut self) -> io::Result<()> {
        while let Some(request) = self.control.request()? {
            match request {
                Request::Idle => self.is_idle = true,
                Request::Seize(cgroup) => {
                    self.is_idle = false;
                    let mut refusals = Vec::new();
                    let seized = self.tracees.seize_cgroup(&cgroup, &mut refusals);
                    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
                    self.control.reply(&Reply {
                        errno: seized.as_ref().err().map_or(0, errno),
                        seized: seized.unwrap_or(0),
                        refusals,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Whether nobody is held, nor will be by a signal that is on its way or by the rest of a
    /// delay that was interrupted.
    fn is_done(&self) -> bool {
        let now = now();
        let waits = |(tid, park): &(u32, faultbox_common::Park)| {
            park.until > now && self.tracees.contains(*tid)
        };
        self.held.is_empty() && !self.table.entries().iter().any(waits)
    }

    /// Leaves as little as possible behind for the kernel's detaching.
    fn leave(&mut self) {
        // A SIGSTOP that has been waited for is gone; one that has not stops the process.
        self.take_stops();
        // Detaching would lose the signal that may have merged with ours.
        let owed: Vec<_> =
            self.held.iter().filter(|(_, held)| held.with != 0).map(|(tid, _)| *tid).collect();
        for tid in owed {
            self.release(tid);
        }
    }
}

/// Whether a stopped thread would take another signal if it could.
fn has_waiting_signal(tid: u32) -> bool {
    let mask = || Some(ptrace::pending(tid).ok()? & !ptrace::blocked(tid).ok()?);
    mask().is_some_and(|mask| mask != 0)
}
