//! What the child's calls work on: files of every kind and place, sockets, pipes.
//!
//! Everything is opened here and inherited by the child under the same numbers.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt as _, net::UnixDatagram},
    },
    path::Path,
};

use faultbox_common::{Call, Object, Peer};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    super::super::{Driver, Engine, Rung, Syscall, TargetId},
    Random,
    child::{BATCH, Child, Deed, Order},
    model::{Natural, Seen},
};

/// Ports that rules may name.
pub(super) const PORTS: usize = 6;
/// Where the driver dials from.
pub(super) const DRIVER: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CWD: RawFd = -100;
/// Deeds on a descriptor alone.
const DATA: &[Deed] = &[
    Deed::Write,
    Deed::Read,
    Deed::PositionedWrite,
    Deed::PositionedRead,
    Deed::Send,
    Deed::Receive,
    Deed::Sync,
];

/// A descriptor of the child's.
struct Descriptor {
    number: RawFd,
    call: Call,
    /// Where its file or directory is: an index into the places.
    place: Option<usize>,
}

/// A path as it is given to `openat(2)`.
struct Spelling {
    directory: usize,
    text: String,
    /// Whether it always leads to a file.
    stays: bool,
}

pub(super) struct World {
    target: TargetId,
    rungs: HashMap<&'static str, Rung>,
    syscalls: Vec<Syscall>,
    base: String,
    other: String,
    ports: Vec<u16>,
    addresses: Vec<SocketAddr>,
    /// Paths of open files, as they are now.
    places: Vec<String>,
    descriptors: Vec<Descriptor>,
    spellings: Vec<Spelling>,
    /// What calls return that nothing breaks.
    learned: HashMap<(u32, usize), i64>,
    kept: Vec<OwnedFd>,
    listeners: Vec<TcpListener>,
    ends: Vec<File>,
    input: RawFd,
    output: RawFd,
    error: RawFd,
    working: std::ffi::CString,
    renamed: [(usize, [String; 2]); 2],
    within: usize,
    doomed: Option<String>,
}

fn eligible(object: Object) -> Call {
    Call { object, peer: Peer::default() }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn socket(address: SocketAddr) -> Call {
    let peer = Peer::new(mapped(address.ip()), address.port(), &World::driver());
    Call { object: Object::Socket, peer }
}

fn nothing() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, 0).into()
}

