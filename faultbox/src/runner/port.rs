//! Who listens on a port already: a test must never talk to a stranger.

use std::{
    fmt, fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    path::Path,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
    },
};

/// Somebody who listens on a port that a service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occupant {
    /// The port.
    pub(crate) port: u16,
    /// Process id and name, when the right to look them up is there.
    pub(crate) process: Option<(u32, String)>,
}

impl fmt::Display for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} already in use", self.port)?;
        match &self.process {
            Some((pid, name)) => write!(f, " by pid {pid} ({name})"),
            None => Ok(()),
        }
    }
}

/// Looks for a listener on this port in the calling thread's network namespace.
pub(crate) fn occupant(port: u16) -> Option<Occupant> {
    // The tables that name the owner take the kernel milliseconds to print, so trying comes first.
    let addresses = [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ];
    let taken = match addresses.map(try_to_bind) {
        [Ok(()), Ok(())] => return None,
        results => results.contains(&Err(Errno::EADDRINUSE)),
    };
    match (listening(port), taken) {
        (Some(inode), _) => Some(Occupant { port, process: owner(inode) }),
        (None, true) => Some(Occupant { port, process: None }),
        // Not allowed to try, or no such family here; nobody listens.
        (None, false) => None,
    }
}

/// Binds the way servers do, past connections that linger but not past a listener (`ip(7)`).
fn try_to_bind(address: SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
}

/// The inode of the socket that listens on this port (`proc_net(5)`).
fn listening(port: u16) -> Option<u64> {
    ["tcp", "tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        text.lines().skip(1).find_map(|line| listener(line, port))
    })
}

/// The inode of the socket in this line of the table, if it listens on the port.
fn listener(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTEN;
    if is_it { fields.get(9)?.parse().ok() } else { None }
}

/// The process that has the socket open.
fn owner(inode: u64) -> Option<(u32, String)> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
            descriptors
                .flatten()
                .any(|entry| fs::read_link(entry.path()).is_ok_and(|it| it == Path::new(&link)))
        })
        .map(|pid| (pid, name_of(pid)))
}

/// The name of a process, as `ps -o comm` prints it.
pub(crate) fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port_and_named() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = TcpListener::bind(address).unwrap();
            let port = socket.local_addr().unwrap().port();
            let found = occupant(port).unwrap();
            assert_eq!(found.process.as_ref().unwrap().0, std::process::id());
            let text = found.to_string();
            assert!(text.starts_with(&format!("port {port} already in use by pid ")), "{text}");
            drop(socket);
            assert_eq!(occupant(port), None);
        }
    }
}
