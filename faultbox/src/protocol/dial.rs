//! Connections of the driver, from an address of its own.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
};

use nix::{
    errno::Errno,
    poll::PollFlags,
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, setsockopt,
        socket, sockopt,
    },
};

use super::Limit;
use crate::engine::Driver;

/// Where what is dialed is.
#[derive(Clone, Debug, Default)]
pub enum Network {
    /// In the network namespace of the calling thread.
    #[default]
    Own,
    /// In another one (`/proc/PID/ns/net`): the connection is made inside it, and every name
    /// means its loopback. Needs `CAP_SYS_ADMIN` (`setns(2)`).
    Inside(Arc<File>),
    /// At this address, which is what every name means.
    Host(IpAddr),
}

/// Dials services the way the test driver does.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    /// The addresses to dial from, by which the kernel side knows the driver's connections.
    /// Where one is zero, sockets of that family are not bound.
    pub driver: Driver,
    /// Where to.
    pub network: Network,
}

impl Dialer {
    /// Connects to `host:port`. `localhost` means 127.0.0.1, then `::1`, without a resolver. The
    /// stream is non-blocking.
    ///
    /// When every address fails, the error is the first one's, with the system's text.
    pub fn connect(&self, host: &str, port: u16, limit: &Limit<'_>) -> io::Result<TcpStream> {
        let mut first_error = None;
        for address in self.addresses(host, port, limit)? {
            match self.connect_to(address, limit) {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("no address found for {host}"))
        }))
    }

    fn addresses(&self, host: &str, port: u16, limit: &Limit<'_>) -> io::Result<Vec<SocketAddr>> {
        match &self.network {
            Network::Own => resolve(host, port, limit),
            Network::Inside(_) if host.parse::<IpAddr>().is_ok() => resolve(host, port, limit),
            Network::Inside(_) => resolve("localhost", port, limit),
            Network::Host(host) => Ok(vec![SocketAddr::new(*host, port)]),
        }
    }

    /// A socket of the namespace to dial in: it stays there, whoever uses it.
    fn socket(&self, family: AddressFamily) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let here = || Ok(socket(family, SockType::Stream, flags, None)?);
        let Network::Inside(namespace) = &self.network else {
            return here();
        };
        // A thread that cannot go back is no loss if it is there for nothing else.
        thread::scope(|scope| {
            let inside = || {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                here()
            };
            let thread = thread::Builder::new().name("dial".to_owned()).spawn_scoped(scope, inside);
            thread?.join().unwrap_or_else(|_| Err(io::Error::other("a bug in faultbox: panic")))
        })
    }

    fn connect_to(&self, address: SocketAddr, limit: &Limit<'_>) -> io::Result<TcpStream> {
        limit.remaining()?;
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let fd = self.socket(family)?;
        if let Some(source) = self.source_for(address.ip()) {
            // Without this option (ip(7), Linux 4.2) every bound socket would take a port from
            // all destinations at once. A kernel that refuses it only has fewer ports.
            let _ = setsockopt(&fd, sockopt::IpBindAddressNoPort, &true);
            bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
        }
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS | Errno::EINTR) => {
                limit.wait(fd.as_fd(), PollFlags::POLLOUT)?;
                match getsockopt(&fd, sockopt::SocketError)? {
                    0 => {}
                    error => return Err(io::Error::from_raw_os_error(error)),
                }
            }
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(fd);
        // Dialing a free port of the ephemeral range can hit upon the dialing socket itself:
        // nobody listens there, whatever TCP makes of it.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(Errno::ECONNREFUSED.into());
        }
        Ok(stream)
    }

    /// The address to bind to before dialing `destination`; `None`: leave it to the kernel.
    fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        let source = match destination {
            IpAddr::V4(_) => Ipv6Addr::from(self.driver.v4)
                .to_ipv4_mapped()
                .filter(|it| !it.is_unspecified())
                .map(IpAddr::V4),
            IpAddr::V6(_) => Some(Ipv6Addr::from(self.driver.v6))
                .filter(|it| !it.is_unspecified())
                .map(IpAddr::V6),
        }?;
        // From a loopback address nothing else can be reached (EINVAL).
        let local = destination.is_loopback() || destination.is_unspecified();
        (local || !source.is_loopback()).then_some(source)
    }
}

