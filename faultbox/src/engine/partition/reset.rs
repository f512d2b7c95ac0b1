//! Resetting a flow as the network does: by a segment with RST that seems to come from the peer.
//!
//! So both ends find what they would find had the other end's machine gone (`ECONNRESET`), and no
//! kernel option is needed. `SOCK_DESTROY` would need `CONFIG_INET_DIAG_DESTROY`, and its end says
//! `ECONNABORTED`. A receiver takes the segment only with the number of the next byte it waits
//! for (RFC 5961), which a program reads from the socket.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use faultbox_common::TCP;

/// Length of a TCP header without options.
const SEGMENT: usize = 20;
/// RST and ACK: a socket that still connects takes a reset only with an acknowledgement.
const FLAGS: u8 = 0x14;

/// The numbers of a socket that is to believe a reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    /// Of the next byte it waits for.
    pub(super) receives: u32,
    /// Of the next byte it sends.
    pub(super) sends: u32,
}

/// Sends resets in the network namespace that it was made in.
pub(super) struct Resetter {
    v4: OwnedFd,
    /// `None` where there is no IPv6.
    v6: Option<OwnedFd>,
}

impl Resetter {
    /// Needs `CAP_NET_RAW`.
    pub(super) fn new() -> io::Result<Self> {
        let v6 = match raw_socket(libc::AF_INET6) {
            Ok(socket) => Some(socket),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { v4: raw_socket(libc::AF_INET)?, v6 })
    }

    /// Resets the socket at `to`, in the name of its peer `from`.
    pub(super) fn reset(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        numbers: Numbers,
    ) -> io::Result<()> {
        let packet = packet(from, to, numbers);
        match (to, &self.v6) {
            (SocketAddr::V4(to), _) => {
                let address = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: 0,
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                    sin_zero: [0; 8],
                };
                send(&self.v4, &packet, &address)
            }
            (SocketAddr::V6(to), Some(socket)) => {
                let address = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    // Of a raw socket, the port is the protocol (ipv6(7)), and 0 is any.
                    sin6_port: 0,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                    sin6_scope_id: 0,
                };
                send(socket, &packet, &address)
            }
            (SocketAddr::V6(_), None) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        }
    }
}

/// A socket that sends packets with their header as they are (`raw(7)`).
fn raw_socket(family: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd =
        unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send<T>(socket: &OwnedFd, packet: &[u8], address: &T) -> io::Result<()> {
    // SAFETY: buffer and address live until the call returns, and are as long as it is told.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            std::ptr::from_ref(address).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The whole packet: a header of RFC 791 or RFC 8200, and one of RFC 9293.
fn packet(from: SocketAddr, to: SocketAddr, numbers: Numbers) -> Vec<u8> {
    let mut segment = Vec::with_capacity(SEGMENT);
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(numbers.receives.to_be_bytes());
    segment.extend(numbers.sends.to_be_bytes());
    // Length in words; flags; window, checksum and urgent pointer.
    segment.extend([(SEGMENT as u8 / 4) << 4, FLAGS, 0, 0, 0, 0, 0, 0]);
    let mut packet = match to.ip() {
        // The kernel fills in length, number and checksum (raw(7)).
        IpAddr::V4(_) => vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, TCP as u8, 0, 0],
        IpAddr::V6(_) => vec![0x60, 0, 0, 0, 0, SEGMENT as u8, TCP as u8, 64],
    };
    let mut summed = vec![0, TCP as u8, 0, SEGMENT as u8];
    for address in [from.ip(), to.ip()] {
        match address {
            IpAddr::V4(ip) => {
                packet.extend(ip.octets());
                summed.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                packet.extend(ip.octets());
                summed.extend(ip.octets());
            }
        }
    }
    summed.extend(&segment);
    segment[16..18].copy_from_slice(&checksum(&summed).to_be_bytes());
    packet.extend(segment);
    packet
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_packet_with_its_checksum_is_zero() {
        let numbers = Numbers { receives: 0x0102_0304, sends: 0xffff_fffe };
        let (from, to) = ("127.0.0.1:5432".parse().unwrap(), "127.0.0.1:40000".parse().unwrap());
        let packet = packet(from, to, numbers);
        assert_eq!(packet.len(), 40);
        let summed = [&[0, 6, 0, 20], &packet[12..]].concat();
        assert_eq!(checksum(&summed), 0);
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
