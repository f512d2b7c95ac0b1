//! What a waiting call works on: user space's half of language.md 1.9.4. The kernel's half is in
//! `faultbox-ebpf/src/call.rs`, and both must say the same.

use std::{
    ffi::OsString,
    io,
    os::{fd::RawFd, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
};

use faultbox_common::{Call, Components, Driver, Object, Operand, Peer, is_system_path};

use super::{
    caller::{Caller, OpenFile},
    notification::Notification,
    socket::{self, Socket},
};
use crate::engine::{Syscall, record};

/// A call as rules see it, and its object as records show it.
pub(super) struct Seen {
    pub(super) call: Call,
    pub(super) shown: record::Object,
}

impl Seen {
    /// The path of the file that it works on, or nothing.
    pub(super) fn path(&self) -> &[u8] {
        match &self.shown {
            record::Object::File(path) => path.as_os_str().as_encoded_bytes(),
            _ => &[],
        }
    }

    /// Whether that is one of the system's own.
    pub(super) fn is_system(&self) -> bool {
        self.call.object == Object::File && is_system_path(&Components::of(self.path()))
    }

    fn new(object: Object, shown: record::Object) -> Self {
        Self { call: Call { object, peer: Peer::default() }, shown }
    }

    fn ineligible() -> Self {
        Self::new(Object::Ineligible, record::Object::None)
    }

    fn at(path: PathBuf) -> Self {
        Self::new(Object::File, record::Object::File(path))
    }

    fn socket(socket: &Socket) -> Self {
        let shown = match socket.object {
            Object::Socket => record::Object::Socket(socket.address),
            Object::UnixSocket => record::Object::UnixSocket,
            _ => record::Object::None,
        };
        Self { call: Call { object: socket.object, peer: socket.peer }, shown }
    }
}

/// From where to look.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) caller: &'a Caller,
    /// Whether the caller may see the file system from another root than ours.
    pub(super) has_own_root: bool,
    pub(super) driver: &'a Driver,
}

impl View<'_> {
    /// A path from our root as one from the caller's.
    fn as_seen(&self, path: PathBuf) -> io::Result<PathBuf> {
        if self.has_own_root { self.caller.as_seen(path) } else { Ok(path) }
    }
}

/// Looks at the operand of a waiting call. An error means that the caller has ended, or that we
/// may not look.
pub(super) fn look(
    view: View<'_>,
    syscall: Syscall,
    notification: &Notification,
) -> io::Result<Seen> {
    let (operand, index) = syscall.operand();
    let argument = notification.arguments[index as usize];
    // Descriptors are `int`s; the upper half of the register is not looked at.
    let before = || notification.arguments[index as usize - 1] as RawFd;
    match operand {
        Operand::None => Ok(Seen::new(Object::Plain, record::Object::None)),
        Operand::Fd => look_at_descriptor(view, argument as RawFd),
        Operand::Path => look_at_path(view, argument, libc::AT_FDCWD),
        Operand::PathAt => look_at_path(view, argument, before()),
        Operand::Address => {
            let length = notification.arguments[index as usize + 1];
            look_at_address(view, before(), argument, length)
        }
    }
}

fn look_at_descriptor(view: View<'_>, descriptor: RawFd) -> io::Result<Seen> {
    let is_output = descriptor == 1 || descriptor == 2;
    if view.caller.was_socket(descriptor)
        && !is_output
        && let Some(fd) = view.caller.duplicate(descriptor)?
        && let Some(socket) = socket::look(&fd, view.driver)?
    {
        return Ok(Seen::socket(&socket));
    }
    let Some(file) = view.caller.file(descriptor)? else {
        return Ok(Seen::ineligible());
    };
    let link = file.link.as_os_str().as_encoded_bytes();
    let is_pipe = link.starts_with(b"pipe:");
    if matches!(file.kind, libc::S_IFREG | libc::S_IFDIR) {
        return Ok(Seen::at(view.as_seen(path_of(file))?));
    }
    let mut seen = Seen::ineligible();
    if file.is_socket() {
        let Some(fd) = view.caller.duplicate(descriptor)? else {
            return Ok(seen);
        };
        if let Some(socket) = socket::look(&fd, view.driver)? {
            seen = Seen::socket(&socket);
        }
    } else if file.kind == libc::S_IFIFO {
        seen = Seen::new(Object::Fifo, record::Object::Stream);
    }
    if seen.call.object == Object::Ineligible && (is_output || (descriptor == 0 && is_pipe)) {
        seen = Seen::new(Object::Stdio, record::Object::Stream);
    }
    Ok(seen)
}

/// `/proc` marks files without a name.
fn path_of(file: OpenFile) -> PathBuf {
    let mut path = file.link.into_os_string().into_vec();
    if file.is_deleted
        && let Some(length) = path.strip_suffix(b" (deleted)").map(<[u8]>::len)
    {
        path.truncate(length);
    }
    OsString::from_vec(path).into()
}

fn look_at_path(view: View<'_>, address: u64, directory: RawFd) -> io::Result<Seen> {
    let caller = view.caller;
    let given = PathBuf::from(OsString::from_vec(caller.read_path(address)?));
    if given.is_absolute() {
        return Ok(Seen::at(given));
    }
    let base = if directory == libc::AT_FDCWD {
        caller.working_directory()?
    } else {
        // Without such a directory the call will fail by itself.
        caller.file(directory)?.map(path_of).unwrap_or_default()
    };
    let base = view.as_seen(base)?;
    Ok(Seen::at(if given == Path::new("") { base } else { base.join(given) }))
}

/// `connect(2)`: stream sockets over IPv4 and IPv6 only, and the address asked for as the peer.
fn look_at_address(
    view: View<'_>,
    descriptor: RawFd,
    address: u64,
    length: u64,
) -> io::Result<Seen> {
    let caller = view.caller;
    let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
    let length = bytes.len().min(length as usize);
    let n = caller.read(address, &mut bytes[..length])?;
    let Some(address) = socket::parse(&bytes[..n]) else {
        return Ok(Seen::ineligible());
    };
    let Some(file) = caller.file(descriptor)? else {
        return Ok(Seen::ineligible());
    };
    if !file.is_socket() {
        return Ok(Seen::ineligible());
    }
    let Some(fd) = caller.duplicate(descriptor)? else {
        return Ok(Seen::ineligible());
    };
    if !socket::is_stream(&fd)? {
        return Ok(Seen::ineligible());
    }
    Ok(Seen::socket(&Socket::to(Some(address), view.driver)))
}
