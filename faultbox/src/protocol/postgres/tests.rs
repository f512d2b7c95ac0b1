//! Against a real server where one is installed, and against some that misbehave.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{
        credentials,
        installed::{self, Installed, PASSWORD},
        server::{Server, refused_port, reset, soon},
    },
    *,
};
use crate::spec::Protocol;

/// What the environment of a service says.
const ENV: [(&str, &str); 1] = [("POSTGRES_PASSWORD", PASSWORD)];

fn ask(port: u16, env: &[(&str, &str)], login: &Login, sql: &str) -> Result<Data, String> {
    let env: Vec<_> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let credentials = &credentials(Protocol::Postgres, &env);
    let statement = Statement { sql, wanted: Wanted::Rows, login, credentials };
    run(&Dialer::default(), ("127.0.0.1", port), &statement, &soon())
}

fn query(port: u16, sql: &str) -> Result<Data, String> {
    ask(port, &ENV, &Login::default(), sql)
}

fn exec(port: u16, sql: &str) -> String {
    let credentials =
        &Credentials { password: Some(PASSWORD.to_owned()), ..Credentials::default() };
    let login = &Login::default();
    let statement = Statement { sql, wanted: Wanted::Count, login, credentials };
    run(&Dialer::default(), ("127.0.0.1", port), &statement, &soon()).unwrap().to_json()
}

/// A real server that answers.
fn real() -> Option<Installed> {
    let server = installed::postgres()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = query(server.port, "SELECT 1") {
        assert!(Instant::now() < deadline, "{error}");
        thread::sleep(Duration::from_millis(20));
    }
    Some(server)
}

/// Rows as JSON.
fn rows(port: u16, sql: &str) -> String {
    query(port, sql).unwrap_or_else(|error| panic!("{sql}: {error}")).to_json()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&(4 + body.len() as u32).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// An error: severity, SQLSTATE, message.
fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0");
    message(b'E', body.as_bytes())
}

/// Reads the client's first message, which has no kind.
fn startup(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    body
}

/// Reads any later message; `None` at the end.
fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut kind = [0];
    stream.read_exact(&mut kind).ok()?;
    Some((kind[0], startup(stream)))
}

