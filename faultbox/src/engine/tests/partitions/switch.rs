//! Network namespaces that a bridge joins, as a container engine makes them. Gone with their last
//! descriptor.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
    sync::Arc,
    thread,
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// A network namespace, with a device `eth0` where it is joined to others.
#[derive(Clone)]
pub(super) struct Namespace {
    file: Arc<File>,
    /// Where the bridge is, which would be gone without it.
    _hub: Option<Arc<File>>,
    number: u8,
}

impl Namespace {
    /// One whose loopback is up.
    fn new(number: u8, hub: Option<&Self>) -> Self {
        let create = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            raise("lo");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let file = thread::scope(|scope| scope.spawn(create).join().unwrap());
        Self { file: Arc::new(file), _hub: hub.map(Self::file), number }
    }

    /// Its descriptor.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Does something there.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let visit = || {
            setns(&*self.file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(visit).join().unwrap())
    }

    pub(super) fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 66, 98, self.number)
    }

    pub(super) fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd66, 0x98, 0, 0, 0, 0, 0, self.number.into())
    }
}

/// As many network namespaces as asked for, joined by a bridge in one more. `None`, and said, where the kernel cannot do that.
pub(super) fn joined<const COUNT: usize>() -> Option<[Namespace; COUNT]> {
    let hub = Namespace::new(0, None);
    let made = hub.inside(|| {
        let mut kind = Vec::new();
        attribute(&mut kind, IFLA_INFO_KIND, b"bridge");
        link(libc::RTM_NEWLINK, CREATE, 0, 0, &[(IFLA_IFNAME, b"br0"), (IFLA_LINKINFO, &kind)])
    });
    let first = Namespace::new(1, Some(&hub));
    if let Err(error) = made.and_then(|()| hub.inside(|| first.plug_in())) {
        eprintln!("NOT TESTED: this kernel joins no network namespaces (veth, bridge): {error}");
        return None;
    }
    hub.inside(|| raise("br0"));
    first.set_up();
    let namespaces = std::array::from_fn(|i| {
        if i == 0 {
            return first.clone();
        }
        let next = Namespace::new(i as u8 + 1, Some(&hub));
        hub.inside(|| next.plug_in()).unwrap();
        next.set_up();
        next
    });
    Some(namespaces)
}

impl Namespace {
    /// A pair of devices: `eth0` there, and a port of the bridge here.
    fn plug_in(&self) -> io::Result<()> {
        let name = format!("port{}", self.number);
        let mut peer = device(0, 0);
        attribute(&mut peer, IFLA_IFNAME, b"eth0");
        attribute(&mut peer, IFLA_NET_NS_FD, &self.file.as_raw_fd().to_ne_bytes());
        let (mut data, mut kind) = (Vec::new(), Vec::new());
        attribute(&mut data, VETH_INFO_PEER, &peer);
        attribute(&mut kind, IFLA_INFO_KIND, b"veth");
        attribute(&mut kind, IFLA_INFO_DATA, &data);
        let attributes: [(u16, &[u8]); 2] =
            [(IFLA_IFNAME, name.as_bytes()), (IFLA_LINKINFO, &kind)];
        link(libc::RTM_NEWLINK, CREATE, 0, 0, &attributes)?;
        let bridge = if_nametoindex("br0")?.to_ne_bytes();
        let port = if_nametoindex(name.as_str())?;
        link(libc::RTM_SETLINK, 0, port, libc::IFF_UP as u32, &[(IFLA_MASTER, &bridge)])
    }

    /// Gives `eth0` its addresses, and has the kernel check sources strictly (`rp_filter`), which
    /// is what many machines do.
    fn set_up(&self) {
        self.inside(|| {
            raise("eth0");
            add_address(&self.v4().octets(), 24);
            add_address(&self.v6().octets(), 64);
            for device in ["all", "lo", "eth0"] {
                let setting = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
                fs::write(setting, "1").unwrap();
            }
        });
    }
}

/// Switches a device of the calling thread's network namespace on.
pub(super) fn raise(name: &str) {
    let index = if_nametoindex(name).unwrap();
    link(libc::RTM_SETLINK, 0, index, libc::IFF_UP as u32, &[]).unwrap();
}

/// Of `include/uapi/linux/if_link.h` and its kin.
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// Creates or changes a device (`rtnetlink(7)`).
fn link(
    kind: u16,
    flags: i32,
    index: u32,
    state: u32,
    attributes: &[(u16, &[u8])],
) -> io::Result<()> {
    let mut body = device(index, state);
    for (name, value) in attributes {
        attribute(&mut body, *name, value);
    }
    request(kind, flags, &body)
}

/// Adds an address to `eth0`.
fn add_address(address: &[u8], prefix: u8) {
    let family = if address.len() == 4 { libc::AF_INET } else { libc::AF_INET6 };
    // `struct ifaddrmsg`: family, prefix length, flags, scope, index of the device.
    let mut body = vec![family as u8, prefix, libc::IFA_F_NODAD as u8, 0];
    body.extend(if_nametoindex("eth0").unwrap().to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, address);
    attribute(&mut body, IFA_ADDRESS, address);
    request(libc::RTM_NEWADDR, CREATE, &body).unwrap();
}

/// A `struct ifinfomsg`: family, type, index, flags and which of them to change.
fn device(index: u32, state: u32) -> Vec<u8> {
    let words = [0, index, state, state];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Appends a `struct rtattr`: its length, its type, the value, and padding.
fn attribute(to: &mut Vec<u8>, name: u16, value: &[u8]) {
    to.extend((value.len() as u16 + 4).to_ne_bytes());
    to.extend(name.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn request(kind: u16, flags: i32, body: &[u8]) -> io::Result<()> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
    let mut message = (body.len() as u32 + 16).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
    let netlink = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match i32::from_ne_bytes(answer[..length][16..20].try_into().unwrap()) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
