//! A system call as a rule sees it.

use crate::is_same;

/// Which argument of a system call names the thing it works on.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Nothing that eligibility depends on: `nanosleep`, `getrandom`, `sync`.
    None = 0,
    /// A file descriptor.
    Fd = 1,
    /// A path, relative to the working directory.
    Path = 2,
    /// A path in the argument after a directory descriptor, as in `openat(2)`.
    PathAt = 3,
    /// A socket address in the argument after a socket descriptor: `connect(2)`.
    Address = 4,
}

/// What a call works on, as far as eligibility goes.
///
/// The descriptors that a fault may hit are those that a program's own data goes through. The
/// ones that a runtime uses to wake itself up are never hit, because failing those breaks the Go
/// or tokio scheduler and says nothing about the program.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// An eventfd, epoll, timer or signal descriptor, an unnamed pipe or socket pair, a device.
    Ineligible = 0,
    /// The call has no operand.
    Plain = 1,
    /// A regular file or directory, or a path.
    File = 2,
    /// A TCP or UDP socket.
    Socket = 4,
    /// An `AF_UNIX` socket with a name on either end.
    UnixSocket = 5,
    /// A FIFO with a name in the file system.
    Fifo = 6,
    /// Descriptor 1 or 2 whatever it is, or a pipe on 0.
    Stdio = 7,
}

impl Object {
    /// Whether network-only errors such as `ECONNRESET` can come from it.
    #[inline(always)]
    pub fn is_socket(self) -> bool {
        matches!(self, Self::Socket | Self::UnixSocket)
    }

    /// The object with this discriminant; `Ineligible` for an unknown one.
    pub fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Plain,
            2 => Self::File,
            4 => Self::Socket,
            5 => Self::UnixSocket,
            6 => Self::Fifo,
            7 => Self::Stdio,
            _ => Self::Ineligible,
        }
    }
}

/// The other end of a socket, or the address given to `connect(2)`.
// Three words, so that a program copies it without a loop.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// IPv6, or IPv4 mapped into it (`::ffff:a.b.c.d`); zero when unknown.
    pub address: [u8; 16],
    /// In host byte order; zero when unknown.
    pub port: u16,
    /// Non-zero when the address is of this host's loopback, or unspecified, which
    /// `connect(2)` takes to mean the same.
    pub loopback: u8,
    /// Non-zero when it is the test driver: see `Rule`'s `FLAG_INCLUDE_DRIVER`.
    pub driver: u8,
    /// To be zero.
    pub reserved: u32,
}

/// The addresses that the test's own steps and healthchecks dial from.
// Aligned for those who compare it by words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// IPv4, mapped into IPv6; zero: none.
    pub v4: [u8; 16],
    /// IPv6; zero: none.
    pub v6: [u8; 16],
}

impl Peer {
    /// The peer at an address.
    #[inline(always)]
    pub fn new(address: [u8; 16], port: u16, driver: &Driver) -> Self {
        let address = Aligned(address);
        let own = address.words();
        let known = same(own, (0, 0)) ^ 1;
        let is_driver = known & (same(own, words(&driver.v4)) | same(own, words(&driver.v6)));
        Self {
            address: address.0,
            port,
            loopback: (is_loopback(own) & !is_driver) as u8,
            driver: is_driver as u8,
            reserved: 0,
        }
    }

    /// Where it is: see [`endpoint`].
    #[inline(always)]
    pub fn endpoint(&self) -> u64 {
        let elsewhere = u64::from(self.loopback != 0).wrapping_sub(1);
        with_port(key(words(&self.address)) & elsewhere, self.port)
    }
}

/// A number for a port of a host, to be compared in place of both, and never 0. All addresses of
/// a host's own loopback are one. Of IPv4 no two have the same; of IPv6, two in 2⁶³ have.
///
/// One word, because more would not fit into a program's stack beside everything else.
pub fn endpoint(address: [u8; 16], port: u16) -> u64 {
    let own = Aligned(address).words();
    with_port(if is_loopback(own) == 1 { 0 } else { key(own) }, port)
}

/// Anything but 0.
#[inline(always)]
fn key((high, low): (u64, u64)) -> u64 {
    high.wrapping_mul(SPREAD) ^ low | 1 << 63
}

/// Ports differ in the upper half, which addresses of IPv4 all have in common.
#[inline(always)]
fn with_port(key: u64, port: u16) -> u64 {
    key ^ u64::from(port).wrapping_mul(SPREAD) >> 1 | 1 << 63
}

/// 2⁶⁴ divided by the golden ratio: multiples of it lie as far apart as can be.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

// By words and without branches: see `is_same`. LLVM turns array equality into `memcmp`, which
// eBPF has not got, and reads what may not be aligned byte by byte.
#[repr(C, align(8))]
struct Aligned([u8; 16]);

impl Aligned {
    #[inline(always)]
    fn words(&self) -> (u64, u64) {
        words(&self.0)
    }
}

/// The words of an address, which must be aligned to eight bytes, as all structures with one are.
#[inline(always)]
fn words(a: &[u8; 16]) -> (u64, u64) {
    #[allow(clippy::cast_ptr_alignment, reason = "the types that hold addresses are aligned")]
    let at = (&raw const *a).cast::<u64>();
    debug_assert!(at.is_aligned());
    // SAFETY: sixteen live bytes, aligned by the types that they are in.
    let (high, low) = unsafe { (at.read(), at.add(1).read()) };
    (u64::from_be(high), u64::from_be(low))
}

#[inline(always)]
fn same(a: (u64, u64), b: (u64, u64)) -> u64 {
    is_same(a.0, b.0) & is_same(a.1, b.1)
}

#[inline(always)]
fn is_loopback((high, low): (u64, u64)) -> u64 {
    // ::1 and ::, and ::ffff:127.0.0.0/104 and ::ffff:0.0.0.0 among the mapped.
    let own = is_same(low >> 1, 0);
    let mapped = is_same(low >> 32, 0xffff);
    let mapped_own = is_same(low >> 24 & 0xff, 127) | is_same(low & 0xffff_ffff, 0);
    is_same(high, 0) & (own | mapped & mapped_own)
}

/// One system call of a target, at its entry.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it works on.
    pub object: Object,
    /// Whom it talks to, when it works on a socket.
    pub peer: Peer,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> [u8; 16] {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }

    #[test]
    fn every_spelling_of_loopback_is_the_same_place() {
        let mut one = [0; 16];
        one[15] = 1;
        for address in [v4(127, 0, 0, 1), v4(127, 255, 0, 9), v4(0, 0, 0, 0), one, [0; 16]] {
            assert_eq!(Peer::new(address, 80, &Driver::default()).loopback, 1, "{address:?}");
        }
        let mut other = one;
        other[0] = 0xfe;
        for address in [v4(10, 0, 0, 1), v4(128, 0, 0, 1), other] {
            let peer = Peer::new(address, 80, &Driver::default());
            assert_eq!(peer.loopback, 0, "{address:?}");
        }
    }

    #[test]
    fn the_driver_is_known_by_its_address_and_no_driver_matches_nothing() {
        let mut six = [0; 16];
        (six[0], six[15]) = (0xfd, 1);
        let driver = Driver { v4: v4(127, 77, 0, 1), v6: six };
        for address in [driver.v4, driver.v6] {
            let peer = Peer::new(address, 5, &driver);
            assert_eq!((peer.driver, peer.loopback), (1, 0));
        }
        assert_eq!(Peer::new(v4(127, 0, 0, 1), 5, &driver).driver, 0);
        assert_eq!(Peer::new([0; 16], 5, &Driver::default()).driver, 0);
    }
}
