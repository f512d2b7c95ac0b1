//! The TCP sockets of a network namespace, as `proc_net_tcp` of the kernel's documentation has
//! them.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// `TCP_SYN_SENT` of `include/net/tcp_states.h`.
const SYN_SENT: u32 = 2;
/// `TCP_LISTEN` of `include/net/tcp_states.h`.
pub(super) const LISTEN: u32 = 10;
/// Those that have a peer and can be reset: `ESTABLISHED`, `SYN_SENT`, `FIN_WAIT1`, `FIN_WAIT2`,
/// `CLOSE_WAIT`, `LAST_ACK`, `CLOSING`. A `TIME_WAIT` is over, and a `SYN_RECV` is no socket yet.
const LIVE: [u32; 7] = [1, 2, 4, 5, 8, 9, 11];

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    /// Its own address.
    pub(super) local: SocketAddr,
    /// Its peer's.
    pub(super) remote: SocketAddr,
    /// As in `include/net/tcp_states.h`.
    pub(super) state: u32,
}

impl Socket {
    /// Whether it waits for connections.
    pub(super) fn listens(&self) -> bool {
        self.state == LISTEN
    }

    /// Whether it waits for the answer to its first packet.
    pub(super) fn is_dialing(&self) -> bool {
        self.state == SYN_SENT
    }

    /// Whether its flow is to be reset.
    pub(super) fn is_live(&self) -> bool {
        LIVE.contains(&self.state)
    }
}

/// All TCP sockets of the calling thread's network namespace.
pub(super) fn sockets() -> io::Result<Vec<Socket>> {
    let mut sockets = parse(&fs::read_to_string("/proc/thread-self/net/tcp")?);
    match fs::read_to_string("/proc/thread-self/net/tcp6") {
        Ok(table) => sockets.extend(parse(&table)),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

/// The lines below the headline; what is not as documented is left out.
fn parse(table: &str) -> Vec<Socket> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        Some(Socket {
            local: address(fields.next()?)?,
            remote: address(fields.next()?)?,
            state: u32::from_str_radix(fields.next()?, 16).ok()?,
        })
    });
    rows.collect()
}

/// `0100007F:1538`: words of the address as this processor reads them, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (words, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = words.get(at..at + 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    };
    let ip = match words.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (i, bytes) in octets.chunks_exact_mut(4).enumerate() {
                bytes.copy_from_slice(&word(i * 8)?);
            }
            // An IPv6 socket with an IPv4 peer sends IPv4 packets.
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        for here in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(here) else {
                assert!(here.starts_with('['), "this machine has no loopback");
                continue;
            };
            let there = listener.local_addr().unwrap();
            let client = TcpStream::connect(there).unwrap();
            let found = sockets().unwrap();
            let local = client.local_addr().unwrap();
            for (local, remote) in [(local, there), (there, local)] {
                assert!(found.contains(&Socket { local, remote, state: 1 }), "{local} {remote}");
            }
            let listening = found.iter().find(|it| it.local == there && it.listens()).unwrap();
            assert!(!listening.is_live());
        }
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        let mapped = address("0000000000000000FFFF00000100007F:0050").unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(mapped, "127.0.0.1:80".parse().unwrap());
        }
        assert_eq!(address("0100007F"), None);
        assert_eq!(address("01:50"), None);
    }
}
