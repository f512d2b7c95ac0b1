//! Partitions on the real kernel: sockets that belong to the cgroups of two services, of a third,
//! and to nobody.

mod networks;
mod service;
mod switch;

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::sys::socket::{SockaddrStorage, bind, connect};

use super::{
    super::{
        Choice, Driver, Engine, Options, Partition, PartitionCounts, PartitionDirection,
        PartitionMode, PartitionSide, Target,
        launch::tests::role::{ROLE, Role},
    },
    Kept,
};
use service::{
    LONG, REFUSED, SILENCE, Service, WHILE, World, arrives, is_reset, passes, socket_of, stays_away,
};

use PartitionDirection::{AToB, BToA, Both};
use PartitionMode::{Drop as Vanish, Refuse};

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
fn a_port_that_nobody_has_declared_is_refused_as_well() {
    let world = World::new("undeclared");
    let World { engine, a, b, c } = &world;
    for (direction, back) in [(Both, REFUSED), (AToB, 0)] {
        let undeclared = |service: &Service| side(&service.target, Vec::new());
        let (a_side, b_side, mode) = (undeclared(a), undeclared(b), Refuse);
        let partition =
            engine.partition(&Partition { a: a_side, b: b_side, mode, direction }).unwrap();
        assert_eq!(a.connects_at_last(b.address()), REFUSED);
        assert_eq!(a.connects_at_last(b.address_v6()), REFUSED);
        assert_eq!(b.connects_at_last(a.address()), back);
        assert_eq!((c.connects(b.address()), b.connects(c.address())), (0, 0));
        let counts = partition.heal();
        assert_eq!((counts.reset, counts.dropped), (0, 0));
        assert_eq!(counts.refused, if direction == Both { 3 } else { 2 });
    }
}

#[test]
fn connects_under_way_are_refused_and_do_not_wait() {
    let world = World::new("under-way");
    let World { a, b, .. } = &world;
    let (is_over, time) = (AtomicBool::new(false), Duration::from_secs(3));
    b.listener.set_nonblocking(true).unwrap();
    // The first one loads programs, which takes as long as the dialing where all is emulated.
    drop(world.cut(Refuse, Both));
    let dialed = thread::scope(|scope| {
        let dialing = [(); 2].map(|()| scope.spawn(|| a.dials_for(b.address(), time)));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                while b.listener.accept().is_ok() {}
                thread::sleep(Duration::from_millis(1));
            }
        });
        while !dialing.iter().all(thread::ScopedJoinHandle::is_finished) {
            let apart = world.cut(Refuse, Both);
            thread::sleep(Duration::from_millis(1));
            drop(apart);
            thread::sleep(Duration::from_millis(2));
        }
        is_over.store(true, Ordering::Relaxed);
        dialing.map(|it| it.join().unwrap())
    });
    for dialed in dialed {
        assert!(dialed.connected > 0 && dialed.refused > 0, "{dialed:?}");
        assert_eq!(dialed.silent, 0, "{dialed:?}");
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
    assert_eq!(a.connects(b.address()), SILENCE);
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

/// Of the test's own network namespace.
fn side(target: &Target, addresses: Vec<SocketAddr>) -> PartitionSide {
    PartitionSide { target: target.id(), addresses, network: None, hosts: Vec::new() }
}

#[test]
fn without_a_cgroup_nothing_is_cut_and_the_error_says_why() {
    let world = World::new("no-cgroup");
    let target = world.engine.target("x", None, Driver::default(), Kept::new()).unwrap();
    let a = side(&target, Vec::new());
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
        thread::sleep(Duration::from_millis(5));
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
            hosts: vec![address.into()],
            ..side(&service.target, Vec::new())
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
    thread::scope(|scope| scope.spawn(in_a_network_of_its_own).join().unwrap());
}
