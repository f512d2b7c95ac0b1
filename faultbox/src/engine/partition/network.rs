//! Network namespaces (`network_namespaces(7)`): what is there, and doing something there.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{IpAddr, SocketAddrV4, SocketAddrV6},
    os::unix::fs::MetadataExt as _,
    panic::resume_unwind,
    sync::Arc,
    thread,
};

use nix::{
    ifaddrs::getifaddrs,
    sched::{CloneFlags, setns},
};

/// A network namespace, which lives at least as long as this.
#[derive(Clone, Debug)]
pub(super) struct Network {
    file: Arc<File>,
    /// Device and inode, by which the kernel tells namespaces apart (`namespaces(7)`).
    id: (u64, u64),
    /// The addresses that its devices had when this was made.
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Network {
    /// That of an open `/proc/PID/ns/net`, or else of the calling thread.
    pub(super) fn new(file: Option<&Arc<File>>) -> io::Result<Self> {
        let file = match file {
            Some(file) => Arc::clone(file),
            None => Arc::new(File::open("/proc/thread-self/ns/net")?),
        };
        let id = id(&file)?;
        let mut network = Self { file, id, addresses: BTreeSet::new() };
        network.addresses = network.inside(addresses)??;
        Ok(network)
    }

    /// Its descriptor.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Does something there: on a thread that enters it, unless the calling one is there already.
    /// Needs `CAP_SYS_ADMIN`.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if id(&File::open("/proc/thread-self/ns/net")?)? == self.id {
            return Ok(work());
        }
        let visit = || {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        thread::scope(|scope| scope.spawn(visit).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Whether packets to an address stay there.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }
}

fn id(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The addresses of the calling thread's network namespace.
fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = getifaddrs()?.filter_map(|device| {
        let address = device.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(*SocketAddrV4::from(*it).ip()));
        v4.or_else(|| Some(IpAddr::V6(*SocketAddrV6::from(*address.as_sockaddr_in6()?).ip())))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use nix::sched::unshare;

    use super::*;

    #[test]
    fn what_is_done_inside_is_done_there_and_only_that() {
        let here = Network::new(None).unwrap();
        assert!(here.has(Ipv4Addr::LOCALHOST.into()));
        let there = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Network::new(None).unwrap()
        });
        let there = there.join().unwrap();
        assert_ne!(here, there);
        assert_eq!(there.addresses, BTreeSet::new());
        let current = || Network::new(None).unwrap();
        assert_eq!(there.inside(current).unwrap(), there);
        assert_eq!(current(), here);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dial = || TcpStream::connect(listener.local_addr().unwrap()).map(drop);
        here.inside(dial).unwrap().unwrap();
        there.inside(dial).unwrap().unwrap_err();
        assert_eq!(here.inside(|| thread::current().id()).unwrap(), thread::current().id());
    }
}
