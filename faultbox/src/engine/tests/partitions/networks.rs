//! Partitions of services in several network namespaces, as containers are.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{SockaddrStorage, connect};

use super::{
    super::super::{Partition, PartitionCounts, PartitionSide},
    AToB, BToA, Both, Refuse, Vanish,
    service::{
        Home, LONG, REFUSED, SILENCE, Service, WHILE, World, arrives, is_reset, passes, stays_away,
    },
    switch::{Namespace, joined},
};

/// All services listen here, at every address of theirs: whoever looks for a socket in the wrong
/// network namespace finds one.
const PORT: u16 = 7000;
/// Where steps dial from.
const DRIVER: Ipv4Addr = Ipv4Addr::new(127, 66, 98, 1);

/// Three services in a network namespace each.
fn containers(name: &str) -> Option<World> {
    let [a, b, c] = joined()?.each_ref().map(Home::own);
    Some(World::at(name, [(&a, PORT), (&b, PORT), (&c, PORT)]))
}

/// `a` and `c` are programs of one network namespace, `b` is a container.
fn program_and_container(name: &str) -> Option<(World, [Namespace; 2])> {
    let namespaces: [Namespace; 2] = joined()?;
    let (host, own) = (Home::shared(&namespaces[0]), Home::own(&namespaces[1]));
    Some((World::at(name, [(&host, PORT), (&own, PORT), (&host, PORT + 1)]), namespaces))
}

/// Flows that no partition of `a` and `b` is about: of a third service, of steps from inside, and
/// of a service with itself.
fn bystanders(World { a, b, c, .. }: &World) -> Vec<(TcpStream, TcpStream)> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, b.port()));
    vec![
        c.dial(b),
        b.dial(c),
        c.dial(a),
        a.dial(c),
        b.driven(DRIVER.into(), Ipv4Addr::LOCALHOST.into()),
        b.driven(DRIVER.into(), b.address().ip()),
        b.dial(b),
        b.dial_at(b, loopback),
    ]
}

#[track_caller]
fn pass_both_ways(flows: &[(TcpStream, TcpStream)]) {
    for (near, far) in flows {
        passes((near, far));
        passes((far, near));
    }
}

/// Asserts that nothing new of the third is refused.
#[track_caller]
fn a_third_is_free(World { a, b, c, .. }: &World) {
    let connects = [
        c.connects(b.address()),
        b.connects(c.address()),
        a.connects(c.address()),
        c.connects(a.address()),
    ];
    assert_eq!(connects, [0; 4]);
}

#[test]
fn containers_are_cut_off_and_work_again() {
    let Some(world) = containers("net-refuse") else { return };
    let World { a, b, .. } = &world;
    let bystanders = bystanders(&world);
    let flows = [a.dial(b), b.dial(a), a.dial_at(b, b.address_v6())];
    let waiting = a.socket_for(b.address());
    connect(waiting.as_raw_fd(), &SockaddrStorage::from(b.address())).unwrap();
    pass_both_ways(&flows);
    let partition = world.cut(Refuse, Both);
    for (near, far) in &flows {
        is_reset(near);
        is_reset(far);
    }
    is_reset(&TcpStream::from(waiting));
    is_reset(&b.listener.accept().unwrap().0);
    for (from, to) in [(a, b), (b, a)] {
        assert_eq!(from.connects(to.address()), REFUSED);
        assert_eq!(from.connects(to.address_v6()), REFUSED);
        // A port that nobody has named, and nobody listens on.
        assert_eq!(from.connects((to.address().ip(), 9).into()), REFUSED);
    }
    a_third_is_free(&world);
    pass_both_ways(&bystanders);
    let counts = partition.heal();
    assert_eq!(counts, PartitionCounts { refused: 6, reset: 4, ..PartitionCounts::default() });
    pass_both_ways(&[a.dial(b), b.dial(a), a.dial_at(b, b.address_v6())]);
}

