//! A network namespace for one run: its services' ports clash with nothing on this machine.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, socket},
};

use crate::engine::Driver;

/// Where steps and healthchecks dial from, so that the kernel side can tell them from services.
/// Any address in 127/8 is local without further ado (`ip(7)`).
const DRIVER_V4: Ipv4Addr = Ipv4Addr::new(127, 66, 98, 1);
/// The same for IPv6, whose loopback is one address only; from the range for private use.
const DRIVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd66, 0x6175, 0x6c74, 0, 0, 0, 0, 1);

/// The calling thread's namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Moves the calling thread, with all threads and processes it will start, into a new network
/// namespace (`network_namespaces(7)`) whose only device, the loopback, is up. Gone with the last
/// of them. Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`; the thread stays where it is without.
///
/// Returns the driver's addresses there.
pub(crate) fn enter() -> io::Result<Driver> {
    let before = File::open(OWN)?;
    unshare(CloneFlags::CLONE_NEWNET)?;
    if let Err(error) = raise_loopback() {
        // Without CAP_NET_ADMIN the namespace is of no use: back to where ports can be reached.
        setns(before, CloneFlags::CLONE_NEWNET)?;
        return Err(error);
    }
    let v6 = match add_loopback_address(DRIVER_V6) {
        Ok(()) => DRIVER_V6.octets(),
        // A kernel without IPv6 needs no address there.
        Err(_) => [0; 16],
    };
    Ok(Driver { v6, ..host() })
}

/// The same, and a descriptor by which other threads [`join`] it. It is there until nobody is in it
/// and the descriptor is closed.
pub(crate) fn make() -> io::Result<(OwnedFd, Driver)> {
    let before = File::open(OWN)?;
    let driver = enter()?;
    let made = File::open(OWN);
    // Staying keeps it until the next is made. There is no way back into another user namespace's.
    let _ = setns(before, CloneFlags::CLONE_NEWNET);
    Ok((made?.into(), driver))
}

/// Moves the calling thread, with all threads and processes it will start, into a namespace.
pub(crate) fn join(namespace: &OwnedFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// The driver's addresses in the host's namespace, where none can be added.
pub(crate) fn host() -> Driver {
    Driver { v4: DRIVER_V4.to_ipv6_mapped().octets(), v6: [0; 16] }
}

fn control_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

/// `ip link set lo up` (`netdevice(7)`).
fn raise_loopback() -> io::Result<()> {
    let socket = control_socket(AddressFamily::Inet)?;
    // SAFETY: a structure of integers and a union of plain data; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `ip address add …/128 dev lo nodad` (`rtnetlink(7)`). The loopback is always the first device.
///
/// By netlink and not by `SIOCSIFADDR`, which knows no flags: without `IFA_F_NODAD` an address is
/// tentative, and cannot be used, until a worker of the kernel has come round to it.
fn add_loopback_address(address: Ipv6Addr) -> io::Result<()> {
    const HEADER: usize = 16;
    const LENGTH: u16 = 44;
    let mut request = Vec::with_capacity(LENGTH.into());
    // `struct nlmsghdr`: length, type, flags, sequence number, sender (the kernel fills it in).
    request.extend(u32::from(LENGTH).to_ne_bytes());
    request.extend(libc::RTM_NEWADDR.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    request.extend((flags as u16).to_ne_bytes());
    request.extend([0; 8]);
    // `struct ifaddrmsg`: family, prefix length, flags, scope, index of the device.
    request.extend([libc::AF_INET6 as u8, 128, libc::IFA_F_NODAD as u8, 0]);
    request.extend(1u32.to_ne_bytes());
    // `struct rtattr`: its length, its type, the address.
    request.extend(20u16.to_ne_bytes());
    request.extend(libc::IFA_ADDRESS.to_ne_bytes());
    request.extend(address.octets());

    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    // Without an address the message is the kernel's.
    nix::sys::socket::send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 128];
    let length = nix::sys::socket::recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // `struct nlmsgerr` starts with zero or a negated errno.
    let error = answer[..length].get(HEADER..HEADER + 4).and_then(|it| it.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel's answer is cut short")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::*;

    #[test]
    fn a_namespace_has_a_loopback_and_the_drivers_addresses_and_clashes_with_nothing() {
        if !nix::unistd::geteuid().is_root() {
            let _ =
                writeln!(std::io::stderr(), "NOT TESTED: creating a network namespace needs root");
            return;
        }
        let outside = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = outside.local_addr().unwrap().port();
        thread::spawn(move || {
            let driver = enter().unwrap();
            let inside = TcpListener::bind(("127.0.0.1", port)).unwrap();
            TcpStream::connect(("127.0.0.1", port)).unwrap();
            assert!(inside.accept().is_ok());
            for address in [driver.v4, driver.v6] {
                let address = Ipv6Addr::from(address);
                assert!(!address.is_unspecified());
                TcpListener::bind((address.to_canonical(), 0)).unwrap();
            }
        })
        .join()
        .unwrap();
    }
}
