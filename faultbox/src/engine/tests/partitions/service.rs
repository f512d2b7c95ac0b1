//! Services whose sockets are a test's to use, and what is asserted of them.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike as _, SockaddrStorage, bind, connect,
    listen, socket,
};

use super::{
    super::{
        super::{
            ActivePartition, Choice, Driver, Engine, Options, Partition, PartitionDirection,
            PartitionMode, PartitionSide, Target,
        },
        Kept,
        subject::{TestCgroup, inside, result},
    },
    switch::Namespace,
};

/// More than anything takes here, however slow the machine.
pub(super) const LONG: Duration = Duration::from_secs(15);
/// How long something is watched that must not happen.
pub(super) const WHILE: Duration = Duration::from_millis(150);

/// Where a service runs.
#[derive(Clone)]
pub(super) struct Home {
    /// `None`: the test's own.
    namespace: Option<Namespace>,
    /// Where others reach it.
    ips: [IpAddr; 2],
    /// Whether nobody else is there.
    is_alone: bool,
}

impl Home {
    /// The loopback of the test's network namespace.
    pub(super) fn shared_loopback() -> Self {
        let ips = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Self { namespace: None, ips, is_alone: false }
    }

    /// A network namespace that is one service's.
    pub(super) fn own(namespace: &Namespace) -> Self {
        Self { is_alone: true, ..Self::shared(namespace) }
    }

    /// One that is several services'.
    pub(super) fn shared(namespace: &Namespace) -> Self {
        let ips = [namespace.v4().into(), namespace.v6().into()];
        Self { namespace: Some(namespace.clone()), ips, is_alone: false }
    }

    /// Does something there.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.namespace {
            Some(namespace) => namespace.inside(work),
            None => work(),
        }
    }
}

/// A service without a process: its sockets are ours to use.
pub(super) struct Service {
    pub(super) target: Target,
    pub(super) cgroup: TestCgroup,
    pub(super) home: Home,
    pub(super) listener: TcpListener,
}

