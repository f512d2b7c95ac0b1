//! What is the current call working on? The kernel's half of language.md 1.9.4.

use aya_ebpf::helpers::bpf_probe_read_user;
use faultbox_common::{Call, Object, Operand, Peer, Place};

use crate::{
    decision::increment,
    file::{self, ByHelper, Direct, File, Memory},
    kernel::{Address, Registers, blur, blurred, field, offset, read},
    maps::{DRIVERS, KINDS},
    path::{self, Dentry, PathBytes},
    place,
    target::{control, switch},
};

pub const S_IFMT: u64 = 0o170_000;
pub const S_IFSOCK: u64 = 0o140_000;
pub const S_IFREG: u64 = 0o100_000;
pub const S_IFDIR: u64 = 0o040_000;
pub const S_IFIFO: u64 = 0o010_000;
/// `include/uapi/linux/magic.h`: the pipes that `pipe(2)` makes live there and have no name.
const PIPEFS_MAGIC: u64 = 0x5049_5045;
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
/// `AT_FDCWD` as an `int`.
const CWD: u32 = -100i32 as u32;

/// What a call works on, as user space described it in [`KINDS`].
#[derive(Clone, Copy)]
pub struct Kind(pub u32);

impl Kind {
    /// Of this system call; `None` when it is not in the table.
    #[inline(always)]
    pub fn of(syscall: u32) -> Option<Self> {
        // SAFETY: a live map value, which user space fills before any program runs.
        let kind = unsafe { KINDS.at(syscall.into()).read() };
        (kind != 0).then_some(Self(kind))
    }

    /// Which argument names the operand.
    #[inline(always)]
    pub fn argument(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    #[inline(always)]
    fn is(self, operand: Operand) -> bool {
        self.0 & 0xff == operand as u32
    }

    /// Whether calls are recorded without any rule.
    #[inline(always)]
    pub fn is_observed(self) -> bool {
        self.0 >> 16 & 1 == 1
    }
}

/// The current call, and where its file is, for the report. All zeros is a call of which nothing
/// is known yet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Seen {
    /// As rules see it.
    pub call: Call,
    /// Where the file is, or the directory that a path starts at; none for an absolute one.
    pub start: Dentry,
    /// The open file's inode, if there is one, and its number.
    inode: u64,
    number: u64,
    /// The path that the program gave, in its own memory; 0: none.
    given: u64,
}

impl Seen {
    /// Makes the verifier forget how the call was seen: see [`blur`].
    #[inline(always)]
    pub fn forget(&mut self, unknown: u64) {
        // Every word is what it was, so the object is still one that the compiler knows.
        blur(self, unknown);
    }

    /// Writes the path to an event. Returns bytes of components and bytes as given.
    #[inline(always)]
    pub fn copy_path(&self, out: &mut PathBytes) -> (usize, usize) {
        let walked = if self.start.is_none() { 0 } else { path::names(&self.start, out) };
        let given = if self.given == 0 { 0 } else { path::copy_given(self.given, out, walked) };
        (walked, given)
    }

    /// Looks at the current call's operand, whatever its kind, but does not tell the system's own
    /// files from others: whoever reads the report sees that by the path.
    #[inline(always)]
    pub fn look(&mut self, kind: Kind, regs: &Registers, target: u64) {
        let index = kind.argument();
        if kind.is(Operand::Fd) {
            self.look_at_descriptor(regs.argument(index) & 0xffff_ffff, target, Direct);
        } else if kind.is(Operand::Path) {
            self.find_path(regs.argument(index), None);
        } else if kind.is(Operand::PathAt) {
            let directory = regs.argument(index.wrapping_sub(1)) as u32;
            self.find_path(regs.argument(index), Some(directory));
        } else if kind.is(Operand::Address) {
            self.look_at_address(regs, target);
        } else {
            self.call.object = Object::Plain;
        }
    }

    /// Looks at a path, relative to a directory or to the working directory.
    #[inline(always)]
    pub fn look_at_path(&mut self, user: u64, directory: Option<u32>) {
        self.find_path(user, directory);
        if !matches!(self.call.object, Object::File) {
            // SAFETY: a live map value.
            increment(unsafe { &raw mut (*control()).unread });
        }
    }

    /// Where the open file lies that the call works on; `globs` are what is asked about its path.
    #[inline(always)]
    pub fn place_of_file(&self, globs: u32) -> Place {
        if matches!(self.call.object, Object::File) {
            place::of_file(self.inode, self.number, &self.start, globs)
        } else {
            Place::default()
        }
    }

    /// Where the path lies that the call works on.
    #[inline(always)]
    pub fn place_of_path(&self, globs: u32) -> Place {
        if matches!(self.call.object, Object::File) {
            place::of_path(self.given, &self.start, globs)
        } else {
            Place::default()
        }
    }

    /// Looks at a descriptor of the current task, as the program may.
    #[inline(always)]
    pub fn look_at_descriptor(&mut self, descriptor: u64, target: u64, near: impl Memory) {
        let found = file::find(descriptor);
        // The verifier knows the number of each descriptor that was found. It must not follow the
        // rest once for each of them.
        let descriptor = blurred(descriptor, switch!(epoch));
        if descriptor == 1 || descriptor == 2 {
            // Whatever it is, unless something better is known below.
            self.call.object = Object::Stdio;
        }
        // A failed read means a file that rules do not know, never a failed call.
        let _ = match found {
            Some(File::Near(file)) => self.look_at_file(file, near, descriptor, target),
            Some(File::Far(file)) => self.look_at_file(file, ByHelper, descriptor, target),
            None => None,
        };
    }

