//! From the ring buffer to the sinks.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::JoinHandle,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use faultbox_common as common;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::super::{Decision, Errno, Object, Record, RecordSink, RuleId, Syscall, TargetId};

/// Who takes the records of each target.
#[derive(Default)]
pub(crate) struct Sinks(RwLock<HashMap<u32, Arc<dyn RecordSink>>>);

impl Sinks {
    pub(crate) fn add(&self, target: u32, sink: Arc<dyn RecordSink>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(target, sink);
    }

    pub(crate) fn remove(&self, target: u32) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&target);
    }

    fn deliver(&self, record: Record) {
        let sinks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        // A target that is gone has nobody left to tell.
        if let Some(sink) = sinks.get(&record.target.0) {
            sink.record(record);
        }
    }
}

/// Reads the ring buffer on a thread of its own, and on demand.
pub(crate) struct EventReader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    ring: Mutex<RingBuf<MapData>>,
    sinks: Arc<Sinks>,
    stop: EventFd,
}

impl EventReader {
    pub(crate) fn start(ring: RingBuf<MapData>, sinks: Arc<Sinks>) -> io::Result<Self> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        let fd = ring.as_fd().try_clone_to_owned()?;
        let shared = Arc::new(Shared { ring: Mutex::new(ring), sinks, stop });
        let reader = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("faultbox-events".into()).spawn(move || {
                loop {
                    let mut fds = [
                        PollFd::new(fd.as_fd(), PollFlags::POLLIN),
                        PollFd::new(reader.stop.as_fd(), PollFlags::POLLIN),
                    ];
                    let ready = poll(&mut fds, PollTimeout::NONE);
                    if ready.is_ok() && fds[1].any() == Some(true) {
                        return;
                    }
                    reader.drain();
                }
            })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Delivers everything that is in the buffer now.
    pub(crate) fn drain(&self) {
        self.shared.drain();
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        // An eventfd that was never written cannot be full.
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn drain(&self) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(item) = ring.next() {
            if let Some(record) = decode(&item) {
                self.sinks.deliver(record);
            }
        }
    }
}

/// Reads one event; `None` for one that does not have the form that the programs write.
fn decode(bytes: &[u8]) -> Option<Record> {
    let (header, path) = bytes.split_at_checked(size_of::<common::Event>())?;
    // SAFETY: long enough, and any bytes are a valid event: it consists of integers.
    let event: common::Event = unsafe { std::ptr::read_unaligned(header.as_ptr().cast()) };
    let object = match common::Object::from_raw(event.object) {
        common::Object::Ineligible | common::Object::Plain => Object::None,
        common::Object::File => Object::File(join(path, event.walked.into(), event.given.into())?),
        common::Object::Socket => Object::Socket(address(&event.peer)),
        common::Object::UnixSocket => Object::UnixSocket,
        common::Object::Fifo | common::Object::Stdio => Object::Stream,
    };
    let delay = Duration::from_nanos(event.delay);
    Some(Record {
        time: event.time,
        target: TargetId(event.target),
        pid: event.pid,
        tid: event.tid,
        syscall: Syscall::from_number(event.syscall)?,
        decision: match common::Decision::from_raw(event.decision) {
            // The programs leave it to us to tell the system's files from others.
            common::Decision::Allow if !delay.is_zero() => Decision::Delay(delay),
            common::Decision::Allow if is_system(&object) => Decision::AllowSystemPath,
            common::Decision::Allow => Decision::Allow,
            common::Decision::AllowDriver => Decision::AllowDriver,
            common::Decision::Deny => {
                Decision::Deny(Errno::from_raw(event.value.unsigned_abs().try_into().ok()?)?)
            }
            common::Decision::Return => Decision::Return(event.value),
            common::Decision::Crash => {
                Decision::Crash(i32::try_from(event.value).ok()?.try_into().ok()?)
            }
        },
        delay,
        rule: (event.rule != common::NO_RULE).then_some(RuleId(event.rule)),
        object,
        size: event.size,
    })
}

fn is_system(object: &Object) -> bool {
    let Object::File(path) = object else { return false };
    common::is_system_path(&common::Components::of(path.as_os_str().as_bytes()))
}

fn address(peer: &common::Peer) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(peer.address);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    (peer.port != 0).then(|| SocketAddr::new(ip, peer.port))
}

/// Puts a path together from names, innermost first, and what the program gave relative to them.
fn join(bytes: &[u8], walked: usize, given: usize) -> Option<PathBuf> {
    let names = bytes.get(..walked)?.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut path = PathBuf::from("/");
    path.extend(names.collect::<Vec<_>>().into_iter().rev().map(OsStr::from_bytes));
    let given = bytes.get(walked..walked + given)?;
    let given = given.split(|&byte| byte == 0).next().unwrap_or_default();
    // An absolute path replaces what was there, as it does for the kernel.
    if !given.is_empty() {
        path.push(OsStr::from_bytes(given));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_from_the_inside_out() {
        assert_eq!(join(b"a.wal\0tmp\0", 10, 0), Some("/tmp/a.wal".into()));
        assert_eq!(join(b"tmp\0a.wal\0", 4, 6), Some("/tmp/a.wal".into()));
        assert_eq!(join(b"tmp\0/etc/x\0", 4, 7), Some("/etc/x".into()));
        assert_eq!(join(b"", 0, 0), Some("/".into()));
        assert_eq!(join(b"tmp", 9, 0), None);
    }

    #[test]
    fn short_events_are_dropped() {
        assert!(decode(&[0; 8]).is_none());
    }
}
