//! Connecting to a peer.

use crate::connection::{Connection, wait};
use crate::sockaddr::RawAddress;
use crate::system_call::checked;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

/// Connects to `address` (`host:port`), waiting at most `timeout` after `connect(2)` returned.
///
/// The socket does not block while it connects. That way an error that `connect` itself reports
/// is the caller's result at once, and time spent inside the call, such as an injected delay,
/// is not taken from the timeout. `localhost` means 127.0.0.1 and then `::1`.
///
/// # Errors
/// The error of the first address: a later one says little about what is wrong with the peer.
pub fn dial(address: &str, timeout: Duration) -> io::Result<Connection> {
    let mut first_error = None;
    for candidate in resolve(address)? {
        match dial_one(candidate, timeout) {
            Ok(connection) => return Ok(connection),
            Err(error) => {
                let last_try = !may_answer_elsewhere(&error);
                first_error.get_or_insert(error);
                if last_try {
                    break;
                }
            }
        }
    }
    Err(first_error.unwrap_or_else(|| invalid(address, "has no address")))
}

/// Whether the error is about this one address, so that the next one deserves a try. A timeout
/// is not: trying on would double the wait that the caller allowed.
fn may_answer_elsewhere(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::ENETUNREACH
                | libc::EHOSTUNREACH
        )
    )
}

fn dial_one(address: SocketAddr, timeout: Duration) -> io::Result<Connection> {
    let raw = RawAddress::from(address);
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(raw.family(), kind, 0) };
    checked(fd)?;
    // SAFETY: `socket` returned this descriptor, and nothing else holds it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let (pointer, length) = raw.as_ptr();
    // SAFETY: pointer and length describe `raw`, which outlives the call.
    match checked(unsafe { libc::connect(socket.as_raw_fd(), pointer, length) }) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            wait(socket.as_raw_fd(), libc::POLLOUT, Instant::now() + timeout)?;
            pending_error(&socket)?;
        }
        Err(error) => return Err(error),
    }
    block_again(&socket)?;
    Ok(Connection::new(socket))
}

/// How a connection attempt in the background ended (connect(2), `EINPROGRESS`).
fn pending_error(socket: &OwnedFd) -> io::Result<()> {
    let mut code: libc::c_int = 0;
    let mut length = mem::size_of_val(&code) as libc::socklen_t;
    // SAFETY: both pointers are to initialised values that outlive the call, and `length` is
    // the size of the first.
    checked(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            ptr::from_mut(&mut code).cast(),
            &raw mut length,
        )
    })?;
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Blocking from here on: an `EAGAIN` can then only be an injected one, and is reported as such.
fn block_again(socket: &OwnedFd) -> io::Result<()> {
    let mut off: libc::c_int = 0;
    // SAFETY: FIONBIO reads one int, which outlives the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw mut off) })
}

/// The socket addresses behind `host:port`. `localhost` and literals are answered without
/// opening a file, so that a fault on `openat` cannot turn into a name that does not resolve.
fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    let (host, port) =
        address.rsplit_once(':').ok_or_else(|| invalid(address, "has no port; write host:port"))?;
    let port = port
        .parse::<u16>()
        .map_err(|_| invalid(address, "has a port that is not a number up to 65535"))?;
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ]);
    }
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::from((ip, port))]),
        Err(_) => Ok((host, port).to_socket_addrs()?.collect()),
    }
}

fn invalid(address: &str, problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("address {address:?} {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn resolved(address: &str) -> Vec<String> {
        let found = resolve(address).unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn localhost_is_both_loopback_addresses_and_literals_are_themselves() {
        assert_eq!(resolved("localhost:80"), ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(resolved("LocalHost:80"), ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(resolved("127.0.0.2:1"), ["127.0.0.2:1"]);
        assert_eq!(resolved("[::1]:9"), ["[::1]:9"]);
    }

    #[test]
    fn an_address_that_cannot_be_read_is_quoted() {
        for bad in ["localhost", "localhost:", "localhost:70000", ""] {
            let error = resolve(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_the_first_address_and_says_so() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let error = dial(&format!("localhost:{port}"), Duration::from_secs(2)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn a_peer_on_ipv6_alone_is_reached_through_localhost() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else {
            // A machine without IPv6 has no such peer.
            return;
        };
        let port = listener.local_addr().unwrap().port();
        dial(&format!("localhost:{port}"), Duration::from_secs(2)).unwrap();
    }

    #[test]
    fn a_peer_that_never_accepts_costs_no_more_than_the_timeout() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: no pointers. Once its short queue is full, a listener ignores whoever calls.
        checked(unsafe { libc::listen(silent.as_raw_fd(), 1) }).unwrap();
        let address = silent.local_addr().unwrap();
        let mut held = Vec::new();
        let start = Instant::now();
        let timeout = Duration::from_millis(100);
        let error = (0..100).find_map(|_| match dial_one(address, timeout) {
            Ok(connection) => {
                held.push(connection);
                None
            }
            Err(error) => Some(error),
        });
        let error = error.expect("the queue of a listener is finite");
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