/// The addresses of a host, in the order to try them.
fn resolve(host: &str, port: u16, limit: &Limit<'_>) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    if bare.eq_ignore_ascii_case("localhost") {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    // getaddrinfo(3) knows no deadline; a thread of its own may outlive the step, not delay it.
    // It is in the network namespace of the thread that starts it.
    let (sender, receiver) = mpsc::channel();
    let name = bare.to_owned();
    thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // Nobody listens any more when the step has given up.
        let _ = sender.send(found);
    })?;
    loop {
        match receiver.recv_timeout(limit.slice()?) {
            Ok(found) => return found,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other(format!("the resolver failed for {host}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        time::{Duration, Instant},
    };

    use super::*;

    fn soon() -> Limit<'static> {
        Limit::new(Instant::now() + Duration::from_secs(5), &|| false)
    }

    fn driver(v4: &str) -> Dialer {
        let v4: Ipv4Addr = v4.parse().unwrap();
        let driver = Driver { v4: v4.to_ipv6_mapped().octets(), v6: [0; 16] };
        Dialer { driver, ..Dialer::default() }
    }

    #[test]
    fn the_server_sees_the_drivers_own_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = driver("127.77.0.9").connect("localhost", port, &soon()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.77.0.9");
        assert_eq!(peer, stream.local_addr().unwrap());
    }

    #[test]
    fn an_unbound_dialer_leaves_the_source_to_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _stream = Dialer::default().connect("127.0.0.1", port, &soon()).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "127.0.0.1");
    }

    #[test]
    fn localhost_also_means_a_listener_on_ipv6_only() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "LOCALHOST", "::1", "[::1]"] {
            let stream = driver("127.77.0.9").connect(host, port, &soon()).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap(), "{host}");
        }
    }

    #[test]
    fn a_source_address_of_ipv6_is_bound_too() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let driver = Driver { v4: [0; 16], v6: Ipv6Addr::LOCALHOST.octets() };
        let dialer = Dialer { driver, ..Dialer::default() };
        let stream = dialer.connect("::1", port, &soon()).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn the_first_addresss_error_is_reported_with_the_systems_text() {
        // Bound and never listening: nobody else can take the port while the test runs.
        let held = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let held = held.unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bind(held.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        let name: nix::sys::socket::SockaddrIn =
            nix::sys::socket::getsockname(held.as_raw_fd()).unwrap();
        let error = Dialer::default().connect("localhost", name.port(), &soon()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        assert_eq!(error.to_string(), "Connection refused (os error 111)");
    }

    #[test]
    fn a_full_backlog_ends_at_the_deadline() {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let fd = fd.unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let listener = TcpListener::from(fd);
        let port = listener.local_addr().unwrap().port();
        let mut held = Vec::new();
        let started = Instant::now();
        let limit = soon().within(Duration::from_millis(300));
        let error = loop {
            match Dialer::default().connect("127.0.0.1", port, &limit) {
                Ok(stream) => held.push(stream),
                Err(error) => break error,
            }
            assert!(held.len() < 100, "the backlog never fills");
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn a_listener_in_another_namespace_is_reached_from_there() {
        // The listener keeps its namespace, whose loopback is down unless somebody raises it.
        let place = thread::spawn(|| -> io::Result<_> {
            let driver = crate::runner::enter_network()?;
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let namespace = File::open("/proc/thread-self/ns/net")?;
            Ok((driver, listener, namespace))
        });
        let (driver, listener, namespace) = match place.join().unwrap() {
            Ok(place) => place,
            Err(error) => {
                use std::io::Write;
                let _ = writeln!(io::stderr(), "NOT TESTED: network namespaces: {error}");
                return;
            }
        };
        let port = listener.local_addr().unwrap().port();
        let network = Network::Inside(Arc::new(namespace));
        let dialer = Dialer { driver, network };
        for host in ["localhost", "redis", "127.0.0.1"] {
            let stream = dialer.connect(host, port, &soon()).unwrap();
            assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap(), "{host}");
            assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.66.98.1");
        }
        let here = Dialer { network: Network::Own, ..dialer };
        assert!(here.connect("localhost", port, &soon()).is_err());
    }

    #[test]
    fn a_name_may_mean_an_address() {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = Network::Host("127.0.0.2".parse().unwrap());
        let dialer = Dialer { network, ..Dialer::default() };
        dialer.connect("localhost", port, &soon()).unwrap();
    }

    #[test]
    fn other_names_are_the_resolvers() {
        // Neither of these needs a server: one is an old notation, the other is no name at all.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = driver("127.77.0.9").connect("127.1", port, &soon()).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.77.0.9");
        assert!(Dialer::default().connect("not..a..name", port, &soon()).is_err());
    }
}
