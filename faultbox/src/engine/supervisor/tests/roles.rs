//! What the processes under test do. A role returns 0 when everything went as its name says, the
//! error number of its one call, or the number of its first check that failed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd as _, FromRawFd as _},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    thread,
};

use crate::engine::launch::tests::role::Role;

pub(in crate::engine) mod delayed;

/// All of them.
pub(in crate::engine) const ROLES: &[(&str, Role)] = &[
    ("write-file", |a| errno(append(&a[0]).and_then(|mut file| file.write(b"x")))),
    ("create-file", |a| errno(File::create(&a[0]))),
    ("create-relative", |a| {
        std::env::set_current_dir(&a[0]).unwrap();
        errno(File::create(&a[1]))
    }),
    ("write-stdout", |_| {
        errno(io::stdout().lock().write(b"x\n").and_then(|_| io::stdout().flush()))
    }),
    ("read-and-fsync", |a| {
        let mut file = File::open(&a[0]).unwrap();
        let read = errno(file.read(&mut [0; 8]));
        if read != 0 { read } else { errno(file.sync_all()) }
    }),
    ("wake-up", |_| wake_up()),
    ("talk", |a| talk(&a[0], &a[1])),
    ("write-until-broken", |a| {
        let mut stream = TcpStream::connect(&a[0]).unwrap();
        // The first call after the reset has that error, every later one a broken pipe.
        loop {
            match errno(stream.write(b"x")) {
                0 | libc::ECONNRESET => {}
                errno => return errno,
            }
        }
    }),
    ("dial", |a| dial(a)),
    ("talk-locally", |a| talk_locally(Path::new(&a[0]))),
    ("write-in-threads", |a| write_in_threads(&a[0], a[1].parse().unwrap())),
    ("write-in-children", |a| write_in_children(&a[0])),
    ("write-many", |a| write_many(append(&a[0]).unwrap(), a[1].parse().unwrap())),
    ("send-many", |a| send_many(&a[0], a[1].parse().unwrap())),
    ("write-for-ever", |a| write_many(append(&a[0]).unwrap(), u64::MAX)),
    ("write-under-signals", |a| write_under_signals(&a[0])),
    ("outlive-the-first-thread", |a| outlive_the_first_thread(&a[0])),
    ("change-root", |a| change_root(&a[0])),
    ("without-privilege", |a| super::processes::without_privilege(&a[0])),
];

fn append(path: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.map_or_else(|error| error.raw_os_error().unwrap(), |_| 0)
}

/// Returns the number of the first result that is not as wanted, from 1; 0: all are.
fn first_unlike(results: &[(i32, i32)]) -> i32 {
    results.iter().position(|(is, wanted)| is != wanted).map_or(0, |i| i as i32 + 1)
}

/// The descriptors that runtimes wake themselves up by.
fn wake_up() -> i32 {
    let word = 1u64.to_ne_bytes();
    // SAFETY: system calls without pointers; the descriptor is ours.
    let mut event = unsafe { File::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
    let (mut read, mut write) = io::pipe().unwrap();
    let (mut left, mut right) = UnixStream::pair().unwrap();
    let (one, other) = UnixDatagram::pair().unwrap();
    let mut bytes = [0; 8];
    first_unlike(&[
        (errno(event.write(&word)), 0),
        (errno(event.read(&mut bytes)), 0),
        (errno(write.write(&word)), 0),
        (errno(read.read(&mut bytes)), 0),
        (errno(left.write(&word)), 0),
        (errno(right.read(&mut bytes)), 0),
        (errno(one.send(&word)), 0),
        (errno(other.recv(&mut bytes)), 0),
        (errno(File::open("/dev/zero").unwrap().read(&mut bytes)), 0),
    ])
}

/// Talks to the driver and to someone else, over TCP and, to the latter, over UDP.
fn talk(driver: &str, other: &str) -> i32 {
    let mut driver = TcpStream::connect(driver).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.connect(other).unwrap();
    let mut other = TcpStream::connect(other).unwrap();
    let mut byte = [0];
    // SAFETY: one byte is live.
    let write = |fd: i32| errno_of(unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) });
    first_unlike(&[
        (write(driver.as_raw_fd()), 0),
        (errno(driver.write(b"x")), 0),
        (errno(driver.read(&mut byte)), 0),
        (write(other.as_raw_fd()), libc::ECONNRESET),
        (errno(other.write(b"x")), libc::ECONNRESET),
        (errno(other.read(&mut byte)), libc::ECONNRESET),
        (errno(udp.send(b"x")), libc::ECONNRESET),
        // A network error: files cannot have it.
        (errno(File::open("/etc/passwd").unwrap().read(&mut byte)), 0),
    ])
}