impl Service {
    /// Listens at all addresses there; port 0: at any port.
    pub(super) fn new(engine: &Engine, name: &str, home: Home, port: u16) -> Self {
        let cgroup = TestCgroup::new(name);
        let target =
            engine.target(name, Some(cgroup.path()), Driver::default(), Kept::new()).unwrap();
        let socket = home.inside(|| {
            let socket = socket_of(&cgroup, libc::AF_INET6, libc::SOCK_STREAM);
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            bind(socket.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
            listen(&socket, Backlog::new(64).unwrap()).unwrap();
            socket
        });
        Self { target, cgroup, home, listener: TcpListener::from(socket) }
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Where others reach it.
    pub(super) fn address(&self) -> SocketAddr {
        (self.home.ips[0], self.port()).into()
    }

    /// The same over IPv6.
    pub(super) fn address_v6(&self) -> SocketAddr {
        (self.home.ips[1], self.port()).into()
    }

    pub(super) fn side(&self) -> PartitionSide {
        let Home { namespace, ips, is_alone } = &self.home;
        let loopback = (Ipv4Addr::LOCALHOST, self.port()).into();
        PartitionSide {
            target: self.target.id(),
            addresses: vec![self.address(), self.address_v6(), loopback],
            network: namespace.as_ref().map(Namespace::file),
            hosts: if *is_alone { ips.to_vec() } else { Vec::new() },
        }
    }

    /// A flow that this service opens to another: its own end and the other's.
    pub(super) fn dial(&self, other: &Self) -> (TcpStream, TcpStream) {
        self.dial_at(other, other.address())
    }

    /// The same at one of the other's addresses.
    pub(super) fn dial_at(&self, other: &Self, address: SocketAddr) -> (TcpStream, TcpStream) {
        let socket = self.socket_for(address);
        connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        other.accepts(socket)
    }

    /// The end of a connection, and the other that is accepted here.
    fn accepts(&self, socket: OwnedFd) -> (TcpStream, TcpStream) {
        let near = TcpStream::from(socket);
        let dialer = near.local_addr().unwrap();
        loop {
            // Others may have dialed and hung up.
            let (far, peer) = self.listener.accept().unwrap();
            if (peer.ip().to_canonical(), peer.port()) == (dialer.ip(), dialer.port()) {
                return (near, far);
            }
        }
    }

    /// One that can be connected there.
    pub(super) fn socket_for(&self, address: SocketAddr) -> OwnedFd {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        self.home.inside(|| socket_of(&self.cgroup, family, libc::SOCK_STREAM))
    }

    pub(super) fn datagrams(&self) -> UdpSocket {
        let socket = self.home.inside(|| {
            let socket = socket_of(&self.cgroup, libc::AF_INET, libc::SOCK_DGRAM);
            let any = SocketAddr::new(self.home.ips[0], 0);
            bind(socket.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
            socket
        });
        UdpSocket::from(socket)
    }

    /// What `connect` returns to a process of this service, `-EINPROGRESS` for a silent peer.
    pub(super) fn connects(&self, to: SocketAddr) -> i64 {
        self.home.inside(|| connects_in(&self.cgroup, to, Duration::from_millis(300)))
    }

    /// The same of one that is patient.
    pub(super) fn connects_at_last(&self, to: SocketAddr) -> i64 {
        self.home.inside(|| connects_in(&self.cgroup, to, LONG))
    }

    /// What connects of one that dials for a while, over IPv4, come to.
    pub(super) fn dials_for(&self, to: SocketAddr, time: Duration) -> Dialed {
        self.home.inside(|| dials_in(&self.cgroup, to, time))
    }

    /// What sending a datagram over IPv4 returns to a process of this service.
    pub(super) fn sends(&self, to: SocketAddr) -> i64 {
        self.home.inside(|| sends_in(&self.cgroup, to))
    }

    /// A flow from a test's step to this service: the step's end and the service's.
    pub(super) fn driven(&self, source: IpAddr, to: IpAddr) -> (TcpStream, TcpStream) {
        let socket = self.home.inside(|| {
            let (family, flags) = (AddressFamily::Inet, SockFlag::SOCK_CLOEXEC);
            socket(family, SockType::Stream, flags, None).unwrap()
        });
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0))).unwrap();
        let to = SocketAddr::new(to, self.port());
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
        self.accepts(socket)
    }
}

/// Creates a socket in a process of the cgroup that shares our descriptors: it belongs to the
/// cgroup for good.
pub(super) fn socket_of(cgroup: &TestCgroup, family: i32, kind: i32) -> OwnedFd {
    let procs = cgroup.path().join("cgroup.procs");
    let procs = std::ffi::CString::new(procs.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: without a stack this is a fork, of which the child makes plain calls and exits.
    unsafe {
        let flags = libc::CLONE_FILES | libc::CLONE_VFORK | libc::SIGCHLD;
        match libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as i32 {
            0 => {
                let entry = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                let entered = libc::write(entry, c"0".as_ptr().cast(), 1);
                libc::close(entry);
                let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, 0);
                // The status has room for a byte only.
                libc::_exit(if entered == 1 && (0..255).contains(&fd) { fd } else { 255 })
            }
            pid => {
                let mut status = 0;
                assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
                let fd = libc::WEXITSTATUS(status);
                assert!(libc::WIFEXITED(status) && fd < 255, "no socket: {status:#x}");
                OwnedFd::from_raw_fd(fd)
            }
        }
    }
}

/// What `sendto` returns to a process of the cgroup.
fn sends_in(cgroup: &TestCgroup, to: SocketAddr) -> i64 {
    let address = SockaddrStorage::from(to);
    inside(cgroup.path(), |out| {
        // SAFETY: plain calls on our own buffers.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            let data = c"x".as_ptr().cast();
            let sent = libc::sendto(fd, data, 1, 0, address.as_ptr(), address.len());
            out[0] = result(sent as i64);
        }
    })[0]
}

fn connects_in(cgroup: &TestCgroup, to: SocketAddr, patience: Duration) -> i64 {
    let address = SockaddrStorage::from(to);
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    inside(cgroup.path(), |out| out[0] = dial(family, &address, patience))[0]
}

