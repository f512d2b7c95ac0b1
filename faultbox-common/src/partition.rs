//! Tables of a partition: who is cut off from whom, and what was cut.

/// Services that partitions can be about at once.
pub const MAX_SIDES: u32 = 64;
/// In place of a side: a socket of nobody who is partitioned, or no socket at all.
pub const NO_SIDE: u32 = u32::MAX;
/// Flows that are remembered as cut, so that each counts once.
pub const MAX_FLOWS: u32 = 1 << 14;

/// Connects fail with `ECONNREFUSED`, and the first packet of one that was let pass vanishes.
pub const CUT_CONNECTS: u32 = 1;
/// Every packet vanishes.
pub const CUT_PACKETS: u32 = 2;
/// Packets to declared ports vanish.
pub const CUT_DIALED: u32 = 4;
/// Flows whose packets vanish are hits, whatever their protocol; else only those without
/// connections, as TCP flows are reset and counted by user space.
pub const CUT_COUNTED: u32 = 8;

/// `IPPROTO_TCP`.
pub const TCP: u32 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u32 = 17;

/// Where one side of a cell of the table of cuts lies: packets and connects `from` one side `to`
/// another.
#[inline(always)]
pub fn cell(from: u32, to: u32) -> u32 {
    (from % MAX_SIDES) * MAX_SIDES + to % MAX_SIDES
}

/// An address and a port by what they mean: loopback and unspecified addresses of either family
/// are all zeros, IPv4 addresses are mapped into IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// As on the wire.
    pub address: [u32; 4],
    /// As a number; 0 in tables: every port of the address.
    pub port: u32,
    /// Of a loopback address: the number of its network namespace, each of which has its own.
    pub network: u32,
}

/// `::ffff` of a mapped address, as on the wire.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
/// The last word of `::1`, as on the wire.
const ONE: u32 = u32::from_ne_bytes([0, 0, 0, 1]);

impl Endpoint {
    /// Of an IPv4 address as on the wire.
    #[inline(always)]
    pub fn v4(address: u32, port: u32) -> Self {
        if address == 0 || address.to_ne_bytes()[0] == 127 {
            return Self { port, ..Self::default() };
        }
        Self { address: [0, 0, MAPPED, address], port, network: 0 }
    }

    /// Of an IPv6 address as on the wire.
    #[inline(always)]
    pub fn v6(address: [u32; 4], port: u32) -> Self {
        let [a, b, c, d] = address;
        if a == 0 && b == 0 {
            if c == MAPPED {
                return Self::v4(d, port);
            }
            if c == 0 && d == ONE {
                return Self { port, ..Self::default() };
            }
        }
        Self { address, port, network: 0 }
    }

    /// As it is meant in a network namespace.
    #[inline(always)]
    pub fn within(self, network: u32) -> Self {
        if self.address == [0; 4] { Self { network, ..self } } else { self }
    }
}

/// An address of a network namespace in which it is several services', as another network
/// namespace knows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedAddress {
    /// As in an [`Endpoint`].
    pub address: [u32; 4],
    /// The number of the other network namespace.
    pub seen_from: u32,
}

/// What is cut in one direction between two sides.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// `CUT_*`; 0: nothing.
    pub flags: u32,
    /// Tells the flows of one partition from those of the next.
    pub generation: u32,
}

/// What was cut in one direction between two sides.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutCounts {
    /// Connects.
    pub refused: u64,
    /// Flows of which at least one packet vanished.
    pub flows: u64,
    /// Packets that vanished.
    pub packets: u64,
}

/// A flow that was cut; the side with the lower number is `one`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// One end.
    pub one: Endpoint,
    /// The other.
    pub other: Endpoint,
    /// [`TCP`] or [`UDP`].
    pub protocol: u32,
    /// Of the cut.
    pub generation: u32,
}

/// A flow that was cut, as one end sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEnd {
    /// This end.
    pub own: Endpoint,
    /// The other.
    pub peer: Endpoint,
}

/// A question about a TCP socket, and its answer.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketQuery {
    /// The socket's own address as on the wire; IPv4 in the first word.
    pub local: [u32; 4],
    /// Its peer's.
    pub remote: [u32; 4],
    /// Port in the order of the wire.
    pub local_port: u16,
    /// Its peer's.
    pub remote_port: u16,
    /// Whether the addresses are of IPv6.
    pub is_v6: u32,
    /// Answer: whose it is; [`NO_SIDE`] when there is no such socket.
    pub side: u32,
    /// Answer: its state as in `include/net/tcp_states.h`.
    pub state: u32,
    /// Answer: the number of the next byte it waits for.
    pub receives: u32,
    /// Answer: the number of the next byte it sends.
    pub sends: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(bytes: [u8; 4]) -> u32 {
        u32::from_ne_bytes(bytes)
    }

    #[test]
    fn every_spelling_of_loopback_is_the_same_endpoint() {
        let here = Endpoint { port: 80, ..Endpoint::default() };
        assert_eq!(Endpoint::v4(wire([127, 0, 0, 1]), 80), here);
        assert_eq!(Endpoint::v4(wire([127, 9, 9, 9]), 80), here);
        assert_eq!(Endpoint::v4(0, 80), here);
        assert_eq!(Endpoint::v6([0, 0, 0, ONE], 80), here);
        assert_eq!(Endpoint::v6([0; 4], 80), here);
        assert_eq!(Endpoint::v6([0, 0, MAPPED, wire([127, 0, 0, 1])], 80), here);
    }

    #[test]
    fn other_addresses_are_themselves() {
        let container = Endpoint::v4(wire([172, 18, 0, 2]), 5432);
        assert_eq!(Endpoint::v6([0, 0, MAPPED, wire([172, 18, 0, 2])], 5432), container);
        assert_ne!(Endpoint::v4(wire([172, 18, 0, 3]), 5432), container);
        let global = [wire([0xfd, 0x66, 0, 0]), 0, 0, ONE];
        assert_eq!(Endpoint::v6(global, 1).address, global);
    }

    #[test]
    fn each_network_namespace_has_a_loopback_of_its_own() {
        let here = Endpoint::v4(wire([127, 0, 0, 1]), 80);
        assert_ne!(here.within(1), here.within(2));
        assert_eq!(Endpoint::v6([0; 4], 80).within(1), here.within(1));
        let container = Endpoint::v4(wire([172, 18, 0, 2]), 5432);
        assert_eq!(container.within(1), container.within(2));
    }

    #[test]
    fn each_direction_of_each_pair_has_a_cell_of_its_own() {
        let mut cells: Vec<u32> =
            (0..MAX_SIDES).flat_map(|a| (0..MAX_SIDES).map(move |b| cell(a, b))).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), (MAX_SIDES * MAX_SIDES) as usize);
        assert_eq!(cells.last(), Some(&(MAX_SIDES * MAX_SIDES - 1)));
    }
}