    #[inline(always)]
    fn look_at_file(
        &mut self,
        file: Address,
        memory: impl Memory,
        descriptor: u64,
        target: u64,
    ) -> Option<()> {
        let inode = memory.follow::<{ field!(file_f_inode) }>(file)?;
        let mode = memory.load_wide::<u16, { field!(inode_i_mode) }>(inode)? & S_IFMT;
        if mode == S_IFREG || mode == S_IFDIR {
            self.start = Dentry::of_file(file, memory)?;
            self.inode = memory.number(inode);
            self.number = memory.load::<u64, { field!(inode_i_ino) }>(inode)?;
            self.call.object = Object::File;
        } else if mode == S_IFSOCK {
            let (socket, memory) = memory.socket(file)?;
            if let Some(call) = socket_call(socket, memory, target) {
                self.call = call;
            }
        } else if mode == S_IFIFO && descriptor != 1 && descriptor != 2 {
            if !is_unnamed_pipe(inode, memory)? {
                self.call.object = Object::Fifo;
            } else if descriptor == 0 {
                self.call.object = Object::Stdio;
            }
        }
        Some(())
    }

    /// A program cannot wait for a page: a path in memory that the process has never touched,
    /// such as a constant that is used for the first time, cannot be read. It is left ineligible,
    /// so the call runs.
    #[inline(always)]
    fn find_path(&mut self, user: u64, directory: Option<u32>) {
        let Some(first) = path::first_byte(user) else { return };
        self.call.object = Object::File;
        self.given = user;
        if first != b'/' {
            self.start = match directory {
                Some(descriptor) if descriptor != CWD => file::find_far(descriptor.into())
                    .and_then(|file| Dentry::of_file(file, ByHelper))
                    .unwrap_or(Dentry::NONE),
                _ => Dentry::working_directory(),
            };
        }
    }

    /// `connect(2)`: stream sockets over IPv4 and IPv6 only; the address asked for is the peer.
    #[inline(always)]
    pub fn look_at_address(&mut self, regs: &Registers, target: u64) {
        if let Some(peer) = address_asked_for(regs, target) {
            self.call = Call { object: Object::Socket, peer };
        }
    }
}

/// Whether a FIFO is one of those that `pipe(2)` makes.
#[inline(always)]
pub fn is_unnamed_pipe(inode: Address, memory: impl Memory) -> Option<bool> {
    let system = memory.follow::<{ field!(inode_i_sb) }>(inode)?;
    Some(memory.load::<u64, { field!(super_s_magic) }>(system)? == PIPEFS_MAGIC)
}

/// What a call on a socket works on; `None`: what no rule knows.
#[inline(always)]
pub fn socket_call(socket: Address, memory: impl Memory, target: u64) -> Option<Call> {
    let kind = memory.load::<u16, { field!(socket_type) }>(socket)?;
    let sock = memory.follow::<{ field!(socket_sk) }>(socket)?;
    let family = memory.load::<u16, { field!(sock_family) }>(sock)?;
    if family == AF_UNIX {
        // Its own structure is behind that of any socket's: further than the type goes.
        let sock = memory.number(sock) as Address;
        let is_named = is_named(sock)? || {
            let peer: Address = read(sock, offset!(unix_peer))?;
            !peer.is_null() && is_named(peer)?
        };
        return is_named.then_some(Call { object: Object::UnixSocket, peer: Peer::default() });
    }
    if kind != SOCK_STREAM && kind != SOCK_DGRAM {
        return None;
    }
    let address = if family == AF_INET {
        mapped(memory.load::<u32, { field!(sock_daddr) }>(sock)?.to_ne_bytes())
    } else if family == AF_INET6 {
        let high = memory.load::<u64, { field!(sock_v6_daddr) }>(sock)?;
        joined(high, memory.load::<u64, { field!(sock_v6_daddr_low) }>(sock)?)
    } else {
        return None;
    };
    let port = u16::from_be(memory.load::<u16, { field!(sock_dport) }>(sock)?);
    // SAFETY: a live map value, which user space fills before the target is known.
    let driver = unsafe { &*DRIVERS.at(target) };
    Some(Call { object: Object::Socket, peer: Peer::new(address, port, driver) })
}

#[inline(always)]
fn is_named(sock: Address) -> Option<bool> {
    read::<Address>(sock, offset!(unix_addr)).map(|address| !address.is_null())
}

/// An address by its words as they are in memory.
#[inline(always)]
fn joined(high: u64, low: u64) -> [u8; 16] {
    // SAFETY: both are sixteen bytes of anything.
    unsafe { core::mem::transmute([high, low]) }
}

/// `::ffff:a.b.c.d`.
#[inline(always)]
fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

#[inline(always)]
fn address_asked_for(regs: &Registers, target: u64) -> Option<Peer> {
    let file = file::find_far(regs.argument(0) & 0xffff_ffff)?;
    let inode: Address = read(file, offset!(file_f_inode))?;
    if u64::from(read::<u16>(inode, offset!(inode_i_mode))?) & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: Address = read(file, offset!(file_private_data))?;
    if read::<u16>(socket, offset!(socket_type))? != SOCK_STREAM {
        return None;
    }
    let address = regs.argument(1);
    // `struct sockaddr_in` and `sockaddr_in6`: family, port, then flow information in the latter.
    let family: u16 = user(address)?;
    let port = u16::from_be(user(address + 2)?);
    let ip = match family {
        AF_INET => mapped(user(address + 4)?),
        AF_INET6 => user(address + 8)?,
        _ => return None,
    };
    // SAFETY: as above.
    Some(Peer::new(ip, port, unsafe { &*DRIVERS.at(target) }))
}

#[inline(always)]
fn user<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const T).ok() }
}