/// How many connects came to what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialed {
    pub(super) connected: i64,
    pub(super) refused: i64,
    /// Without an answer to their first packet, which is sent again after a second.
    pub(super) silent: i64,
}

fn dials_in(cgroup: &TestCgroup, to: SocketAddr, time: Duration) -> Dialed {
    let address = SockaddrStorage::from(to);
    let results = inside(cgroup.path(), |out| {
        let begin = Instant::now();
        while begin.elapsed() < time {
            match dial(libc::AF_INET, &address, Duration::from_millis(900)) {
                SILENCE => out[2] += 1,
                REFUSED => out[1] += 1,
                0 => out[0] += 1,
                // Reset as soon as it was there.
                _ => {}
            }
        }
    });
    Dialed { connected: results[0], refused: results[1], silent: results[2] }
}

/// What `connect` returns; allocates nothing.
fn dial(family: i32, address: &SockaddrStorage, patience: Duration) -> i64 {
    let wait = libc::timeval {
        tv_sec: patience.as_secs() as libc::time_t,
        tv_usec: patience.subsec_micros().into(),
    };
    // SAFETY: plain calls on our own buffers.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM, 0);
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_SNDTIMEO,
            (&raw const wait).cast(),
            size_of::<libc::timeval>() as u32,
        );
        let connected = result(libc::connect(fd, address.as_ptr(), address.len()).into());
        libc::close(fd);
        connected
    }
}

/// `a`, `b` and a third.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) a: Service,
    pub(super) b: Service,
    pub(super) c: Service,
}

impl World {
    /// On one loopback.
    pub(super) fn new(name: &str) -> Self {
        let home = Home::shared_loopback();
        Self::at(name, [(&home, 0), (&home, 0), (&home, 0)])
    }

    /// Elsewhere, at these ports.
    pub(super) fn at(name: &str, [a, b, c]: [(&Home, u16); 3]) -> Self {
        let options = Options { choice: Choice::Seccomp, ..Options::default() };
        let engine = Engine::start(&options).unwrap();
        let service = |which: &str, (home, port): (&Home, u16)| {
            Service::new(&engine, &format!("{name}-{which}"), home.clone(), port)
        };
        Self { a: service("a", a), b: service("b", b), c: service("c", c), engine }
    }

    pub(super) fn cut(
        &self,
        mode: PartitionMode,
        direction: PartitionDirection,
    ) -> ActivePartition {
        let (a, b) = (self.a.side(), self.b.side());
        self.engine.partition(&Partition { a, b, mode, direction }).unwrap()
    }

    /// Flows of the third and of nobody to `b`, which no partition of these tests is about.
    pub(super) fn strangers(&self) -> Vec<(TcpStream, TcpStream)> {
        let driver = TcpStream::connect(self.b.address()).unwrap();
        let accepted = self.b.listener.accept().unwrap().0;
        vec![self.c.dial(&self.b), (driver, accepted)]
    }
}

pub(super) const REFUSED: i64 = -(libc::ECONNREFUSED as i64);
/// What a connect of which nothing is heard has come to after a while.
pub(super) const SILENCE: i64 = -(libc::EINPROGRESS as i64);

/// Asserts that a byte written at one end arrives at the other.
#[track_caller]
pub(super) fn passes((from, to): (&TcpStream, &TcpStream)) {
    (&*from).write_all(b"x").unwrap();
    arrives(to);
}

#[track_caller]
pub(super) fn arrives(mut at: &TcpStream) {
    at.set_read_timeout(Some(LONG)).unwrap();
    at.read_exact(&mut [0]).unwrap();
}

#[track_caller]
pub(super) fn stays_away(mut from: &TcpStream) {
    from.set_read_timeout(Some(WHILE)).unwrap();
    let error = from.read_exact(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
}

#[track_caller]
pub(super) fn is_reset(mut end: &TcpStream) {
    end.set_read_timeout(Some(LONG)).unwrap();
    let error = end.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}