#[test]
fn packets_between_containers_vanish_and_arrive_after_the_partition() {
    let Some(world) = containers("net-drop") else { return };
    let World { a, b, .. } = &world;
    let bystanders = bystanders(&world);
    let flows = [a.dial(b), b.dial(a), b.dial_at(a, a.address_v6())];
    let partition = world.cut(Vanish, Both);
    for (mut near, mut far) in flows.iter().map(|(near, far)| (near, far)) {
        near.write_all(b"a").unwrap();
        far.write_all(b"b").unwrap();
    }
    for end in flows.iter().flat_map(|(near, far)| [near, far]) {
        stays_away(end);
    }
    assert_eq!(a.connects(b.address()), SILENCE);
    assert_eq!(b.connects(a.address()), SILENCE);
    a_third_is_free(&world);
    pass_both_ways(&bystanders);
    let counts = partition.heal();
    assert_eq!((counts.refused, counts.reset, counts.dropped), (0, 0, 5));
    for end in flows.iter().flat_map(|(near, far)| [near, far]) {
        arrives(end);
    }
}

#[test]
fn one_way_a_container_opens_nothing_or_is_not_heard() {
    for (direction, name) in [(AToB, "net-one-way"), (BToA, "net-other-way")] {
        let Some(world) = containers(name) else { return };
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

        let (opened, accepted) = cut.dial(spared);
        let datagrams = [cut.datagrams(), spared.datagrams()];
        let partition = world.cut(Vanish, direction);
        for (mut from, to) in [(&opened, &accepted), (&others, &other)] {
            from.write_all(b"x").unwrap();
            stays_away(to);
            passes((to, from));
        }
        is_lost(&datagrams[0], &datagrams[1]);
        is_delivered(&datagrams[1], &datagrams[0]);
        assert_eq!(partition.heal().dropped, 3);
        arrives(&accepted);
        arrives(&other);
    }
}

#[test]
fn datagrams_between_containers_are_refused_and_vanish() {
    let Some(world) = containers("net-udp") else { return };
    let World { a, b, c, .. } = &world;
    let [from, to, other] = [a, b, c].map(Service::datagrams);
    is_delivered(&from, &to);
    let partition = world.cut(Refuse, Both);
    assert_eq!(a.sends(to.local_addr().unwrap()), REFUSED);
    assert_eq!(c.sends(to.local_addr().unwrap()), 1);
    to.recv(&mut [0]).unwrap();
    is_delivered(&other, &to);
    is_delivered(&to, &other);
    assert_eq!(partition.heal().refused, 1);
    let partition = world.cut(Vanish, Both);
    is_lost(&from, &to);
    is_lost(&to, &from);
    is_delivered(&other, &to);
    assert_eq!(partition.heal().dropped, 1);
    is_delivered(&from, &to);
}

#[test]
fn a_program_and_a_container_are_cut_off_and_the_programs_neighbour_is_not() {
    let Some((world, _)) = program_and_container("net-mixed") else { return };
    let World { a, b, c, .. } = &world;
    let mut bystanders = bystanders(&world);
    bystanders.push(a.driven(DRIVER.into(), Ipv4Addr::LOCALHOST.into()));
    let flows = [a.dial(b), b.dial(a), b.dial_at(a, a.address_v6())];
    let partition = world.cut(Refuse, Both);
    for (near, far) in &flows {
        is_reset(near);
        is_reset(far);
    }
    assert_eq!(a.connects(b.address()), REFUSED);
    assert_eq!(b.connects(a.address()), REFUSED);
    a_third_is_free(&world);
    pass_both_ways(&bystanders);
    // Both declare this, each in its own network namespace.
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    assert_eq!((a.connects(loopback), b.connects(loopback)), (0, 0));
    let counts = partition.heal();
    assert_eq!((counts.refused, counts.reset, counts.hits()), (2, 3, 5));

    // Whoever opened a flow, and whoever speaks first.
    let flows = [a.dial(b), b.dial(a), a.dial(b), b.dial_at(a, a.address_v6())];
    let partition = world.cut(Vanish, Both);
    for (mut near, mut far) in flows.iter().map(|(near, far)| (near, far)) {
        far.write_all(b"b").unwrap();
        stays_away(near);
        near.write_all(b"a").unwrap();
        stays_away(far);
    }
    assert_eq!(a.connects(b.address()), SILENCE);
    assert_eq!(b.connects(a.address()), SILENCE);
    a_third_is_free(&world);
    pass_both_ways(&[c.dial(b), b.dial(c)]);
    pass_both_ways(&bystanders);
    assert_eq!(partition.heal().dropped, 6);
    for end in flows.iter().flat_map(|(near, far)| [near, far]) {
        arrives(end);
    }
}

