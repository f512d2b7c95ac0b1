//! The ids by which one network namespace knows another (`ip-netns(8)`): programs look up sockets
//! elsewhere by them.
//!
//! An id is a number in the kernel's books and changes nothing for whoever is in either namespace;
//! the kernel forgets it with the namespace that it is of. It is asked for by netlink
//! (`rtnetlink(7)`, `net/core/net_namespace.c`).

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Of `include/uapi/linux/net_namespace.h`.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// Length of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of a `struct rtgenmsg` with its padding.
const FAMILY: usize = 4;
/// In place of an id: none yet; in a request for one: any.
const NONE: i32 = -1;

/// The id of a network namespace in that of the calling thread; it gets one if it has none.
/// Needs `CAP_NET_ADMIN` there.
pub(super) fn id_of(network: &File) -> io::Result<u32> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    if let Ok(id) = u32::try_from(known(&netlink, network)?) {
        return Ok(id);
    }
    let answer = ask(&netlink, libc::RTM_NEWNSID, libc::NLM_F_ACK, Some(NONE), network)?;
    match error(&answer) {
        // Somebody else was faster.
        Some(0 | libc::EEXIST) => {}
        Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
        None => return Err(unexpected()),
    }
    u32::try_from(known(&netlink, network)?).map_err(|_| unexpected())
}

/// The id that it has, or [`NONE`].
fn known(netlink: &OwnedFd, network: &File) -> io::Result<i32> {
    let answer = ask(netlink, libc::RTM_GETNSID, 0, None, network)?;
    match error(&answer) {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => id_in(&answer).ok_or_else(unexpected),
    }
}

/// Sends a request about a network namespace; the result is the kernel's first message.
fn ask(
    netlink: &OwnedFd,
    kind: u16,
    flags: i32,
    id: Option<i32>,
    network: &File,
) -> io::Result<Vec<u8>> {
    let mut request = vec![0; HEADER + FAMILY];
    for (name, value) in [(NETNSA_NSID, id), (NETNSA_FD, Some(network.as_raw_fd()))] {
        if let Some(value) = value {
            // `struct rtattr`: its length, its type, the value.
            request.extend(8u16.to_ne_bytes());
            request.extend(name.to_ne_bytes());
            request.extend(value.to_ne_bytes());
        }
    }
    // `struct nlmsghdr`: length, type, flags; then sequence number and sender, which may be zero.
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    // Without an address the message is the kernel's.
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = vec![0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// Which errno a message brings; 0: success; `None`: it is none about that.
fn error(message: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(message.get(HEADER..HEADER + 4)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(-code)
}

/// The id that an answer brings.
fn id_in(message: &[u8]) -> Option<i32> {
    let mut rest = message.get(HEADER + FAMILY..)?;
    loop {
        let length = u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?);
        let name = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if name == NETNSA_NSID {
            return Some(i32::from_ne_bytes(rest.get(4..8)?.try_into().ok()?));
        }
        rest = rest.get(usize::from(length).next_multiple_of(4).max(4)..)?;
    }
}

fn unexpected() -> io::Error {
    io::Error::other("the kernel's answer about a network namespace cannot be read")
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn a_network_namespace_gets_an_id_and_keeps_it() {
        let two = thread::spawn(|| {
            [(), ()].map(|()| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            })
        });
        let [one, other] = two.join().unwrap();
        let ids = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            [&one, &other, &one, &other].map(|it| id_of(it).unwrap())
        });
        let ids = ids.join().unwrap();
        assert_eq!(ids[..2], ids[2..]);
        assert_ne!(ids[0], ids[1]);
        // What is not a network namespace has none.
        assert!(id_of(&File::open("/proc/self/ns/pid").unwrap()).is_err());
    }
}
