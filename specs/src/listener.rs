//! Listening on a port of both IP families, one thread per connection.

use crate::connection::Connection;
use crate::sockaddr::RawAddress;
use crate::system_call::checked;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many connections the kernel queues before one is accepted.
const BACKLOG: libc::c_int = 128;

/// The pause after a failed `accept`: the connection that caused it may still be queued, so an
/// immediate retry would spin for as long as a fault lasts.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// Connection threads need little; a small stack keeps 300 services cheap.
const STACK_BYTES: usize = 256 * 1024;

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens on `port` of every local address: one IPv6 socket that also takes IPv4
    /// (`IPV6_V6ONLY` off, ipv6(7)), or an IPv4 socket where the machine has no IPv6.
    ///
    /// # Errors
    /// What `socket`, `bind` or `listen` returned; `EADDRINUSE` if the port is taken.
    pub fn on_port(port: u16) -> io::Result<Self> {
        match Self::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            Err(error) if lacks_ipv6(&error) => {
                Self::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            outcome => outcome,
        }
    }

    fn bind(address: SocketAddr) -> io::Result<Self> {
        let raw = RawAddress::from(address);
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::socket(raw.family(), libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        checked(fd)?;
        // SAFETY: `socket` returned this descriptor, and nothing else holds it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        if address.is_ipv6() {
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        }
        let (pointer, length) = raw.as_ptr();
        // SAFETY: pointer and length describe `raw`, which outlives the call.
        checked(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) })?;
        // SAFETY: no pointers.
        checked(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        Ok(Self { socket })
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Whatever `accept4(2)` returned; the listener stays usable.
    pub fn accept(&self) -> io::Result<Connection> {
        // SAFETY: the manual page allows null for an address that nobody wants.
        let fd = unsafe {
            libc::accept4(
                self.socket.as_raw_fd(),
                ptr::null_mut(),
                ptr::null_mut(),
                libc::SOCK_CLOEXEC,
            )
        };
        checked(fd)?;
        // SAFETY: `accept4` returned this descriptor, and nothing else holds it.
        Ok(Connection::new(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Hands every connection to `handle` on a thread of its own, until the process ends.
    /// No failure of one connection, nor of `accept`, ends the service.
    pub fn serve(self, handle: impl Fn(&Connection) + Send + Sync + 'static) -> ! {
        let handle = Arc::new(handle);
        loop {
            let Ok(connection) = self.accept() else {
                thread::sleep(PAUSE_AFTER_FAILURE);
                continue;
            };
            let handle = Arc::clone(&handle);
            let spawned =
                thread::Builder::new().stack_size(STACK_BYTES).spawn(move || handle(&connection));
            if spawned.is_err() {
                // The connection went down with the closure, so its client sees the end of the
                // stream; the pause lets other threads finish.
                thread::sleep(PAUSE_AFTER_FAILURE);
            }
        }
    }
}

/// Whether `error` says that there is no IPv6 here: not compiled in, or switched off.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the pointer is to an initialised int that outlives the call, and the length is its.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            ptr::from_ref(&value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    })
}
