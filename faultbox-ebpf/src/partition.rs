//! Cuts traffic between two services, by programs on their cgroups. Loaded and attached only
//! while there is a partition.
//!
//! Who sends is known by the cgroup of the sending socket, and who is meant by the socket that the
//! packet would be delivered to, or by a declared address where there is none: so flows from
//! before the partition are known as well, and nobody keeps a table of them. In another network
//! namespace, an address may be one service's alone; of one that several share, the socket is
//! looked up over there.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_tuple,
    helpers::{
        bpf_get_current_ancestor_cgroup_id, bpf_set_retval, bpf_sk_ancestor_cgroup_id,
        bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_ancestor_cgroup_id,
        bpf_tcp_sock,
    },
    macros::{cgroup_skb, cgroup_sock_addr, map},
    maps::{Array, HashMap, RingBuf},
    programs::{SkBuffContext, SockAddrContext},
};
use faultbox_common::{
    CUT_CONNECTS, CUT_COUNTED, CUT_DIALED, CUT_PACKETS, Cut, CutCounts, Endpoint, Flow, FlowEnd,
    LEVELS, MAX_SIDES, NO_SIDE, SharedAddress, SocketQuery, TCP, UDP, cell,
};

use crate::{
    decision::increment,
    maps::{
        PARTITION_COUNTS, PARTITION_CUTS, PARTITION_ENDPOINTS, PARTITION_FLOWS, PARTITION_LEVELS,
        PARTITION_PEERS, PARTITION_QUERY, PARTITION_SIDES,
    },
};

/// Let it go on.
const PASS: i32 = 1;
/// It vanishes. A TCP socket takes the error for a lost packet and sends again.
const VANISH: i32 = 0;
/// It vanishes, and a UDP socket is told of nothing: `NET_XMIT_DROP`, which `udp_send_skb` takes
/// for success, where 0 would be `EPERM`.
const VANISH_UNSEEN: i32 = 2;
/// Fail the call.
const FAIL: i32 = 0;

const ECONNREFUSED: i32 = 111;
/// `BPF_F_CURRENT_NETNS`.
const OWN_NETWORK: u64 = u64::MAX;
/// `LOOPBACK_IFINDEX`: by this device goes what is for an address of the same network namespace,
/// and by another what is for another's.
const LOOPBACK: u32 = 1;
/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;
/// Where the flags are in a TCP header, and those that tell who opens a connection (RFC 9293).
const FLAGS: usize = 13;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// `BPF_NOEXIST`.
const IF_NEW: u64 = 1;
/// Sizes of the two views of a `bpf_sock_tuple`, by which the kernel tells them apart.
const V4_SIZE: u32 = 12;
const V6_SIZE: u32 = 36;

/// The number of each side's network namespace.
#[map]
static PARTITION_NETWORKS: Array<u32> = Array::with_max_entries(MAX_SIDES, 0);

/// The network namespaces of addresses that several services share: by the id that the sender's
/// network namespace has for them (`ip-netns(8)`, `list-id`).
#[map]
static PARTITION_SHARED: HashMap<SharedAddress, u32> =
    HashMap::with_max_entries(1 << 10, NO_PREALLOC);

/// Tells user space that a connect is to be refused which its program has let pass.
#[map]
static PARTITION_SLIPS: RingBuf = RingBuf::with_byte_size(1 << 12, 0);

/// The side of a cgroup, given by its ancestors at each depth.
#[inline(always)]
fn side(ancestor: impl Fn(i32) -> u64) -> Option<u32> {
    let levels = PARTITION_LEVELS.get(0)?;
    for i in 0..LEVELS {
        // SAFETY: in bounds; user space changes the word at any time.
        let level = unsafe { core::ptr::read_volatile(&raw const levels[i]) };
        if level == 0 {
            break;
        }
        let cgroup = ancestor(level as i32 - 1);
        // SAFETY: the value is a word, which is replaced whole.
        if let Some(side) = unsafe { PARTITION_SIDES.get(&cgroup) } {
            return Some(*side);
        }
    }
    None
}

/// The side that has declared this port of an address.
#[inline(always)]
fn listening(endpoint: &Endpoint) -> Option<u32> {
    // SAFETY: the value is a word, which is replaced whole.
    let side = match unsafe { PARTITION_ENDPOINTS.get(endpoint) } {
        // SAFETY: as above. Read at once: where two of these are compared, the compiler would
        // compute with the pointers, which the verifier forbids.
        Some(side) => unsafe { core::ptr::read_volatile(side) },
        None => NO_SIDE,
    };
    (side != NO_SIDE).then_some(side)
}

