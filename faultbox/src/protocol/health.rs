//! Single attempts at a healthcheck. Repeating them, and watching whether the service still
//! lives, is the runner's business.

use std::{io, ops::Range, time::Duration};

use super::{
    Dialer, Limit, Url, credentials, go_duration,
    http::exchange,
    http_request::Request,
    parse_address,
    postgres::{self, Statement},
    redis,
};
use crate::spec::{Data, Healthcheck, HttpMethod, Login, Protocol, Wanted};

/// The longest that one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long to read on after a good status, so that the service can finish its answer.
const DRAIN: Duration = Duration::from_millis(250);

/// Where services listen.
const HOST: &str = "localhost";

impl Healthcheck {
    /// Asks once, for at most 2 s, whether the service is ready; its environment says as whom. The
    /// error says why it is not; it is of kind `InvalidInput` when no later attempt can go better.
    pub fn attempt(
        &self,
        env: &[(String, String)],
        dialer: &Dialer,
        limit: &Limit<'_>,
    ) -> io::Result<()> {
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
                http(&url, 200..400, dialer, &limit)
            }
            Self::Ready { protocol, port, .. } => ready(*protocol, *port, env, dialer, &limit),
        }
    }

    /// How long to go on trying.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Tcp { timeout, .. }
            | Self::Http { timeout, .. }
            | Self::Ready { timeout, .. } => *timeout,
        }
    }

    /// What to say when it never passed, `last` for the reason that `last` gives:
    /// `TCP healthcheck "localhost:9999" timed out after 10s`. Of `ready()` the reason is told,
    /// too: `redis healthcheck "localhost:6379" timed out after 30s (last: NOAUTH …)`.
    pub fn timed_out(&self, last: &io::Error) -> String {
        let after = go_duration(self.timeout());
        match self {
            Self::Tcp { address, .. } => {
                format!("TCP healthcheck \"{address}\" timed out after {after}")
            }
            Self::Http { url, .. } => {
                format!("HTTP healthcheck \"{url}\" timed out after {after}")
            }
            Self::Ready { protocol, port, .. } => {
                let protocol = protocol.name();
                format!(
                    "{protocol} healthcheck \"{HOST}:{port}\" timed out after {after} \
                     (last: {last})"
                )
            }
        }
    }
}

/// Passes when a GET is answered with one of these.
fn http(url: &Url, good: Range<u16>, dialer: &Dialer, limit: &Limit<'_>) -> io::Result<()> {
    let request = Request { method: HttpMethod::Get, body: "", headers: &[] };
    let (head, mut reader) = exchange(dialer, url, &request, limit)?;
    if !good.contains(&head.status) {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    // Closing on an unfinished answer would be a reset that the service did not earn. It is ready
    // whatever the body is, so how that ends does not matter.
    reader.limit_to(DRAIN);
    let _ = reader.body(&head);
    Ok(())
}

/// Passes when a service answers in its protocol: a connection, any status below 500, `PONG`, the
/// result of `SELECT 1`.
fn ready(
    protocol: Protocol,
    port: u16,
    env: &[(String, String)],
    dialer: &Dialer,
    limit: &Limit<'_>,
) -> io::Result<()> {
    let credentials = &credentials(protocol, env);
    let answer = match protocol {
        Protocol::Tcp => return dialer.connect(HOST, port, limit).map(drop),
        Protocol::Http => {
            let url = Url { host: HOST.to_owned(), port, target: "/".to_owned() };
            return http(&url, 100..500, dialer, limit);
        }
        Protocol::Redis => {
            let ping = ["PING".to_owned()];
            let answer = redis::command(dialer, (HOST, port), credentials, &ping, limit);
            answer.map(|it| (it == Data::Text("PONG".to_owned())).then_some(()).ok_or(it))
        }
        Protocol::Postgres => {
            let login = &Login::default();
            let statement =
                Statement { sql: "SELECT 1", wanted: Wanted::Count, login, credentials };
            postgres::run(dialer, (HOST, port), &statement, limit).map(|_| Ok(()))
        }
    };
    match answer {
        Ok(Ok(())) => Ok(()),
        Ok(Err(other)) => Err(io::Error::other(format!("unexpected answer {}", other.to_json()))),
        Err(error) => Err(io::Error::other(error)),
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
        check.attempt(&[], &Dialer::default(), &limit)
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

    fn ready(protocol: Protocol, port: u16) -> Healthcheck {
        Healthcheck::Ready { protocol, port, timeout: TEN }
    }

    /// A server that sends this to whoever says something.
    fn saying(text: &'static [u8]) -> Server {
        Server::start(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(text).unwrap();
            let _ = stream.read(&mut [0; 1024]);
        })
    }

    #[test]
    fn ready_is_who_answers_in_its_protocol() {
        let server = Server::start(drop);
        attempt(&ready(Protocol::Tcp, server.port)).unwrap();
        for (status, is_ready) in [(200, true), (404, true), (499, true), (500, false)] {
            let server = Server::start(answer(status));
            let passed = attempt(&ready(Protocol::Http, server.port));
            assert_eq!(passed.is_ok(), is_ready, "{status}: {passed:?}");
        }
        attempt(&ready(Protocol::Redis, saying(b"+PONG\r\n").port)).unwrap();
        for protocol in [Protocol::Tcp, Protocol::Http, Protocol::Redis, Protocol::Postgres] {
            let error = attempt(&ready(protocol, refused_port().port)).unwrap_err();
            assert!(error.to_string().contains("Connection refused"), "{error}");
        }
    }

    #[test]
    fn who_says_that_it_is_not_ready_is_not() {
        for (protocol, said, why) in [
            (
                Protocol::Redis,
                &b"-LOADING Redis is loading the dataset in memory\r\n"[..],
                "LOADING Redis is loading the dataset in memory",
            ),
            (
                Protocol::Redis,
                b"-NOAUTH Authentication required.\r\n",
                "NOAUTH Authentication required.",
            ),
            (Protocol::Redis, b"+OK\r\n", "unexpected answer \"OK\""),
            (
                Protocol::Postgres,
                b"E\0\0\0\x29SFATAL\0C57P03\0Mnot yet, starting up\0\0",
                "FATAL: not yet, starting up (SQLSTATE 57P03)",
            ),
        ] {
            let error = attempt(&ready(protocol, saying(said).port)).unwrap_err();
            assert_eq!(error.to_string(), why);
            // It may be ready later.
            assert_ne!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn the_texts_are_the_contracts() {
        let check = Healthcheck::Tcp { address: "localhost:9999".to_owned(), timeout: TEN };
        assert_eq!(
            check.timed_out(&io::Error::other("x")),
            r#"TCP healthcheck "localhost:9999" timed out after 10s"#
        );
        let check = Healthcheck::Http {
            url: "localhost:8080/health".to_owned(),
            timeout: Duration::from_millis(1500),
        };
        let expected = r#"HTTP healthcheck "localhost:8080/health" timed out after 1.5s"#;
        assert_eq!(check.timed_out(&io::Error::other("x")), expected);
        let expected = "redis healthcheck \"localhost:6379\" timed out after 10s (last: NOAUTH x)";
        let last = io::Error::other("NOAUTH x");
        assert_eq!(ready(Protocol::Redis, 6379).timed_out(&last), expected);
    }
}
