//! One step of a test, whatever its protocol.

use super::{Dialer, Limit, Url, http, http_request::Request, tcp, url::request_target};
use crate::spec::{HostError, Step, StepReply};

/// Runs a step against the interface at `host:port`, on a connection of its own.
///
/// An HTTP step never fails: see [`crate::spec::Response`]. A TCP step that cannot connect or
/// exchange its lines fails the test.
pub fn run(
    step: &Step,
    dialer: &Dialer,
    host: &str,
    port: u16,
    limit: &Limit<'_>,
) -> Result<StepReply, HostError> {
    match step {
        Step::TcpSend { data } => tcp::send(dialer, host, port, data, limit)
            .map(StepReply::Line)
            .map_err(|error| HostError(format!("tcp send failed: {error}"))),
        Step::Http { method, path, body, headers } => {
            let url = Url { host: host.to_owned(), port, target: request_target(path) };
            let request = Request { method: *method, body, headers };
            Ok(StepReply::Response(http::request(dialer, &url, &request, limit)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        time::{Duration, Instant},
    };

    use super::{
        super::server::{Server, refused_port},
        *,
    };
    use crate::spec::HttpMethod;

    fn soon() -> Limit<'static> {
        Limit::new(Instant::now() + Duration::from_secs(5), &|| false)
    }

    #[test]
    fn a_tcp_step_to_nobody_fails_and_an_http_step_says_so() {
        let nobody = refused_port();
        let send = Step::TcpSend { data: "PING".to_owned() };
        let error = run(&send, &Dialer::default(), "localhost", nobody.port, &soon());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("tcp send failed: "), "{error}");
        assert!(error.ends_with("Connection refused (os error 111)"), "{error}");

        let get = Step::Http {
            method: HttpMethod::Get,
            path: "/".to_owned(),
            body: String::new(),
            headers: Vec::new(),
        };
        let reply = run(&get, &Dialer::default(), "localhost", nobody.port, &soon()).unwrap();
        let StepReply::Response(response) = reply else { panic!("{reply:?}") };
        assert_eq!((response.status, response.ok), (0, false));
        assert!(response.error.contains("refused"), "{}", response.error);
    }

    #[test]
    fn each_step_opens_a_connection_of_its_own() {
        let server = Server::start(|mut stream| {
            let _ = stream.read(&mut [0; 64]).unwrap();
            stream.write_all(b"PONG\n").unwrap();
        });
        let send = Step::TcpSend { data: "PING".to_owned() };
        for _ in 0..3 {
            let reply = run(&send, &Dialer::default(), "localhost", server.port, &soon());
            assert_eq!(reply.unwrap(), StepReply::Line("PONG".to_owned()));
        }
        assert_eq!(server.accepted(), 3);
    }
}
