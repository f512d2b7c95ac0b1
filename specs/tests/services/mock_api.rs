//! The routes of mock-api, with a database that works, is absent or misbehaves.

use crate::peer::Behaviour::{Close, Send, Silence};
use crate::peer::misbehaving_peer;
use crate::program::{Program, free_port};
use std::time::{Duration, Instant};

fn with_db() -> (Program, Program) {
    let db = Program::start("mock-db", &[]);
    let api = Program::start("mock-api", &[("DB_ADDR", &db.address())]);
    (db, api)
}

fn with_address(address: &str) -> Program {
    Program::start("mock-api", &[("DB_ADDR", address)])
}

fn answer(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

#[test]
fn what_is_stored_can_be_loaded() {
    let (db, api) = with_db();
    assert_eq!(api.http("GET", "/health", ""), answer(200, "ok"));
    assert_eq!(api.http("GET", "/data/mykey", ""), answer(404, "not found"));
    let stored = api.http("POST", "/data/mykey", " myvalue\n");
    assert_eq!(stored, answer(200, "stored: mykey=myvalue"));
    assert_eq!(api.http("GET", "/data/mykey", ""), answer(200, "myvalue"));
    assert_eq!(db.ask("GET mykey"), "myvalue");
    let stored = api.http("POST", "/data/a%2Fb?ignored=1", " \n");
    assert_eq!(stored, answer(200, "stored: a/b=default"));
    assert_eq!(db.ask("GET a/b"), "default");
}

#[test]
fn requests_that_make_no_sense_are_refused_without_asking_the_database() {
    let api = with_address(&format!("localhost:{}", free_port()));
    for (method, path, body, status) in [
        ("GET", "/data/", "", 400),
        ("POST", "/data/", "x", 400),
        ("POST", "/data/a%20b", "x", 400),
        ("POST", "/data/a%0ab", "x", 400),
        ("POST", "/data/k", "first\nSET k2 second", 400),
        ("DELETE", "/data/k", "", 405),
        ("PUT", "/data/k", "x", 405),
        ("POST", "/health", "", 405),
        ("GET", "/", "", 404),
        ("GET", "/data", "", 404),
        ("GET", "/healthz", "", 404),
        ("GET", "/%zz", "", 400),
    ] {
        let (got, text) = api.http(method, path, body);
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(!text.is_empty(), "{method} {path}");
    }
}

#[test]
fn a_refused_connection_is_reported_with_the_words_of_the_system() {
    let api = with_address(&format!("localhost:{}", free_port()));
    let refused = "connect to db: Connection refused (os error 111)";
    let error = format!("db error: {refused}");
    assert_eq!(api.http("GET", "/data/k", ""), answer(500, &error));
    assert_eq!(api.http("POST", "/data/k", "v"), answer(500, &error));
    let unavailable = format!("db unavailable: {refused}");
    assert_eq!(api.http("GET", "/health", ""), answer(503, &unavailable));
}

#[test]
fn an_address_that_cannot_be_read_is_reported() {
    let (status, body) = with_address("nonsense").http("GET", "/health", "");
    assert_eq!(status, 503);
    assert!(body.contains(r#"connect to db: address "nonsense" has no port"#), "{body}");
}

#[test]
fn a_database_that_hangs_up_gave_no_response() {
    for behaviour in [&[Close], &[Send("half a line")]] {
        let api = with_address(&misbehaving_peer(behaviour));
        let error = "db error: no response from db";
        assert_eq!(api.http("GET", "/data/k", ""), answer(500, error));
        assert_eq!(api.http("POST", "/data/k", "v"), answer(500, error));
        let unavailable = "db unavailable: no response from db";
        assert_eq!(api.http("GET", "/health", ""), answer(503, unavailable));
    }
}

#[test]
fn a_reply_other_than_ok_is_an_error() {
    let api = with_address(&misbehaving_peer(&[Send("ERR disk on fire\r\n")]));
    let error = "db error: unexpected reply: ERR disk on fire";
    assert_eq!(api.http("POST", "/data/k", "v"), answer(500, error));
    let unavailable = "db unavailable: unexpected reply: ERR disk on fire";
    assert_eq!(api.http("GET", "/health", ""), answer(503, unavailable));
}

#[test]
fn a_database_that_says_nothing_is_given_up_after_five_seconds() {
    let api = with_address(&misbehaving_peer(&[Silence]));
    let start = Instant::now();
    let error = "db error: read from db: Connection timed out (os error 110)";
    assert_eq!(api.http("GET", "/data/k", ""), answer(500, error));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(5), "{took:?}");
    assert!(took < Duration::from_secs(7), "{took:?}");
}

#[test]
fn broken_http_is_answered_with_a_status_or_dropped() {
    let (_db, mut api) = with_db();
    assert_eq!(api.send(b""), "");
    assert_eq!(api.send(b"GET / HTTP/1.1\r\n"), "");
    let short = b"POST /data/k HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc";
    assert_eq!(api.send(short), "");
    for (request, status) in [
        (&b"\r\n\r\n"[..], "400"),
        (b"GET / HTTP/2\r\n\r\n", "400"),
        (b"\xff\xff / HTTP/1.1\r\n\r\n", "400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "411"),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", "413"),
    ] {
        let text = api.send(request);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
    }
    assert_eq!(api.http("GET", "/health", ""), answer(200, "ok"));
    assert!(api.is_running());
}

#[test]
fn a_large_body_arrives_whole() {
    let (db, api) = with_db();
    let value = "v".repeat(60_000);
    assert_eq!(api.http("POST", "/data/k", &value).0, 200);
    assert_eq!(api.http("GET", "/data/k", ""), (200, value.clone()));
    assert_eq!(db.ask("GET k"), value);
}