fn errno_of(result: isize) -> i32 {
    if result < 0 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

/// Dials a port that is refused and one that is not, over both families, and what is not TCP.
fn dial(arguments: &[String]) -> i32 {
    let [refused, open, driver] = arguments else { panic!("three ports") };
    let tcp = |address: String| errno(TcpStream::connect(address));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    first_unlike(&[
        (tcp(format!("127.0.0.1:{refused}")), libc::EHOSTUNREACH),
        (tcp(format!("127.9.9.9:{refused}")), libc::EHOSTUNREACH),
        (tcp(format!("[::1]:{refused}")), libc::EHOSTUNREACH),
        (tcp(format!("[::ffff:127.0.0.1]:{refused}")), libc::EHOSTUNREACH),
        (tcp(format!("127.0.0.1:{open}")), 0),
        // Another host, as far as the rule is concerned.
        (tcp(format!("127.77.0.1:{driver}")), 0),
        (errno(udp.connect(format!("127.0.0.1:{refused}"))), 0),
        (errno(UnixStream::connect("/no/such/socket")), libc::ENOENT),
        (not_a_socket(), libc::ENOTSOCK),
        (bad_address(), libc::EFAULT),
    ])
}

fn not_a_socket() -> i32 {
    let file = File::open("/dev/null").unwrap();
    // SAFETY: all zeros is a valid address, and it is live.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as u16;
        let length = size_of_val(&address) as u32;
        errno_of(libc::connect(file.as_raw_fd(), (&raw const address).cast(), length) as isize)
    }
}

fn bad_address() -> i32 {
    // SAFETY: the kernel refuses the address.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        errno_of(libc::connect(fd, 16 as *const _, 16) as isize)
    }
}

/// `AF_UNIX` sockets with a name and FIFOs with a name.
fn talk_locally(folder: &Path) -> i32 {
    let listener = UnixListener::bind(folder.join("socket")).unwrap();
    let mut client = UnixStream::connect(folder.join("socket")).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let fifo = folder.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut fifo = OpenOptions::new().read(true).write(true).open(fifo).unwrap();
    first_unlike(&[
        (errno(client.write(b"x")), libc::EIO),
        (errno(server.write(b"x")), libc::EIO),
        (errno(fifo.write(b"x")), libc::EIO),
    ])
}

/// Every thread writes and must fail. Returns 0 when all did.
fn write_in_threads(path: &str, count: u64) -> i32 {
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let mut file = append(path).unwrap();
            thread::spawn(move || {
                (0..50).all(|_| errno(file.write(b"x")) == libc::EIO).then_some(())
            })
        })
        .collect();
    i32::from(!threads.into_iter().all(|it| it.join().unwrap().is_some()))
}

/// A child and a grandchild write and must fail.
fn write_in_children(path: &str) -> i32 {
    // SAFETY: this process has one thread.
    let fork = || unsafe { libc::fork() };
    let child = fork();
    if child == 0 {
        let grandchild = fork();
        let own = errno(append(path).unwrap().write(b"x"));
        let its = if grandchild == 0 { 0 } else { exit_code(grandchild) };
        let code = i32::from(own != libc::EIO || its != 0);
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    }
    exit_code(child)
}

fn exit_code(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is live.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    libc::WEXITSTATUS(status) + libc::WTERMSIG(status)
}

fn write_many(mut to: impl io::Write, count: u64) -> i32 {
    for _ in 0..count {
        if let Err(error) = to.write(b"x") {
            return error.raw_os_error().unwrap();
        }
    }
    0
}

fn send_many(to: &str, count: u64) -> i32 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    (0..count).map(|_| errno(socket.send(b"x"))).find(|errno| *errno != 0).unwrap_or(0)
}

/// A signal every 100 µs of running time, as Go's scheduler sends them.
fn write_under_signals(path: &str) -> i32 {
    extern "C" fn ignore(_: i32) {}
    // SAFETY: the handler does nothing; the structures are live and valid.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let interval = libc::timeval { tv_sec: 0, tv_usec: 100 };
        let timer = libc::itimerval { it_interval: interval, it_value: interval };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    write_many(append(path).unwrap(), 2000)
}

/// The thread whose id is the process's ends, another one goes on.
fn outlive_the_first_thread(path: &str) -> i32 {
    let path = path.to_owned();
    thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(20));
        let code = errno(append(&path).unwrap().write(b"x"));
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) }
    });
    // SAFETY: ends this thread only; nothing on its stack is borrowed by the other.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!()
}

/// Returns 0 when a file below the new root cannot be written, and one in its `/usr/lib` can.
fn change_root(root: &str) -> i32 {
    fs::create_dir_all(format!("{root}/usr/lib")).unwrap();
    std::os::unix::fs::chroot(root).unwrap();
    std::env::set_current_dir("/").unwrap();
    first_unlike(&[
        (errno(append("/data").unwrap().write(b"x")), libc::EIO),
        (errno(append("usr/lib/data").unwrap().write(b"x")), 0),
    ])
}
