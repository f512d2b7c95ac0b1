//! What a socket is, and who is at its other end.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use faultbox_common::{Driver, Object, Peer};
use nix::errno::Errno;

/// A socket as rules and records see it.
pub(super) struct Socket {
    pub(super) object: Object,
    pub(super) peer: Peer,
    /// For the record.
    pub(super) address: Option<SocketAddr>,
}

impl Socket {
    /// One that no rule may hit.
    pub(super) const INELIGIBLE: Self =
        Self { object: Object::Ineligible, peer: NOBODY, address: None };

    /// A TCP or UDP socket with this peer.
    pub(super) fn to(address: Option<SocketAddr>, driver: &Driver) -> Self {
        let peer = match address {
            Some(address) => Peer::new(mapped(address), address.port(), driver),
            None => NOBODY,
        };
        Self { object: Object::Socket, peer, address }
    }
}

const NOBODY: Peer = Peer { address: [0; 16], port: 0, loopback: 0, driver: 0, reserved: 0 };

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`.
fn mapped(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

/// Looks at an open socket. `None`: it is none.
pub(super) fn look(socket: &OwnedFd, driver: &Driver) -> io::Result<Option<Socket>> {
    match look_closely(socket, driver) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::ENOTSOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn look_closely(socket: &OwnedFd, driver: &Driver) -> Result<Socket, Errno> {
    let peer = name(socket, libc::getpeername)?;
    let domain = match &peer {
        Some(peer) => peer.family(),
        None => option(socket, libc::SO_DOMAIN)?,
    };
    if domain == libc::AF_UNIX {
        let named = peer.is_some_and(|peer| peer.is_more_than_a_family())
            || name(socket, libc::getsockname)?.is_some_and(|own| own.is_more_than_a_family());
        let object = if named { Object::UnixSocket } else { Object::Ineligible };
        return Ok(Socket { object, ..Socket::INELIGIBLE });
    }
    let is_internet = domain == libc::AF_INET || domain == libc::AF_INET6;
    let kind = option(socket, libc::SO_TYPE)?;
    if !is_internet || (kind != libc::SOCK_STREAM && kind != libc::SOCK_DGRAM) {
        return Ok(Socket::INELIGIBLE);
    }
    let peer = match peer {
        Some(peer) => parse(peer.bytes()),
        None => former_peer(socket, domain)?,
    };
    Ok(Socket::to(peer, driver))
}

/// Whether `connect(2)` on this socket goes over a connection.
pub(super) fn is_stream(socket: &OwnedFd) -> io::Result<bool> {
    Ok(option(socket, libc::SO_TYPE)? == libc::SOCK_STREAM)
}

fn option(socket: &OwnedFd, name: i32) -> Result<i32, Errno> {
    let mut value = 0i32;
    let mut length = size_of::<i32>() as libc::socklen_t;
    let (level, to) = (libc::SOL_SOCKET, (&raw mut value).cast());
    // SAFETY: `value` is as long as `length` says.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, to, &raw mut length) };
    Errno::result(result)?;
    Ok(value)
}

/// The other end of a TCP socket that is not connected any more, or not yet. `getpeername(2)`
/// does not tell, but `SO_PEERNAME` does: a connection that the driver broke is still the
/// driver's.
fn former_peer(socket: &OwnedFd, domain: i32) -> Result<Option<SocketAddr>, Errno> {
    let mut storage = [0u8; size_of::<libc::sockaddr_in6>()];
    // Must not be longer than the address is.
    let mut length = if domain == libc::AF_INET {
        size_of::<libc::sockaddr_in>() as libc::socklen_t
    } else {
        size_of::<libc::sockaddr_in6>() as libc::socklen_t
    };
    let (level, name, to) = (libc::SOL_SOCKET, libc::SO_PEERNAME, storage.as_mut_ptr().cast());
    // SAFETY: `storage` is at least as long as `length` says.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, to, &raw mut length) };
    match Errno::result(result) {
        Ok(_) => Ok(parse(&storage[..length as usize])),
        Err(Errno::ENOTCONN) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A `sockaddr_in` or `sockaddr_in6`; `None` for any other or a cut one.
pub(super) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match family {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((ip, port)))
        }
        libc::AF_INET6 => {
            // After four bytes of flow information.
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SocketAddr::from((ip, port)))
        }
        _ => None,
    }
}

/// An address as the kernel gives it.
struct Name {
    storage: [u8; size_of::<libc::sockaddr_un>()],
    length: usize,
}

impl Name {
    fn bytes(&self) -> &[u8] {
        &self.storage[..self.length]
    }

    fn family(&self) -> i32 {
        i32::from(u16::from_ne_bytes([self.storage[0], self.storage[1]]))
    }

    /// An `AF_UNIX` socket without a name has only that; abstract names count.
    fn is_more_than_a_family(&self) -> bool {
        self.length > std::mem::offset_of!(libc::sockaddr_un, sun_path)
    }
}

type GetName =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

/// The name of this end or of that end; `None`: there is no that end.
fn name(socket: &OwnedFd, end: GetName) -> Result<Option<Name>, Errno> {
    let mut storage = [0; size_of::<libc::sockaddr_un>()];
    let mut length = storage.len() as libc::socklen_t;
    // SAFETY: `storage` is as long as `length` says.
    let result = unsafe { end(socket.as_raw_fd(), storage.as_mut_ptr().cast(), &raw mut length) };
    match Errno::result(result) {
        // The kernel says how long the whole is, even if that is more than it wrote.
        Ok(_) => Ok(Some(Name { storage, length: storage.len().min(length as usize) })),
        // The latter: families that know no names, such as `AF_ALG`.
        Err(Errno::ENOTCONN | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}