/// For `connect(2)`.
pub(super) fn address(of: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is a valid address of no family.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match of {
        SocketAddr::V4(v4) => {
            // SAFETY: the storage is large enough and aligned for every address.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            to.sin_family = libc::AF_INET as u16;
            to.sin_port = v4.port().to_be();
            to.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let to = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            to.sin6_family = libc::AF_INET6 as u16;
            to.sin6_port = v6.port().to_be();
            to.sin6_addr.s6_addr = v6.ip().octets();
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

impl World {
    pub(super) fn driver() -> Driver {
        Driver { v4: mapped(DRIVER.into()), ..Driver::default() }
    }

    pub(super) fn new(engine: &Engine, target: TargetId) -> Self {
        let rungs: HashMap<_, _> = [
            "write", "read", "pwrite64", "pread64", "fsync", "openat", "connect", "sendto",
            "recvfrom",
        ]
        .into_iter()
        .filter_map(|name| {
            Some((name, engine.coverage().rung(Syscall::from_name(name).unwrap()).ok()?))
        })
        .collect();
        let syscalls = rungs.keys().map(|name| Syscall::from_name(name).unwrap());
        let mut syscalls: Vec<_> = syscalls.collect();
        // In the table's order, or a seed would not replay.
        syscalls.sort();
        let pid = std::process::id();
        let base = format!("/tmp/fbag{pid}");
        let mut world = Self {
            target,
            rungs,
            syscalls,
            working: std::ffi::CString::new(format!("{base}/journal")).unwrap(),
            other: format!("/var/tmp/fbag{pid}"),
            base,
            ports: Vec::new(),
            addresses: Vec::new(),
            places: Vec::new(),
            descriptors: Vec::new(),
            spellings: Vec::new(),
            learned: HashMap::new(),
            kept: Vec::new(),
            listeners: Vec::new(),
            ends: Vec::new(),
            input: -1,
            output: -1,
            error: -1,
            renamed: Default::default(),
            within: 0,
            doomed: None,
        };
        world.make_files();
        world.make_streams();
        world.make_sockets();
        world
    }

    fn keep(&mut self, fd: impl Into<OwnedFd>, call: Call, place: Option<usize>) -> usize {
        let fd = fd.into();
        self.descriptors.push(Descriptor { number: fd.as_raw_fd(), call, place });
        self.kept.push(fd);
        self.descriptors.len() - 1
    }

    fn place(&mut self, path: &str) -> usize {
        self.places.push(path.to_owned());
        self.places.len() - 1
    }

    /// A file, made if need be, open for both; and its path to open.
    fn file(&mut self, path: &str, stays: bool) -> usize {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        if !Path::new(path).exists() {
            fs::write(path, "content").unwrap();
        }
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let place = self.place(path);
        self.keep(file, eligible(Object::File), Some(place));
        self.spell(0, path, stays);
        place
    }

    fn reader(&mut self, path: &str) -> usize {
        let place = self.place(&fs::canonicalize(path).unwrap().to_string_lossy());
        self.keep(File::open(path).unwrap(), eligible(Object::File), Some(place))
    }

    fn spell(&mut self, directory: usize, text: &str, stays: bool) {
        self.spellings.push(Spelling { directory, text: text.to_owned(), stays });
    }

    fn make_files(&mut self) {
        let base = self.base.clone();
        let working = self.place(&format!("{base}/journal"));
        self.descriptors.push(Descriptor {
            number: CWD,
            call: eligible(Object::File),
            place: Some(working),
        });
        let long = "a-name-that-is-much-longer-than-any-chunk-of-eight-or-sixteen-bytes.dat";
        for name in [
            "a",
            "journal/wal",
            "journal/eightchr/ninechars",
            "journal/naïve-journal.log",
            "sixteen-chars-ok/seventeen-chars-x/file.db",
            "lib/proc/etc/hosts",
            "one/two/three/four/five/six/seven/eight/nine/ten",
            &format!("{}/{long}", long.split_once('.').unwrap().0),
            &format!("{}deep", "d/".repeat(28)),
        ] {
            self.file(&format!("{base}/{name}"), true);
        }
        // Other mounts: one of its own, one of the same files elsewhere, and the root's.
        for name in ["mnt/tmpfs-in-the-path", "bound"] {
            fs::create_dir_all(format!("{base}/{name}")).unwrap();
        }
        let mounted = format!("{base}/mnt/tmpfs-in-the-path");
        mount(None::<&str>, &*mounted, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        self.file(&format!("{mounted}/sub/inside"), true);
        let (from, to) = (format!("{base}/sixteen-chars-ok"), format!("{base}/bound"));
        mount(Some(&*from), &*to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        self.file(&format!("{to}/seventeen-chars-x/file.db"), true);
        self.file(&format!("{to}/seventeen-chars-x/only-here"), true);
        self.file(&format!("{}/other.dat", self.other.clone()), true);
        self.file(&format!("/dev/shm/fbag{}/of-the-system", std::process::id()), true);
        // Files that move, alone and with their directory, and one that goes.
        let names = ["before", "renamed-to-a-longer-name"].map(|it| format!("{base}/journal/{it}"));
        let moving = self.file(&names[0], false);
        self.spell(0, &names[1], false);
        let folders = ["moving", "moved/to-elsewhere"].map(|it| format!("{base}/{it}"));
        fs::create_dir_all(format!("{base}/moved")).unwrap();
        self.within = self.file(&format!("{}/within", folders[0]), false);
        self.spell(0, &format!("{}/within", folders[1]), false);
        let folder = self.reader(&folders[0]);
        let folder_place = self.descriptors[folder].place.unwrap();
        self.spell(folder, "within", false);
        self.renamed = [(moving, names), (folder_place, folders)];
        let doomed = format!("{base}/journal/doomed.tmp");
        self.file(&doomed, false);
        self.doomed = Some(doomed);

        self.reader(&format!("{base}/a"));
        self.reader("/proc/self/status");
        let root = self.reader("/");
        let proc = self.reader("/proc");
        let start = self.reader(&base);
        let bound = self.reader(&to);
        for text in ["wal", "eightchr/ninechars", "./wal", "../a", "eightchr/../wal"] {
            self.spell(0, text, true);
        }
        for text in ["journal/wal", "mnt/tmpfs-in-the-path/sub/inside", "lib/proc/etc/hosts"] {
            self.spell(start, text, true);
            self.spell(root, &format!("{}/{text}", &base[1..]), true);
        }
        self.spell(bound, "seventeen-chars-x/file.db", true);
        self.spell(0, "missing", false);
        self.spell(start, "journal/missing-here/and-more", false);
        self.spell(0, &format!("{base}//journal/./wal"), true);
        self.spell(0, "/proc/version", false);
        self.spell(proc, "version", false);
        self.spell(root, "proc/version", false);
        self.spell(root, "proc/self/status", false);
    }

    fn make_streams(&mut self) {
        let (input, into) = std::io::pipe().unwrap();
        let (out, output) = std::io::pipe().unwrap();
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        (self.input, self.output, self.error) =
            (input.as_raw_fd(), output.as_raw_fd(), null.as_raw_fd());
        set_nonblocking(input.as_raw_fd());
        set_nonblocking(out.as_raw_fd());
        for number in 0..=2 {
            self.descriptors.push(Descriptor {
                number,
                call: eligible(Object::Stdio),
                place: None,
            });
        }
        self.ends.push(File::from(OwnedFd::from(out)));
        self.kept.extend([input.into(), into.into(), output.into(), OwnedFd::from(null)]);

        let fifo = format!("{}/fifo", self.base);
        nix::unistd::mkfifo(&*fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut options = OpenOptions::new();
        let end = options.read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        self.ends.push(end);
        let fifo = OpenOptions::new().write(true).open(&fifo).unwrap();
        self.keep(fifo, eligible(Object::Fifo), None);

        let (end, unnamed) = std::io::pipe().unwrap();
        set_nonblocking(end.as_raw_fd());
        self.ends.push(File::from(OwnedFd::from(end)));
        self.keep(unnamed, eligible(Object::Ineligible), None);
        let event = nix::sys::eventfd::EventFd::from_value(1).unwrap();
        self.keep(event, eligible(Object::Ineligible), None);
        let (one, other) = UnixDatagram::pair().unwrap();
        set_nonblocking(one.as_raw_fd());
        set_nonblocking(other.as_raw_fd());
        self.ends.push(File::from(OwnedFd::from(other)));
        self.keep(one, eligible(Object::Ineligible), None);
        self.descriptors.push(Descriptor {
            number: 999,
            call: eligible(Object::Ineligible),
            place: None,
        });
    }

    fn listen(&mut self, ip: IpAddr) -> Option<SocketAddr> {
        let listener = TcpListener::bind((ip, 0)).ok()?;
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        self.listeners.push(listener);
        self.addresses.push(address);
        Some(address)
    }

    fn make_sockets(&mut self) {
        let first = self.listen(LOCAL).unwrap();
        let second = self.listen(LOCAL).unwrap();
        let driver = self.listen(DRIVER.into()).unwrap();
        let six = self.listen(Ipv6Addr::LOCALHOST.into());
        // Bound, so that nobody gets the port, and not listening.
        let closed = UdpSocket::bind((LOCAL, 0)).unwrap().local_addr().unwrap();
        for ip in [LOCAL, Ipv4Addr::new(127, 9, 0, 2).into(), DRIVER.into()] {
            self.addresses.push((ip, closed.port()).into());
        }
        self.addresses.push((Ipv4Addr::UNSPECIFIED, first.port()).into());
        self.addresses.push((Ipv4Addr::new(192, 0, 2, 9), second.port()).into());
        if six.is_some() {
            let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
            self.addresses.push((mapped, second.port()).into());
            self.addresses.push((Ipv6Addr::UNSPECIFIED, first.port()).into());
        }
        for address in [Some(first), Some(second), Some(driver), six].into_iter().flatten() {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nonblocking(true).unwrap();
            let listener = self.listeners.iter().find(|it| it.local_addr().unwrap() == address);
            // The connection may take a moment to arrive.
            let accept = || listener.unwrap().accept().ok();
            let (end, _) = std::iter::repeat_with(accept).flatten().next().unwrap();
            end.set_nonblocking(true).unwrap();
            self.ends.push(File::from(OwnedFd::from(end)));
            self.keep(stream, socket(address), None);
        }
        let end = UdpSocket::bind((LOCAL, 0)).unwrap();
        end.set_nonblocking(true).unwrap();
        let datagrams = UdpSocket::bind((LOCAL, 0)).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        datagrams.connect(end.local_addr().unwrap()).unwrap();
        let udp = end.local_addr().unwrap();
        self.ends.push(File::from(OwnedFd::from(end)));
        self.keep(datagrams, socket(udp), None);
        let unconnected = UdpSocket::bind((LOCAL, 0)).unwrap();
        unconnected.set_nonblocking(true).unwrap();
        self.keep(unconnected, socket(nothing()), None);

        let path = format!("{}/socket", self.base);
        let end = UnixDatagram::bind(&path).unwrap();
        end.set_nonblocking(true).unwrap();
        let unix = UnixDatagram::unbound().unwrap();
        unix.set_nonblocking(true).unwrap();
        unix.connect(&path).unwrap();
        self.ends.push(File::from(OwnedFd::from(end)));
        self.keep(unix, eligible(Object::UnixSocket), None);
        let six = six.map_or(closed.port(), |six| six.port());
        self.ports =
            vec![first.port(), second.port(), driver.port(), closed.port(), udp.port(), six];
    }

    pub(super) fn target(&self) -> TargetId {
        self.target
    }

    pub(super) fn syscalls(&self) -> &[Syscall] {
        &self.syscalls
    }

    /// Whether a call can be made to report a result here.
    pub(super) fn returns(&self) -> bool {
        !self.skips_early()
    }

    /// Whether calls are broken on their way only: rung 2.
    pub(super) fn skips_early(&self) -> bool {
        self.rungs["write"] == Rung::SecurityFunction
    }

    pub(super) fn port(&self, index: usize) -> u16 {
        self.ports[index]
    }

    pub(super) fn some_path(&self, random: &mut Random) -> &str {
        if random.one_in(3) {
            let absolute: Vec<_> =
                self.spellings.iter().filter(|it| it.text.starts_with('/')).collect();
            &random.pick(&absolute).text
        } else {
            random.pick(&self.places).as_str()
        }
    }

    // The child's half. Nothing here may allocate.

    /// Takes its place in the child.
    pub(super) fn settle(&self) -> bool {
        // SAFETY: plain calls on descriptors of our own.
        unsafe {
            libc::dup2(self.input, 0) == 0
                && libc::dup2(self.output, 1) == 1
                && libc::dup2(self.error, 2) == 2
                && libc::chdir(self.working.as_ptr()) == 0
        }
    }

    pub(super) fn descriptor(&self, index: usize) -> RawFd {
        self.descriptors[index].number
    }

    pub(super) fn spelling(&self, index: usize) -> &[u8] {
        self.spellings[index].text.as_bytes()
    }

    pub(super) fn spellings(&self) -> usize {
        self.spellings.len()
    }

    pub(super) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    // The test's half.

    /// Finds out what every call returns that nothing breaks.
    pub(super) fn learn(&mut self, child: &Child) {
        let on_data = (1..self.descriptors.len())
            .flat_map(|descriptor| DATA.iter().map(move |deed| (*deed, descriptor, 0)));
        let on_addresses = (0..self.addresses.len()).map(|which| (Deed::Connect, 0, which));
        let orders: Vec<_> = on_data
            .chain(on_addresses)
            .map(|(deed, descriptor, which)| Order { deed, descriptor, which })
            .collect();
        for orders in orders.chunks(BATCH) {
            for (order, result) in orders.iter().zip(child.make(orders)) {
                self.learned.insert((order.deed as u32, order.descriptor + order.which), result);
            }
            self.drain();
        }
    }

    /// Moves what moves; once, removes what is to go.
    pub(super) fn change(&mut self, random: &mut Random) {
        for i in 0..2 {
            if random.one_in(2) {
                continue;
            }
            let (place, [one, other]) = &self.renamed[i];
            let (from, to) = if self.places[*place] == *one { (one, other) } else { (other, one) };
            fs::rename(from, to).unwrap();
            self.places[*place].clone_from(to);
            if i == 1 {
                self.places[self.within] = format!("{to}/within");
            }
        }
        if random.one_in(20)
            && let Some(path) = self.doomed.take()
        {
            fs::remove_file(path).unwrap();
        }
    }

    /// A call to make.
    pub(super) fn call(&self, random: &mut Random) -> Order {
        let deeds = if self.rungs.contains_key("fsync") { DATA } else { &DATA[..DATA.len() - 1] };
        match random.below(10) {
            0..6 => Order {
                deed: *random.pick(deeds),
                descriptor: 1 + random.below(self.descriptors.len() - 1),
                which: 0,
            },
            6..9 => {
                let which = random.below(self.spellings.len());
                let spelling = &self.spellings[which];
                let makes = spelling.stays && random.one_in(3);
                let deed = if makes { Deed::Create } else { Deed::Open };
                Order { deed, descriptor: spelling.directory, which }
            }
            _ => Order {
                deed: Deed::Connect,
                descriptor: 0,
                which: random.below(self.addresses.len()),
            },
        }
    }

    /// The call as the kernel should see it.
    pub(super) fn seen(&self, order: &Order) -> Seen {
        let name = match order.deed {
            Deed::Write => "write",
            Deed::Read => "read",
            Deed::PositionedWrite => "pwrite64",
            Deed::PositionedRead => "pread64",
            Deed::Sync => "fsync",
            Deed::Open | Deed::Create => "openat",
            Deed::Connect => "connect",
            Deed::Send => "sendto",
            Deed::Receive => "recvfrom",
        };
        let syscall = Syscall::from_name(name).unwrap();
        match order.deed {
            Deed::Open | Deed::Create => {
                let path = self.full(&self.spellings[order.which]);
                let natural = if fs::metadata(&path).is_ok() {
                    Natural::Descriptor
                } else {
                    Natural::Early(libc::ENOENT)
                };
                Seen { syscall, call: eligible(Object::File), path, natural }
            }
            Deed::Connect => Seen {
                syscall,
                call: socket(self.addresses[order.which]),
                path: String::new(),
                natural: self.natural(order),
            },
            _ => {
                let descriptor = &self.descriptors[order.descriptor];
                let path = descriptor.place.map(|place| self.places[place].clone());
                Seen {
                    syscall,
                    call: descriptor.call,
                    path: path.unwrap_or_default(),
                    natural: self.natural(order),
                }
            }
        }
    }

    fn full(&self, spelling: &Spelling) -> String {
        let text = &spelling.text;
        if text.starts_with('/') {
            return text.clone();
        }
        let place = self.descriptors[spelling.directory].place.unwrap();
        let directory = self.places[place].trim_end_matches('/');
        format!("{directory}/{text}")
    }

    fn natural(&self, order: &Order) -> Natural {
        let value = self.learned[&(order.deed as u32, order.descriptor + order.which)];
        match i32::try_from(-value) {
            Ok(errno @ (libc::EBADF | libc::ENOTSOCK | libc::ESPIPE)) => Natural::Early(errno),
            _ => Natural::Is(value),
        }
    }

    /// Takes away what has been sent, so that nothing ever fills up.
    pub(super) fn drain(&mut self) {
        for listener in &self.listeners {
            while listener.accept().is_ok() {}
        }
        let mut buffer = [0; 4096];
        for end in &mut self.ends {
            loop {
                match end.read(&mut buffer) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
        }
    }
}

fn set_nonblocking(fd: RawFd) {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK) };
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["mnt/tmpfs-in-the-path", "bound"] {
            let _ = umount2(&*format!("{}/{name}", self.base), MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_dir_all(&self.base);
        let _ = fs::remove_dir_all(&self.other);
        let _ = fs::remove_dir_all(format!("/dev/shm/fbag{}", std::process::id()));
    }
}
