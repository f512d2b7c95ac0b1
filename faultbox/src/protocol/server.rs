//! Servers for the tests of this folder: each serves every connection with one function.

use std::{
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage, bind, getsockname, setsockopt,
    socket, sockopt,
};

use super::Limit;

/// A listener on a port of its own; its thread ends when it is dropped.
pub(super) struct Server {
    pub(super) port: u16,
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on 127.0.0.1.
    pub(super) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::on("127.0.0.1:0", serve)
    }

    /// Serves on this address.
    pub(super) fn on(address: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let serve = Arc::new(serve);
        let thread = thread::spawn({
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let serve = Arc::clone(&serve);
                    thread::spawn(move || serve(stream.unwrap()));
                }
            }
        });
        Self { port: address.port(), address, accepted, stop, thread: Some(thread) }
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; when it fails the listener is gone already.
        if let Ok(stream) = TcpStream::connect(self.address) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A limit of some seconds, for what is expected to end by itself.
pub(super) fn soon() -> Limit<'static> {
    Limit::new(Instant::now() + Duration::from_secs(20), &|| false)
}

/// Makes the close of a stream send RST in place of FIN (socket(7), `SO_LINGER`).
pub(super) fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &linger).unwrap();
}

/// A port that nobody listens on and nobody else can take.
pub(super) struct RefusedPort {
    pub(super) port: u16,
    _fd: OwnedFd,
}

/// Holds a port without listening on it.
pub(super) fn refused_port() -> RefusedPort {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
    let name: SockaddrIn = getsockname(fd.as_raw_fd()).unwrap();
    RefusedPort { port: name.port(), _fd: fd }
}