/// That the client is let in, and may ask.
fn welcome() -> Vec<u8> {
    [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
}

/// A server that lets everybody in and then, asked something, does this.
fn answering(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Server {
    Server::start(move |mut stream| {
        startup(&mut stream);
        stream.write_all(&welcome()).unwrap();
        next(&mut stream).unwrap();
        answer(&mut stream);
    })
}

#[test]
fn rows_have_names_and_values_of_their_type() {
    let Some(server) = real() else { return };
    let port = server.port;
    let none = r#"{"rows_affected":0}"#;
    assert_eq!(exec(port, "CREATE TABLE item (id int, name text, price numeric(8, 2))"), none);
    let inserted = exec(port, "INSERT INTO item VALUES (1, 'café', 2.5), (2, NULL, NULL)");
    assert_eq!(inserted, r#"{"rows_affected":2}"#);
    assert_eq!(
        rows(port, "SELECT * FROM item ORDER BY id"),
        r#"[{"id":1,"name":"café","price":"2.50"},{"id":2,"name":null,"price":null}]"#
    );
    assert_eq!(rows(port, "SELECT * FROM item WHERE id = 9"), "[]");
    assert_eq!(rows(port, "UPDATE item SET name = 'x' RETURNING id"), r#"[{"id":1},{"id":2}]"#);
    assert_eq!(
        exec(port, "DELETE FROM item WHERE id > 1; DELETE FROM item"),
        r#"{"rows_affected":2}"#
    );
    assert_eq!(rows(port, "DROP TABLE item"), "[]");
    assert_eq!(rows(port, ""), "[]");
    for (expression, json) in [
        ("7::smallint", "7"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("count(*)", "1"),
        ("2.5::float4", "2.5"),
        ("1::float8 / 3", "0.3333333333333333"),
        ("true", "true"),
        ("NULL::int", "null"),
        ("'42'::text", "\"42\""),
        ("'42'", "\"42\""),
        ("10.50", "\"10.50\""),
        ("'2026-01-02 03:04:05.6'::timestamptz", "\"2026-01-02 03:04:05.6+00\""),
        ("'{\"a\": [1]}'::jsonb", r#""{\"a\": [1]}""#),
        (r"'\x00ff'::bytea", r#""\\x00ff""#),
        (
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid",
            "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
        ),
        ("ARRAY[1, NULL]", "\"{1,NULL}\""),
        ("ROW(1, 'a')", "\"(1,a)\""),
    ] {
        assert_eq!(rows(port, &format!("SELECT {expression} AS v")), format!("[{{\"v\":{json}}}]"));
    }
    assert_eq!(query(port, "SELECT 'NaN'::float8").unwrap().to_json(), r#"[{"float8":null}]"#);
    assert_eq!(
        rows(port, "SELECT 1 AS a; SELECT 't' AS b, true AS c; SET TIME ZONE 'UTC'"),
        r#"[{"b":"t","c":true}]"#
    );
    // Larger than any read, so that messages are cut anywhere.
    let long = rows(port, "SELECT i, repeat('x', 50) AS t FROM generate_series(1, 20000) i");
    assert!(long.ends_with(&format!("{{\"i\":20000,\"t\":\"{}\"}}]", "x".repeat(50))));

    let missing = "ERROR: relation \"nope\" does not exist (SQLSTATE 42P01)";
    assert_eq!(query(port, "SELECT * FROM nope"), Err(missing.to_owned()));
    let twice = query(port, "CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k VALUES (1), (1)");
    let twice = twice.unwrap_err();
    assert!(twice.contains("\"k_pkey\" (SQLSTATE 23505); Key (id)=(1) already exists."), "{twice}");
    let copy = query(port, "COPY pg_class TO STDOUT").unwrap_err();
    assert!(copy.contains("unexpected message from server"), "{copy}");
}

#[test]
fn the_step_the_string_and_the_environment_say_who_asks() {
    let Some(server) = real() else { return };
    let port = server.port;
    exec(port, "CREATE ROLE shop LOGIN PASSWORD '4711'");
    exec(port, "CREATE DATABASE orders OWNER shop");
    let whoami = "SELECT current_user::text AS u, current_database()::text AS d";
    let login = |user: &str, password: &str, database: &str, connstr: &str| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Login {
            user: some(user),
            password: some(password),
            database: some(database),
            connstr: some(connstr),
        }
    };
    let shop =
        [("POSTGRES_USER", "shop"), ("POSTGRES_PASSWORD", "4711"), ("POSTGRES_DB", "orders")];
    for (env, login, expected) in [
        (&ENV[..], login("", "", "", ""), "postgres postgres"),
        (&shop, login("", "", "", ""), "shop orders"),
        (&ENV, login("shop", "4711", "orders", ""), "shop orders"),
        (&ENV, login("", "", "", "postgres://shop:4711@/orders"), "shop orders"),
        (
            &[],
            login("", "", "", &format!("postgres://shop:4711@localhost:{port}/orders")),
            "shop orders",
        ),
        (&shop, login("", "", "template1", "user=shop dbname=orders"), "shop template1"),
    ] {
        let answer = ask(port, env, &login, whoami).unwrap();
        let (user, database) = expected.split_once(' ').unwrap();
        assert_eq!(answer.to_json(), format!(r#"[{{"u":"{user}","d":"{database}"}}]"#));
    }
    for (env, login, error) in [
        (
            &[][..],
            login("", "", "", ""),
            "the server asks for a password: set POSTGRES_PASSWORD in env= of the service, or password= of the step",
        ),
        (
            &ENV,
            login("", "x", "", ""),
            "FATAL: password authentication failed for user \"postgres\" (SQLSTATE 28P01)",
        ),
        (
            &ENV,
            login("", "", "nope", ""),
            "FATAL: database \"nope\" does not exist (SQLSTATE 3D000)",
        ),
    ] {
        assert_eq!(ask(port, env, &login, "SELECT 1"), Err(error.to_owned()));
    }
}

#[test]
fn a_statement_is_one_message_and_the_client_takes_leave() {
    let (sender, messages) = mpsc::channel();
    let server = Server::start(move |mut stream| {
        sender.send((0, startup(&mut stream))).unwrap();
        stream.write_all(&welcome()).unwrap();
        while let Some((kind, body)) = next(&mut stream) {
            sender.send((kind, body)).unwrap();
            if kind == b'Q' {
                let done = [message(b'C', b"DELETE 3\0"), message(b'Z', b"I")].concat();
                stream.write_all(&done).unwrap();
            }
        }
        sender.send((b'.', Vec::new())).unwrap();
    });
    assert_eq!(exec(server.port, "DELETE FROM t"), r#"{"rows_affected":3}"#);
    let received = || messages.recv_timeout(Duration::from_secs(5)).unwrap();
    let (_, hello) = received();
    let hello = String::from_utf8_lossy(&hello).into_owned();
    assert!(hello.contains("user\0postgres\0database\0postgres\0"), "{hello:?}");
    assert_eq!(received(), (b'Q', b"DELETE FROM t\0".to_vec()));
    assert_eq!(received(), (b'X', Vec::new()), "Terminate");
    assert_eq!(received().0, b'.', "the end of the stream");
}

#[test]
fn errors_of_the_server_come_with_their_state() {
    let starting = Server::start(|mut stream| {
        startup(&mut stream);
        stream.write_all(&error("FATAL", "57P03", "the database system is starting up")).unwrap();
    });
    let expected = "FATAL: the database system is starting up (SQLSTATE 57P03)";
    assert_eq!(query(starting.port, "SELECT 1"), Err(expected.to_owned()));

    let crashed = answering(|stream| {
        stream.write_all(&error("FATAL", "57P02", "terminating connection")).unwrap();
    });
    let expected = "FATAL: terminating connection (SQLSTATE 57P02)";
    assert_eq!(query(crashed.port, "SELECT 1"), Err(expected.to_owned()));

    let stranger = Server::start(|mut stream| {
        startup(&mut stream);
        let text = "no pg_hba.conf entry for host \"127.66.98.1\", user \"postgres\"";
        stream.write_all(&error("FATAL", "28000", text)).unwrap();
    });
    let error = query(stranger.port, "SELECT 1").unwrap_err();
    assert!(error.contains("\"host all all 127.0.0.0/8 trust\""), "{error}");
}

#[test]
fn what_happens_to_the_connection_is_said_in_the_systems_words() {
    let held = refused_port();
    let port = held.port;
    let refused = format!("connect to 127.0.0.1:{port}: Connection refused (os error 111)");
    assert_eq!(query(port, "SELECT 1"), Err(refused));

    let closed = "the server closed the connection";
    let was_reset = "Connection reset by peer (os error 104)";
    let server = Server::start(drop);
    let error = query(server.port, "SELECT 1").unwrap_err();
    assert!(error == closed || error == was_reset, "{error}");

    let half = [message(b'T', &[0, 0]), vec![b'D', 0, 0]].concat();
    for half in [Vec::new(), half] {
        let sent = half.clone();
        let server = answering(move |stream| stream.write_all(&sent).unwrap());
        assert_eq!(query(server.port, "SELECT 1"), Err(closed.to_owned()));

        let server = answering(move |stream| {
            stream.write_all(&half).unwrap();
            // What was sent before a reset may be thrown away with it.
            thread::sleep(Duration::from_millis(50));
            reset(stream);
        });
        assert_eq!(query(server.port, "SELECT 1"), Err(was_reset.to_owned()));
    }
}

#[test]
fn a_silent_server_costs_the_limit_and_no_more() {
    let before = Server::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let after = answering(|stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    for server in [before, after] {
        let started = Instant::now();
        let limit = soon().within(Duration::from_millis(300));
        let (login, credentials) = (&Login::default(), &Credentials::default());
        let statement = Statement { sql: "SELECT 1", wanted: Wanted::Rows, login, credentials };
        let answer = run(&Dialer::default(), ("127.0.0.1", server.port), &statement, &limit);
        assert_eq!(answer, Err("timed out after 300ms".to_owned()));
        assert!((300..2000).contains(&started.elapsed().as_millis()));
    }
}

#[test]
fn a_server_that_does_not_take_leave_costs_no_answer() {
    let server = answering(|stream| {
        let done = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
        stream.write_all(&done).unwrap();
        // Holds the connection open, and reads nothing.
        thread::sleep(Duration::from_secs(3));
    });
    let started = Instant::now();
    assert_eq!(query(server.port, "SELECT 1"), Ok(Data::List(Vec::new())));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_flood_is_an_error_and_no_memory_hog() {
    let server = answering(|stream| {
        let row = message(b'D', &[0, 0]);
        stream.write_all(&message(b'T', &[0, 0])).unwrap();
        while stream.write_all(&row.repeat(1 << 12)).is_ok() {}
    });
    let answer = query(server.port, "SELECT 1");
    assert_eq!(answer, Err("the answer is larger than 16 MiB".to_owned()));
}

#[test]
fn a_server_of_another_protocol_is_said_to_be_one() {
    let server = Server::start(|mut stream| {
        startup(&mut stream);
        stream.write_all(&message(b'~', b"")).unwrap();
    });
    let error = query(server.port, "SELECT 1").unwrap_err();
    assert!(error.contains("unknown message tag"), "{error}");
}
