//! Partitions on the real kernel: sockets that belong to the cgroups of two services, of a third,
//! and to nobody.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::socket::{SockaddrStorage, bind, connect, listen};

use super::{
    super::{
        ActivePartition, Choice, Driver, Engine, Options, Partition, PartitionCounts,
        PartitionDirection, PartitionMode, PartitionSide, Target,
        launch::tests::role::{ROLE, Role},
    },
    Kept,
    subject::{TestCgroup, inside, result},
};

use PartitionDirection::{AToB, BToA, Both};
use PartitionMode::{Drop as Vanish, Refuse};

/// More than anything takes here, however slow the machine.
const LONG: Duration = Duration::from_secs(15);
/// How long something is watched that must not happen.
const WHILE: Duration = Duration::from_millis(150);

/// A service without a process: its sockets are ours to use.
struct Service {
    target: Target,
    cgroup: TestCgroup,
    listener: TcpListener,
}

impl Service {
    fn new(engine: &Engine, name: &str) -> Self {
        let cgroup = TestCgroup::new(name);
        let target =
            engine.target(name, Some(cgroup.path()), Driver::default(), Kept::new()).unwrap();
        let socket = socket_of(&cgroup, libc::AF_INET6, libc::SOCK_STREAM);
        let any: SocketAddr = "[::]:0".parse().unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        listen(&socket, nix::sys::socket::Backlog::new(64).unwrap()).unwrap();
        Self { target, cgroup, listener: TcpListener::from(socket) }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    fn side(&self) -> PartitionSide {
        PartitionSide { target: self.target.id(), addresses: vec![self.address()] }
    }

    /// A flow that this service opens to another: its own end and the other's.
    fn dial(&self, other: &Self) -> (TcpStream, TcpStream) {
        let socket = socket_of(&self.cgroup, libc::AF_INET, libc::SOCK_STREAM);
        connect(socket.as_raw_fd(), &SockaddrStorage::from(other.address())).unwrap();
        (TcpStream::from(socket), other.listener.accept().unwrap().0)
    }

    fn datagrams(&self) -> UdpSocket {
        let socket = socket_of(&self.cgroup, libc::AF_INET, libc::SOCK_DGRAM);
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        UdpSocket::from(socket)
    }

    /// What `connect` returns to a process of this service, `-EINPROGRESS` for a silent peer.
    fn connects(&self, to: SocketAddr) -> i64 {
        connects_in(self.cgroup.path(), to)
    }
}

/// Creates a socket in a process of the cgroup that shares our descriptors: it belongs to the
/// cgroup for good.
fn socket_of(cgroup: &TestCgroup, family: i32, kind: i32) -> OwnedFd {
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

fn connects_in(cgroup: &Path, to: SocketAddr) -> i64 {
    let address = SockaddrStorage::from(to);
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    inside(cgroup, |out| {
        // SAFETY: plain calls on our own buffers.
        unsafe {
            let fd = libc::socket(family, libc::SOCK_STREAM, 0);
            let wait = libc::timeval { tv_sec: 0, tv_usec: 300_000 };
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_SNDTIMEO,
                (&raw const wait).cast(),
                size_of::<libc::timeval>() as u32,
            );
            let (start, length) =
                (nix::sys::socket::SockaddrLike::as_ptr(&address), address_len(to));
            out[0] = result(libc::connect(fd, start, length).into());
        }
    })[0]
}

fn address_len(address: SocketAddr) -> u32 {
    let length = if address.is_ipv4() {
        size_of::<libc::sockaddr_in>()
    } else {
        size_of::<libc::sockaddr_in6>()
    };
    length as u32
}

/// `a`, `b` and a third.
struct World {
    engine: Engine,
    a: Service,
    b: Service,
    c: Service,
}

impl World {
    fn new(name: &str) -> Self {
        let options = Options { choice: Choice::Seccomp, ..Options::default() };
        let engine = Engine::start(&options).unwrap();
        let service = |which: &str| Service::new(&engine, &format!("{name}-{which}"));
        Self { a: service("a"), b: service("b"), c: service("c"), engine }
    }

    fn cut(&self, mode: PartitionMode, direction: PartitionDirection) -> ActivePartition {
        let (a, b) = (self.a.side(), self.b.side());
        self.engine.partition(&Partition { a, b, mode, direction }).unwrap()
    }