#[test]
fn one_way_a_container_does_not_reach_a_program_that_shares_its_address() {
    let Some((world, _)) = program_and_container("net-mixed-way") else { return };
    let World { a, b, c, .. } = &world;
    let (near, far) = a.dial(b);
    let [program, container, neighbour] = [a, b, c].map(Service::datagrams);
    let partition = world.cut(Vanish, BToA);
    passes((&near, &far));
    (&far).write_all(b"b").unwrap();
    stays_away(&near);
    // The answer to its first packet vanishes.
    assert_eq!(a.connects(b.address()), SILENCE);
    assert_eq!(c.connects(b.address()), 0);
    is_lost(&container, &program);
    is_delivered(&container, &neighbour);
    is_delivered(&program, &container);
    assert_eq!(partition.heal().dropped, 3);
    arrives(&near);
    is_delivered(&container, &program);
    let (opened, accepted) = b.dial(a);
    let partition = world.cut(Refuse, BToA);
    is_reset(&opened);
    is_reset(&accepted);
    passes((&far, &near));
    assert_eq!((a.connects(b.address()), b.connects(a.address())), (0, REFUSED));
    assert_eq!(partition.heal().hits(), 2);
}

#[test]
fn a_program_that_dies_while_packets_vanish_is_not_missed_by_a_container() {
    let Some((world, _)) = program_and_container("net-dead") else { return };
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
fn services_of_one_pod_are_told_apart_from_outside_and_among_themselves() {
    let Some(namespaces) = joined::<2>() else { return };
    let (outside, pod) = (Home::own(&namespaces[0]), Home::shared(&namespaces[1]));
    let world = World::at("net-pod", [(&outside, PORT), (&pod, PORT), (&pod, PORT + 1)]);
    let World { engine, a, b, c } = &world;
    let loopback = |service: &Service| SocketAddr::from((Ipv4Addr::LOCALHOST, service.port()));
    let bystanders =
        [a.dial(c), c.dial(a), b.dial(c), c.dial_at(b, loopback(b)), b.dial_at(c, loopback(c))];
    let flows = [a.dial(b), b.dial(a)];
    let partition = world.cut(Vanish, Both);
    for (mut near, mut far) in flows.iter().map(|(near, far)| (near, far)) {
        far.write_all(b"b").unwrap();
        stays_away(near);
        near.write_all(b"a").unwrap();
        stays_away(far);
    }
    pass_both_ways(&bystanders);
    assert_eq!(partition.heal().dropped, 2);
    let (mode, direction) = (Refuse, Both);
    let sides = Partition { a: b.side(), b: c.side(), mode, direction };
    let partition = engine.partition(&sides).unwrap();
    assert_eq!(b.connects(loopback(c)), REFUSED);
    assert_eq!((b.connects(loopback(b)), a.connects(c.address())), (0, 0));
    for (near, far) in &bystanders[2..] {
        is_reset(near);
        is_reset(far);
    }
    pass_both_ways(&bystanders[..2]);
    let counts = partition.heal();
    // Now and then the refused connect is found once more, still under way, and counted again.
    assert!((1..=2).contains(&counts.refused), "{counts:?}");
    assert_eq!(counts.reset, 3);
}

#[test]
fn what_is_no_network_namespace_cannot_be_entered() {
    let world = World::new("net-none");
    let none = std::fs::File::open("/proc/self/ns/pid").unwrap();
    let a = PartitionSide { network: Some(none.into()), ..world.a.side() };
    let (b, mode, direction) = (world.b.side(), Vanish, Both);
    let partition = world.engine.partition(&Partition { a, b, mode, direction });
    assert_eq!(
        partition.err().unwrap().to_string(),
        "cannot enter a service's network namespace (root or CAP_SYS_ADMIN): Invalid argument \
         (os error 22)"
    );
}

#[track_caller]
fn is_delivered(from: &UdpSocket, to: &UdpSocket) {
    assert_eq!(from.send_to(b"x", to.local_addr().unwrap()).unwrap(), 1);
    to.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(to.recv(&mut [0]).unwrap(), 1);
}

/// Who sends a datagram is told nothing.
#[track_caller]
fn is_lost(from: &UdpSocket, to: &UdpSocket) {
    assert_eq!(from.send_to(b"x", to.local_addr().unwrap()).unwrap(), 1);
    to.set_read_timeout(Some(WHILE)).unwrap();
    assert_eq!(to.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
