//! One step of a test, whatever its protocol.

use std::time::Instant;

use super::{
    Dialer, Limit, Url,
    client::TOTAL,
    credentials, http,
    http_request::Request,
    postgres::{self, Statement},
    redis, tcp,
    url::request_target,
};
use crate::spec::{Answer, Data, HostError, Protocol, Step, StepReply};

/// Runs a step against the interface at `host:port`, on a connection of its own. What a server wants
/// to know of who asks is looked for in the service's environment.
///
/// A TCP step that cannot connect or exchange its lines fails the test. All others never fail: see
/// [`crate::spec::Response`] and [`Answer`].
pub fn run(
    step: &Step,
    dialer: &Dialer,
    (host, port): (&str, u16),
    env: &[(String, String)],
    limit: &Limit<'_>,
) -> Result<StepReply, HostError> {
    let started = Instant::now();
    let answer = |result| StepReply::Answer(Answer { result, duration: started.elapsed() });
    match step {
        Step::TcpSend { data } => tcp::send(dialer, host, port, data, limit)
            .map(StepReply::Line)
            .map_err(|error| HostError(format!("tcp send failed: {error}"))),
        Step::Http { method, path, body, headers } => {
            let url = Url { host: host.to_owned(), port, target: request_target(path) };
            let request = Request { method: *method, body, headers };
            Ok(StepReply::Response(http::request(dialer, &url, &request, limit)))
        }
        Step::Redis { words, .. } => {
            let credentials = credentials(Protocol::Redis, env);
            let reply =
                redis::command(dialer, (host, port), &credentials, words, &limit.within(TOTAL));
            Ok(answer(reply.map(|it| Data::Map(vec![("value".to_owned(), it)]))))
        }
        Step::Postgres { wanted, sql, login } => {
            let credentials = &credentials(Protocol::Postgres, env);
            let statement = Statement { sql, wanted: *wanted, login, credentials };
            Ok(answer(postgres::run(dialer, (host, port), &statement, &limit.within(TOTAL))))
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
        let error = run(&send, &Dialer::default(), ("localhost", nobody.port), &[], &soon());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("tcp send failed: "), "{error}");
        assert!(error.ends_with("Connection refused (os error 111)"), "{error}");

        let get = Step::Http {
            method: HttpMethod::Get,
            path: "/".to_owned(),
            body: String::new(),
            headers: Vec::new(),
        };
        let reply =
            run(&get, &Dialer::default(), ("localhost", nobody.port), &[], &soon()).unwrap();
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
            let reply = run(&send, &Dialer::default(), ("localhost", server.port), &[], &soon());
            assert_eq!(reply.unwrap(), StepReply::Line("PONG".to_owned()));
        }
        assert_eq!(server.accepted(), 3);
    }
}