    /// Flows of the third and of nobody to `b`, which no partition of these tests is about.
    fn strangers(&self) -> Vec<(TcpStream, TcpStream)> {
        let driver = TcpStream::connect(self.b.address()).unwrap();
        let accepted = self.b.listener.accept().unwrap().0;
        vec![self.c.dial(&self.b), (driver, accepted)]
    }
}

const REFUSED: i64 = -(libc::ECONNREFUSED as i64);

/// Asserts that a byte written at one end arrives at the other.
#[track_caller]
fn passes((from, to): (&TcpStream, &TcpStream)) {
    (&*from).write_all(b"x").unwrap();
    arrives(to);
}

#[track_caller]
fn arrives(mut at: &TcpStream) {
    at.set_read_timeout(Some(LONG)).unwrap();
    at.read_exact(&mut [0]).unwrap();
}

#[track_caller]
fn stays_away(mut from: &TcpStream) {
    from.set_read_timeout(Some(WHILE)).unwrap();
    let error = from.read_exact(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
}

#[track_caller]
fn is_reset(mut end: &TcpStream) {
    end.set_read_timeout(Some(LONG)).unwrap();
    let error = end.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

#[test]
fn connects_are_refused_between_the_two_and_nobody_else() {
    let world = World::new("refuse");
    let World { a, b, c, .. } = &world;
    let spellings = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"];
    let to = |service: &Service, ip: &str| SocketAddr::new(ip.parse().unwrap(), service.port());
    let partition = world.cut(Refuse, Both);
    for ip in spellings {
        assert_eq!(a.connects(to(b, ip)), REFUSED, "{ip}");
        assert_eq!(b.connects(to(a, ip)), REFUSED, "{ip}");
        assert_eq!(c.connects(to(b, ip)), 0, "{ip}");
        assert_eq!(b.connects(to(c, ip)), 0, "{ip}");
        TcpStream::connect(to(a, ip)).unwrap();
    }
    let counts = partition.heal();
    assert_eq!(counts, PartitionCounts { refused: 8, ..PartitionCounts::default() });
    assert_eq!(counts.hits(), 8);
    for ip in spellings {
        assert_eq!(a.connects(to(b, ip)), 0, "{ip}");
        assert_eq!(b.connects(to(a, ip)), 0, "{ip}");
    }
}

#[test]
fn open_flows_are_reset_at_both_ends_whoever_opened_them() {
    let world = World::new("reset");
    let World { a, b, .. } = &world;
    let strangers = world.strangers();
    let flows = [a.dial(b), b.dial(a)];
    // One that waits to be accepted, and one over IPv6.
    let waiting = socket_of(&a.cgroup, libc::AF_INET, libc::SOCK_STREAM);
    connect(waiting.as_raw_fd(), &SockaddrStorage::from(b.address())).unwrap();
    let six = socket_of(&a.cgroup, libc::AF_INET6, libc::SOCK_STREAM);
    let to: SocketAddr = format!("[::1]:{}", b.port()).parse().unwrap();
    connect(six.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    for (near, far) in &flows {
        passes((near, far));
        passes((far, near));
    }
    let partition = world.cut(Refuse, Both);
    for (near, far) in &flows {
        is_reset(near);
        is_reset(far);
    }
    is_reset(&TcpStream::from(waiting));
    is_reset(&TcpStream::from(six));
    for _ in 0..2 {
        is_reset(&b.listener.accept().unwrap().0);
    }
    for (near, far) in &strangers {
        passes((near, far));
        passes((far, near));
    }
    assert_eq!(partition.heal().reset, 4);
    let (near, far) = a.dial(b);
    passes((&near, &far));
}

#[test]
fn one_way_only_what_that_side_opens_is_refused_and_reset() {
    for (direction, name) in [(AToB, "one-way"), (BToA, "other-way")] {
        let world = World::new(name);
        let (cut, spared) = match direction {
            AToB => (&world.a, &world.b),
            _ => (&world.b, &world.a),
        };
        let (opened, accepted) = cut.dial(spared);
        let (other, others) = spared.dial(cut);
        let partition = world.cut(Refuse, direction);
        is_reset(&opened);
        is_reset(&accepted);
        passes((&other, &others));
        passes((&others, &other));
        assert_eq!(cut.connects(spared.address()), REFUSED);
        assert_eq!(spared.connects(cut.address()), 0);
        let counts = partition.heal();
        assert_eq!((counts.refused, counts.reset, counts.hits()), (1, 1, 2));
    }
}

#[test]
fn packets_vanish_and_arrive_after_the_partition() {
    let world = World::new("drop");
    let World { a, b, c, .. } = &world;
    let (near, far) = a.dial(b);
    let (other, others) = b.dial(a);
    let strangers = world.strangers();
    let partition = world.cut(Vanish, Both);
    for mut end in [&near, &others] {
        end.write_all(b"a").unwrap();
    }
    (&far).write_all(b"b").unwrap();
    for end in [&near, &far, &other] {
        stays_away(end);
    }
    assert_eq!(a.connects(b.address()), -i64::from(libc::EINPROGRESS));
    assert_eq!(c.connects(b.address()), 0);
    for (near, far) in &strangers {
        passes((near, far));
        passes((far, near));
    }
    let counts = partition.heal();
    // Two that were open, and one that did not come to be; both ways of one count once.
    assert_eq!((counts.refused, counts.reset, counts.dropped), (0, 0, 3));
    assert!(counts.packets >= 4, "{counts:?}");
    for end in [&near, &far, &other] {
        arrives(end);
    }
}

#[test]
fn who_dies_while_packets_vanish_is_not_missed_before_the_end() {
    let world = World::new("dead");
    let (near, far) = world.a.dial(&world.b);
    // A socket with unread bytes is not closed but reset.
    (&far).write_all(b"unread").unwrap();
    near.peek(&mut [0]).unwrap();
    let partition = world.cut(Vanish, Both);
    drop(near);
    (&far).write_all(b"for nobody").unwrap();
    stays_away(&far);
    assert_eq!(partition.heal().dropped, 1);
    is_reset(&far);
}

#[test]
fn one_way_packets_of_one_side_vanish_and_the_other_sides_arrive() {
    let world = World::new("drop-one-way");
    let (near, far) = world.a.dial(&world.b);
    let (from, to) = (world.a.datagrams(), world.b.datagrams());
    for socket in [&from, &to] {
        socket.set_read_timeout(Some(WHILE)).unwrap();
    }
    let partition = world.cut(Vanish, AToB);
    (&near).write_all(b"a").unwrap();
    passes((&far, &near));
    stays_away(&far);
    // Who sends a datagram is told nothing.
    assert_eq!(from.send_to(b"a", to.local_addr().unwrap()).unwrap(), 1);
    assert_eq!(to.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    to.send_to(b"b", from.local_addr().unwrap()).unwrap();
    from.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(from.recv(&mut [0]).unwrap(), 1);
    assert_eq!(partition.heal().dropped, 2);
    arrives(&far);
}

#[test]
fn partitions_of_the_same_services_are_healed_one_by_one() {
    let world = World::new("several");
    let World { engine, a, b, c } = &world;
    let first = world.cut(Refuse, Both);
    let (mode, direction) = (Refuse, AToB);
    let other = Partition { a: a.side(), b: c.side(), mode, direction };
    let other = engine.partition(&other).unwrap();
    let second = world.cut(Refuse, AToB);
    let refused = || [a.connects(b.address()), b.connects(a.address()), a.connects(c.address())];
    assert_eq!(refused(), [REFUSED; 3]);
    first.heal();
    assert_eq!(refused(), [REFUSED, 0, REFUSED]);
    drop(second);
    assert_eq!(refused(), [0, 0, REFUSED]);
    assert_eq!(other.heal().refused, 3);
    assert_eq!(refused(), [0; 3]);
}

#[test]
fn without_a_cgroup_nothing_is_cut_and_the_error_says_why() {
    let world = World::new("no-cgroup");
    let target = world.engine.target("x", None, Driver::default(), Kept::new()).unwrap();
    let a = PartitionSide { target: target.id(), addresses: Vec::new() };
    let (b, mode, direction) = (world.b.side(), Vanish, Both);
    let partition = world.engine.partition(&Partition { a, b, mode, direction });
    assert_eq!(
        partition.err().unwrap().to_string(),
        "cutting traffic needs a cgroup for each service (cgroup v2, writable)"
    );
}

pub(in crate::engine) const ROLES: &[(&str, Role)] = &[("partition", cut_until_killed)];

/// Cuts off the cgroups from each other, of which the second has this port, and waits.
fn cut_until_killed(arguments: &[String]) -> i32 {
    let [a, b, port] = arguments else { return 1 };
    let engine = Engine::start(&Options { choice: Choice::Seccomp, ..Options::default() }).unwrap();
    let target = |path: &String| {
        engine.target("x", Some(Path::new(path)), Driver::default(), Kept::new()).unwrap()
    };
    let (a, b) = (target(a), target(b));
    let address = (Ipv4Addr::LOCALHOST, port.parse().unwrap()).into();
    let side = |target: &Target, addresses| PartitionSide { target: target.id(), addresses };
    let (a, b) = (side(&a, Vec::new()), side(&b, vec![address]));
    let _partition = engine.partition(&Partition { a, b, mode: Refuse, direction: Both }).unwrap();
    println!("on");
    loop {
        nix::unistd::pause();
    }
}

#[test]
fn a_partition_ends_with_the_process_that_made_it() {
    let world = World::new("killed");
    let World { a, b, .. } = &world;
    let path = |service: &Service| service.cgroup.path().to_str().unwrap().to_owned();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(ROLE, "partition")
        .env("FAULTBOX_TEST_ARGUMENTS", format!("{} {} {}", path(a), path(b), b.port()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "on\n");
    assert_eq!(a.connects(b.address()), REFUSED);
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel may take the programs off a moment after the process is gone.
    let begin = Instant::now();
    while a.connects(b.address()) != 0 {
        assert!(begin.elapsed() < LONG, "still refused");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives the loopback of this network namespace one more address (`netdevice(7)`).
fn add_address(alias: &str, address: Ipv4Addr) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // SAFETY: a structure of integers and a union of plain data; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(alias.bytes()) {
        *to = from as libc::c_char;
    }
    let plain = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes long.
    request.ifr_ifru.ifru_addr =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(plain) };
    // SAFETY: the call reads one `ifreq`, which lives until it returns.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR as _, &request) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: as above.
    let up = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) };
    assert_eq!(up, 0, "{}", io::Error::last_os_error());
}

#[test]
fn a_service_with_an_address_of_its_own_is_known_by_it() {
    let in_a_network_of_its_own = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let (own, others) = (Ipv4Addr::new(10, 66, 0, 1), Ipv4Addr::new(10, 66, 0, 2));
        add_address("lo", Ipv4Addr::LOCALHOST);
        add_address("lo:1", own);
        add_address("lo:2", others);
        let World { engine, a, b, c } = &World::new("address");
        let whole = |service: &Service, address: Ipv4Addr| PartitionSide {
            target: service.target.id(),
            addresses: vec![(address, 0).into()],
        };
        let dial = |service: &Service, source: Ipv4Addr, to: &Service, address: Ipv4Addr| {
            let socket = socket_of(&service.cgroup, libc::AF_INET, libc::SOCK_STREAM);
            let source = SocketAddr::from((source, 0));
            bind(socket.as_raw_fd(), &SockaddrStorage::from(source)).unwrap();
            let address = SocketAddr::from((address, to.port()));
            connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
            (TcpStream::from(socket), to.listener.accept().unwrap().0)
        };
        let (near, far) = dial(a, own, b, others);
        let (back, backs) = dial(b, others, a, own);
        let (third, thirds) = dial(c, Ipv4Addr::LOCALHOST, b, others);
        let (a_side, b_side) = (whole(a, own), whole(b, others));
        let (mode, direction) = (Refuse, AToB);
        let partition =
            engine.partition(&Partition { a: a_side, b: b_side, mode, direction }).unwrap();
        is_reset(&near);
        is_reset(&far);
        for (from, to) in [(&third, &thirds), (&back, &backs), (&backs, &back)] {
            passes((from, to));
        }
        // A port that nobody has named, and nobody listens on.
        assert_eq!(a.connects((others, 9).into()), REFUSED);
        assert_eq!(a.connects((others, b.port()).into()), REFUSED);
        assert_eq!(c.connects((others, b.port()).into()), 0);
        assert_eq!(b.connects((own, a.port()).into()), 0);
        let counts = partition.heal();
        assert_eq!((counts.refused, counts.reset), (2, 1));
    };
    std::thread::scope(|scope| scope.spawn(in_a_network_of_its_own).join().unwrap());
}