/// The side that has declared an address as a whole.
#[inline(always)]
fn resident(endpoint: &Endpoint) -> Option<u32> {
    listening(&Endpoint { port: 0, ..*endpoint })
}

/// In which network namespace, as the sender's knows it, an address is that several services
/// share there.
#[inline(always)]
fn shared_in(network: u32, endpoint: &Endpoint) -> Option<u64> {
    let shared = SharedAddress { address: endpoint.address, seen_from: network };
    // SAFETY: the value is a word, which is replaced whole.
    unsafe { PARTITION_SHARED.get(&shared) }.map(|id| u64::from(*id))
}

/// The side at the other end of a flow of which a packet has vanished before, since the cut that
/// is on now: a side's number may have been another's before.
#[inline(always)]
fn remembered(own: u32, end: &FlowEnd) -> Option<u32> {
    // SAFETY: the value is a word, which is replaced whole.
    let known = unsafe { PARTITION_PEERS.get(end) }.copied()?;
    let side = known as u32;
    (cut(own, side)?.generation == (known >> 32) as u32).then_some(side)
}

/// A side as it is remembered.
#[inline(always)]
fn memory(side: u32, cut: &Cut) -> u64 {
    u64::from(cut.generation) << 32 | u64::from(side)
}

#[inline(always)]
fn cut(from: u32, to: u32) -> Option<Cut> {
    PARTITION_CUTS.get(cell(from, to)).copied()
}

#[inline(always)]
fn counts(from: u32, to: u32) -> Option<*mut CutCounts> {
    PARTITION_COUNTS.get_ptr_mut(cell(from, to))
}

/// Who a flow is between, as on the wire. The names are the packet's: the socket that is looked
/// for is at the destination.
struct Ends {
    tuple: bpf_sock_tuple,
    size: u32,
    protocol: u32,
    /// Whether this is the first packet of a TCP connection.
    opens: bool,
}

impl Ends {
    #[inline(always)]
    fn zeroed(size: u32, protocol: u32) -> Self {
        // SAFETY: all zeros is a valid tuple of either kind.
        let tuple = unsafe { MaybeUninit::<bpf_sock_tuple>::zeroed().assume_init() };
        Self { tuple, size, protocol, opens: false }
    }

    #[inline(always)]
    fn source(&self) -> Endpoint {
        // SAFETY: the whole union is initialised.
        unsafe {
            let (v4, v6) = (self.tuple.__bindgen_anon_1.ipv4, self.tuple.__bindgen_anon_1.ipv6);
            if self.size == V4_SIZE {
                Endpoint::v4(v4.saddr, u16::from_be(v4.sport).into())
            } else {
                Endpoint::v6(v6.saddr, u16::from_be(v6.sport).into())
            }
        }
    }

    #[inline(always)]
    fn destination(&self) -> Endpoint {
        // SAFETY: as above.
        unsafe {
            let (v4, v6) = (self.tuple.__bindgen_anon_1.ipv4, self.tuple.__bindgen_anon_1.ipv6);
            if self.size == V4_SIZE {
                Endpoint::v4(v4.daddr, u16::from_be(v4.dport).into())
            } else {
                Endpoint::v6(v6.daddr, u16::from_be(v6.dport).into())
            }
        }
    }

    /// The side of the socket at the destination, which is in this network namespace; `None`:
    /// there is no socket.
    #[inline(always)]
    fn receiver(&mut self, context: *mut c_void, network: u64) -> Option<Option<u32>> {
        let tuple = &raw mut self.tuple;
        // The verifier wants to see a constant.
        let size = if self.size == V4_SIZE { V4_SIZE } else { V6_SIZE };
        // SAFETY: the tuple is of that size.
        let socket = unsafe {
            if self.protocol == TCP {
                bpf_sk_lookup_tcp(context, tuple, size, network, 0)
            } else {
                bpf_sk_lookup_udp(context, tuple, size, network, 0)
            }
        };
        if socket.is_null() {
            return None;
        }
        // SAFETY: the socket is there until it is released.
        let side = side(|level| unsafe { bpf_sk_ancestor_cgroup_id(socket.cast(), level) });
        // SAFETY: found above, and not used any more.
        unsafe { bpf_sk_release(socket.cast()) };
        Some(side)
    }
}

