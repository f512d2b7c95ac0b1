//! Single attempts at a healthcheck. Repeating them, and watching whether the service still
//! lives, is the runner's business.

use std::{io, time::Duration};

use super::{
    Dialer, Limit, Url, go_duration, http::exchange, http_request::Request, parse_address,
};
use crate::spec::{Healthcheck, HttpMethod};

/// The longest that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long to read on after a good status, so that the service can finish its answer.
const DRAIN: Duration = Duration::from_millis(250);

impl Healthcheck {
    /// Asks once, for at most 2 s, whether the service is ready. The error says why not; it is of
    /// kind `InvalidInput` when no later attempt can go better.
    pub fn attempt(&self, dialer: &Dialer, limit: &Limit<'_>) -> io::Result<()> {
        let limit = limit.within(ATTEMPT);
        match self {
            Self::Tcp { address, .. } => {
                let (host, port) = parse_address(address).ok_or_else(|| {
                    let text = format!("{address:?} is not of the form host:port");
                    io::Error::new(io::ErrorKind::InvalidInput, text)
                })?;
                dialer.connect(&host, port, &limit).map(drop)
            }
            Self::Http { url, .. } => {
                let url = Url::parse(url)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                let request = Request { method: HttpMethod::Get, body: "", headers: &[] };
                let (head, mut reader) = exchange(dialer, &url, &request, &limit)?;
                if !(200..400).contains(&head.status) {
                    return Err(io::Error::other(format!("status {}", head.status)));
                }
                // Closing on an unfinished answer would be a reset that the service did not earn.
                // It is ready whatever the body is, so how that ends does not matter.
                reader.limit_to(DRAIN);
                let _ = reader.body(&head);
                Ok(())
            }
        }
    }

    /// How long to go on trying.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Tcp { timeout, .. } | Self::Http { timeout, .. } => *timeout,
        }
    }

    /// What to say when it never passed: `TCP healthcheck "localhost:9999" timed out after 10s`.
    pub fn timed_out(&self) -> String {
        let (kind, place) = match self {
            Self::Tcp { address, .. } => ("TCP", address),
            Self::Http { url, .. } => ("HTTP", url),
        };
        let after = go_duration(self.timeout());
        format!("{kind} healthcheck \"{place}\" timed out after {after}")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        time::Instant,
    };

    use super::{
        super::server::{Server, refused_port},
        *,
    };

    const TEN: Duration = Duration::from_secs(10);

    fn attempt(check: &Healthcheck) -> io::Result<()> {
        let limit = Limit::new(Instant::now() + TEN, &|| false);
        check.attempt(&Dialer::default(), &limit)
    }

    fn http(port: u16) -> Healthcheck {
        Healthcheck::Http { url: format!("localhost:{port}/health"), timeout: TEN }
    }

    fn answer(status: u16) -> impl Fn(TcpStream) {
        move |mut stream: TcpStream| {
            let _ = stream.read(&mut [0; 1024]).unwrap();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    }

    #[test]
    fn a_listener_is_ready_and_a_free_port_is_not() {
        let server = Server::start(drop);
        let address = format!("localhost:{}", server.port);
        attempt(&Healthcheck::Tcp { address, timeout: TEN }).unwrap();
        let address = format!("localhost:{}", refused_port().port);
        let started = Instant::now();
        let error = attempt(&Healthcheck::Tcp { address, timeout: TEN }).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn statuses_from_200_to_399_are_ready_and_redirects_are_not_followed() {
        for (status, ready) in [(200, true), (204, true), (302, true), (399, true)]
            .into_iter()
            .chain([(400, false), (503, false)])
        {
            let server = Server::start(answer(status));
            assert_eq!(attempt(&http(server.port)).is_ok(), ready, "{status}");
        }
    }

    #[test]
    fn an_endless_body_does_not_hold_up_readiness() {
        let server = Server::start(|mut stream| {
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\ndata").unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let started = Instant::now();
        attempt(&http(server.port)).unwrap();
        assert!(started.elapsed() < Duration::from_millis(1500));
    }

    #[test]
    fn a_silent_listener_costs_one_attempt_two_seconds() {
        let server = Server::start(|mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let started = Instant::now();
        let error = attempt(&http(server.port)).unwrap_err();
        assert_eq!(error.to_string(), "timed out after 2s");
        assert!((2000..3000).contains(&started.elapsed().as_millis()));
    }

    #[test]
    fn an_address_that_cannot_work_is_told_apart() {
        for check in [
            Healthcheck::Tcp { address: "localhost".to_owned(), timeout: TEN },
            Healthcheck::Http { url: "https://x/".to_owned(), timeout: TEN },
        ] {
            assert_eq!(attempt(&check).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn the_texts_are_the_contracts() {
        let check = Healthcheck::Tcp { address: "localhost:9999".to_owned(), timeout: TEN };
        assert_eq!(check.timed_out(), r#"TCP healthcheck "localhost:9999" timed out after 10s"#);
        let check = Healthcheck::Http {
            url: "localhost:8080/health".to_owned(),
            timeout: Duration::from_millis(1500),
        };
        let expected = r#"HTTP healthcheck "localhost:8080/health" timed out after 1.5s"#;
        assert_eq!(check.timed_out(), expected);
    }
}