/// Reads a packet's addresses and ports; `None` for what has none.
#[inline(always)]
fn ends(packet: &SkBuffContext) -> Option<Ends> {
    let first: u8 = packet.load(0).ok()?;
    let segment;
    let mut ends;
    if first >> 4 == 4 {
        let protocol: u8 = packet.load(9).ok()?;
        ends = Ends::zeroed(V4_SIZE, protocol.into());
        let addresses: [u32; 2] = packet.load(12).ok()?;
        segment = usize::from(first & 15) * 4;
        ends.tuple.__bindgen_anon_1.ipv4.saddr = addresses[0];
        ends.tuple.__bindgen_anon_1.ipv4.daddr = addresses[1];
    } else {
        let protocol: u8 = packet.load(6).ok()?;
        ends = Ends::zeroed(V6_SIZE, protocol.into());
        let source: [u32; 4] = packet.load(8).ok()?;
        let destination: [u32; 4] = packet.load(24).ok()?;
        segment = 40;
        ends.tuple.__bindgen_anon_1.ipv6.saddr = source;
        ends.tuple.__bindgen_anon_1.ipv6.daddr = destination;
    }
    if ends.protocol != TCP && ends.protocol != UDP {
        return None;
    }
    if ends.protocol == TCP {
        let flags: u8 = packet.load(segment + FLAGS).ok()?;
        ends.opens = flags & (SYN | ACK) == SYN;
    }
    let ports: [u16; 2] = packet.load(segment).ok()?;
    if ends.size == V4_SIZE {
        ends.tuple.__bindgen_anon_1.ipv4.sport = ports[0];
        ends.tuple.__bindgen_anon_1.ipv4.dport = ports[1];
    } else {
        ends.tuple.__bindgen_anon_1.ipv6.sport = ports[0];
        ends.tuple.__bindgen_anon_1.ipv6.dport = ports[1];
    }
    Some(ends)
}

/// On every packet that a socket of a partitioned service sends.
#[cgroup_skb(egress)]
fn partition_egress(packet: SkBuffContext) -> i32 {
    egress(&packet).unwrap_or(PASS)
}

#[inline(always)]
fn egress(packet: &SkBuffContext) -> Option<i32> {
    let skb = packet.skb.skb;
    // SAFETY: the context of the program.
    let own = side(|level| unsafe { bpf_skb_ancestor_cgroup_id(skb, level) })?;
    let mut ends = ends(packet)?;
    let network = *PARTITION_NETWORKS.get(own)?;
    let (source, destination) = (ends.source().within(network), ends.destination().within(network));
    let end = FlowEnd { own: source, peer: destination };
    let dialed = listening(&destination);
    let resident = resident(&destination);
    // SAFETY: the context of the program.
    let is_here = unsafe { (*skb).ifindex } == LOOPBACK;
    let place = match resident {
        _ if is_here => Some(OWN_NETWORK),
        // Nobody else is there, and our own sockets that listen at any address are not meant.
        Some(_) => None,
        None => shared_in(network, &destination),
    };
    // The socket knows best: an address of a network namespace may be anybody's who lives there.
    let peer = match place.and_then(|place| ends.receiver(packet.as_ptr(), place)) {
        Some(side) => side?,
        // Who was there may have died since, and its host's resets must not arrive either.
        None => dialed.or(resident).or_else(|| remembered(own, &end))?,
    };
    let cut = cut(own, peer)?;
    // A connect was under way when the cut was made, or is to a port that nobody has declared.
    let slipped = ends.opens && cut.flags & CUT_CONNECTS != 0;
    let is_dialed = cut.flags & CUT_DIALED != 0 && dialed == Some(peer);
    if !slipped && !is_dialed && cut.flags & CUT_PACKETS == 0 {
        return None;
    }
    let counts = counts(own, peer)?;
    // SAFETY: a field of a live map value.
    increment(unsafe { &raw mut (*counts).packets });
    if slipped || cut.flags & CUT_COUNTED != 0 || ends.protocol != TCP {
        let (one, other) = if own < peer { (source, destination) } else { (destination, source) };
        let flow = Flow { one, other, protocol: ends.protocol, generation: cut.generation };
        if PARTITION_FLOWS.insert(flow, 1, IF_NEW).is_ok() {
            // SAFETY: as above.
            let count = unsafe {
                if slipped { &raw mut (*counts).refused } else { &raw mut (*counts).flows }
            };
            increment(count);
            // A full table forgets the oldest, and an entry that is not there changes little.
            let _ = PARTITION_PEERS.insert(end, memory(peer, &cut), 0);
            let other_end = FlowEnd { own: destination, peer: source };
            let _ = PARTITION_PEERS.insert(other_end, memory(own, &cut), 0);
        }
    }
    if slipped {
        // A full buffer is about to be read.
        let _ = PARTITION_SLIPS.output::<u32>(&cut.generation, 0);
    }
    Some(if ends.protocol == TCP { VANISH } else { VANISH_UNSEEN })
}

/// On `connect` over IPv4.
#[cgroup_sock_addr(connect4)]
fn partition_connect4(call: SockAddrContext) -> i32 {
    refuse(destination4(&call))
}

/// On `connect` over IPv6.
#[cgroup_sock_addr(connect6)]
fn partition_connect6(call: SockAddrContext) -> i32 {
    refuse(destination6(&call))
}

/// On `sendto` and `sendmsg` with an address, of UDP over IPv4.
#[cgroup_sock_addr(sendmsg4)]
fn partition_sendmsg4(call: SockAddrContext) -> i32 {
    refuse(destination4(&call))
}

/// On `sendto` and `sendmsg` with an address, of UDP over IPv6.
#[cgroup_sock_addr(sendmsg6)]
fn partition_sendmsg6(call: SockAddrContext) -> i32 {
    refuse(destination6(&call))
}

#[inline(always)]
fn destination4(call: &SockAddrContext) -> Endpoint {
    // SAFETY: the context of the program.
    unsafe {
        let address = core::ptr::read_volatile(&raw const (*call.sock_addr).user_ip4);
        let port = core::ptr::read_volatile(&raw const (*call.sock_addr).user_port);
        Endpoint::v4(address, u16::from_be(port as u16).into())
    }
}

#[inline(always)]
fn destination6(call: &SockAddrContext) -> Endpoint {
    // SAFETY: as above; word by word, as the kernel wants it.
    unsafe {
        let word = |i: usize| core::ptr::read_volatile(&raw const (*call.sock_addr).user_ip6[i]);
        let address = [word(0), word(1), word(2), word(3)];
        let port = core::ptr::read_volatile(&raw const (*call.sock_addr).user_port);
        Endpoint::v6(address, u16::from_be(port as u16).into())
    }
}

#[inline(always)]
fn refuse(destination: Endpoint) -> i32 {
    if is_refused(destination).is_none() {
        return PASS;
    }
    // SAFETY: no preconditions.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    FAIL
}

#[inline(always)]
fn is_refused(destination: Endpoint) -> Option<()> {
    // SAFETY: no preconditions.
    let own = side(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })?;
    let destination = destination.within(*PARTITION_NETWORKS.get(own)?);
    let peer = listening(&destination).or_else(|| resident(&destination))?;
    if cut(own, peer)?.flags & CUT_CONNECTS == 0 {
        return None;
    }
    let counts = counts(own, peer)?;
    // SAFETY: a field of a live map value.
    increment(unsafe { &raw mut (*counts).refused });
    Some(())
}

/// Never attached: user space runs it to ask whose a socket is, and where its numbers are.
#[cgroup_skb(egress)]
fn partition_query(packet: SkBuffContext) -> i32 {
    answer(&packet);
    PASS
}

#[inline(always)]
fn answer(packet: &SkBuffContext) -> Option<()> {
    let query = PARTITION_QUERY.get_ptr_mut(0)?;
    // SAFETY: user space asks one question at a time.
    let query: &mut SocketQuery = unsafe { &mut *query };
    query.side = NO_SIDE;
    query.state = 0;
    let mut ends = Ends::zeroed(if query.is_v6 == 0 { V4_SIZE } else { V6_SIZE }, TCP);
    if query.is_v6 == 0 {
        // SAFETY: the whole union is initialised.
        let v4 = unsafe { &mut ends.tuple.__bindgen_anon_1.ipv4 };
        (v4.saddr, v4.daddr) = (query.remote[0], query.local[0]);
        (v4.sport, v4.dport) = (query.remote_port, query.local_port);
    } else {
        // SAFETY: as above.
        let v6 = unsafe { &mut ends.tuple.__bindgen_anon_1.ipv6 };
        (v6.saddr, v6.daddr) = (query.remote, query.local);
        (v6.sport, v6.dport) = (query.remote_port, query.local_port);
    }
    // SAFETY: the tuple is of that size.
    let socket = unsafe {
        bpf_sk_lookup_tcp(packet.as_ptr(), &raw mut ends.tuple, ends.size, OWN_NETWORK, 0)
    };
    if socket.is_null() {
        return None;
    }
    // SAFETY: the socket is there until it is released.
    unsafe {
        if let Some(side) = side(|level| bpf_sk_ancestor_cgroup_id(socket.cast(), level)) {
            query.side = side;
        }
        query.state = (*socket).state;
        let connection = bpf_tcp_sock(socket);
        if !connection.is_null() {
            query.receives = (*connection).rcv_nxt;
            query.sends = (*connection).snd_nxt;
        }
        bpf_sk_release(socket.cast());
    }
    Some(())
}
