//! Requests against real listeners, most of which misbehave.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    super::server::{Server, reset},
    *,
};
use crate::spec::HttpMethod;

fn ask(url: &str, method: HttpMethod, body: &str) -> Response {
    ask_until(url, method, body, Duration::from_secs(5))
}

fn ask_until(url: &str, method: HttpMethod, body: &str, patience: Duration) -> Response {
    let limit = Limit::new(Instant::now() + patience, &|| false);
    let url = Url::parse(url).unwrap();
    request(&Dialer::default(), &url, &Request { method, body, headers: &[] }, &limit)
}

fn get(server: &Server) -> Response {
    ask(&format!("localhost:{}/x", server.port), HttpMethod::Get, "")
}

/// Reads the head of a request, and as much of the body as has arrived with it.
fn read_request(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while !got.windows(4).any(|it| it == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "no request");
        got.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(got).unwrap()
}

/// A server that answers every request with these bytes and closes.
fn answering(answer: impl Into<Vec<u8>>) -> Server {
    let answer = answer.into();
    Server::start(move |mut stream| {
        read_request(&mut stream);
        // A client that has seen enough may be gone.
        let _ = stream.write_all(&answer);
    })
}

fn failed(response: &Response, part: &str) {
    assert_eq!((response.status, response.ok), (0, false), "{response:?}");
    assert!(response.error.contains(part), "{response:?}");
}

#[test]
fn a_body_ends_where_its_content_length_says() {
    let response =
        get(&answering("HTTP/1.1 200 OK\r\nX-A: B\r\nContent-Length: 7\r\n\r\n hello\nrest"));
    assert_eq!((response.status, response.ok), (200, true));
    assert_eq!(response.body, "hello");
    assert_eq!(response.error, "");
    assert_eq!(response.headers[0], ("x-a".to_owned(), "B".to_owned()));
    assert!(response.duration > Duration::ZERO);
}

#[test]
fn a_body_in_chunks_is_put_together_however_it_arrives() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            5;ext=1\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for byte in text {
            stream.write_all(&[*byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        // Left open: the end must be known from the last chunk.
        thread::sleep(Duration::from_secs(2));
    });
    let response = get(&server);
    assert_eq!(response.body, "hello 0123456789", "{response:?}");
    assert!(response.duration < Duration::from_millis(1900));
}

#[test]
fn a_body_without_a_length_ends_with_the_connection() {
    let response = get(&answering("HTTP/1.0 404 Not Found\r\n\r\nall of it"));
    assert_eq!((response.status, response.ok, &*response.body), (404, true, "all of it"));
}

#[test]
fn a_status_without_a_body_does_not_wait_for_one() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let response = get(&server);
    assert_eq!((response.status, &*response.body), (204, ""));
}

#[test]
fn interim_responses_are_skipped() {
    let response = get(&answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ));
    assert_eq!((response.status, &*response.body), (200, "ok"));
    failed(&get(&answering("HTTP/1.1 100 Continue\r\n\r\n".repeat(50))), "interim");
}

#[test]
fn bytes_that_are_no_text_become_replacement_characters() {
    let response = get(&answering(b"HTTP/1.1 200 OK\r\nX: \xff\r\n\r\n a\xffb".to_vec()));
    assert_eq!(response.body, "a\u{fffd}b");
    assert_eq!(response.headers[0].1, "\u{fffd}");
}

#[test]
fn the_body_of_a_post_arrives_whole() {
    let got = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let got = Arc::clone(&got);
        move |mut stream| {
            let mut text = read_request(&mut stream);
            let head = text.find("\r\n\r\n").unwrap() + 4;
            let mut rest = vec![0; 3_000_000 + head - text.len()];
            stream.read_exact(&mut rest).unwrap();
            text.push_str(std::str::from_utf8(&rest).unwrap());
            *got.lock().unwrap() = text;
            stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let body = "x".repeat(3_000_000);
    let response = ask(&format!("localhost:{}/a?b", server.port), HttpMethod::Post, &body);
    assert_eq!(response.status, 201, "{response:?}");
    let got = got.lock().unwrap();
    assert!(got.starts_with("POST /a?b HTTP/1.1\r\nHost: localhost:"), "{}", &got[..60]);
    assert!(got.contains("\r\nContent-Length: 3000000\r\n"));
    assert!(got.ends_with(&body));
}

#[test]
fn what_is_no_answer_is_status_zero_and_a_reason() {
    failed(&get(&answering("")), "closed without an answer");
    failed(&get(&answering("HTTP/1.1 200 OK\r\nX")), "in the middle of the response head");
    failed(&get(&answering("\x16\x03\x01 this is not http")), "not an HTTP response");
    failed(&get(&answering("SSH-2.0-OpenSSH_9.2\r\n")), r#""SSH-2.0-OpenSSH_9.2\r\n""#);
    failed(&get(&answering("HTTP/1.1 abc OK\r\n\r\n")), "not an HTTP response");
    failed(
        &get(&answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")),
        "closed after 4 of 10 bytes",
    );
    failed(
        &get(&answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        "malformed content-length",
    );
    failed(
        &get(&answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")),
        "malformed chunk size",
    );
    failed(
        &get(&answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n")),
        "chunk not ended",
    );
    failed(
        &get(&answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")),
        "connection closed after",
    );
}

#[test]
fn a_reset_is_status_zero_with_the_systems_text() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        reset(&stream);
    });
    failed(&get(&server), "Connection reset by peer (os error 104)");
}

#[test]
fn an_answer_before_the_end_of_the_request_still_counts() {
    let server = Server::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Takes the rest, so that no reset overtakes the answer.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let body = "x".repeat(1 << 20);
    let response = ask(&format!("localhost:{}", server.port), HttpMethod::Put, &body);
    assert_eq!((response.status, &*response.body), (413, "big"), "{response:?}");
}

#[test]
fn a_head_without_end_is_bounded_in_size_and_number() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    failed(&get(&answering(long)), "head larger than 64 KiB");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(500));
    failed(&get(&answering(many)), "more than 128 response headers");
}

#[test]
fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    failed(&get(&answering(huge)), "larger than 64 MiB");
    let huge = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF\r\n";
    failed(&get(&answering(huge)), "larger than 64 MiB");
    let endless = Server::start(|mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(&vec![b'x'; 1 << 16]).is_ok() {}
    });
    failed(&get(&endless), "larger than 64 MiB");
}

#[test]
fn redirects_are_followed_and_turn_a_post_into_a_get() {
    let server = Server::start(|mut stream| {
        let request = read_request(&mut stream);
        let line = request.lines().next().unwrap().to_owned();
        let answer = match &*line {
            "POST /start HTTP/1.1" => "HTTP/1.1 307 X\r\nLocation: /same?a=1\r\n\r\n".to_owned(),
            "POST /same?a=1 HTTP/1.1" => "HTTP/1.1 302 X\r\nLocation: other\r\n\r\n".to_owned(),
            _ => format!("HTTP/1.1 200 OK\r\n\r\n{line}"),
        };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let response = ask(&format!("localhost:{}/start", server.port), HttpMethod::Post, "");
    assert_eq!((response.status, &*response.body), (200, "GET /other HTTP/1.1"));
    assert_eq!(server.accepted(), 3);
}

#[test]
fn redirects_for_ever_end_after_ten() {
    let server = answering("HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
    failed(&get(&server), "more than 10 redirects");
    assert_eq!(server.accepted(), 11);
}

#[test]
fn a_redirect_without_a_usable_place_is_an_answer_or_an_error() {
    assert_eq!(get(&answering("HTTP/1.1 302 Found\r\n\r\n")).status, 302);
    let response = get(&answering("HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n"));
    failed(&response, "https is not supported");
}

#[test]
fn a_silent_server_costs_the_deadline() {
    let server = Server::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("localhost:{}", server.port);
    let response = ask_until(&url, HttpMethod::Get, "", Duration::from_millis(300));
    failed(&response, "timed out after 300ms");
    assert!((290..2000).contains(&response.duration.as_millis()), "{response:?}");
}

#[test]
fn a_trickle_does_not_extend_the_deadline() {
    let server = Server::start(|mut stream| {
        read_request(&mut stream);
        while stream.write_all(b"H").is_ok() && stream.write_all(b"T").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let url = format!("localhost:{}", server.port);
    let response = ask_until(&url, HttpMethod::Get, "", Duration::from_millis(300));
    assert!(!response.ok);
    assert!(response.duration < Duration::from_secs(2), "{response:?}");
}

#[test]
fn a_cancelled_test_ends_its_step() {
    let server = Server::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            thread::sleep(Duration::from_millis(150));
            stop.store(true, Ordering::SeqCst);
        }
    });
    let cancelled = || stop.load(Ordering::SeqCst);
    let limit = Limit::new(Instant::now() + Duration::from_secs(60), &cancelled);
    let url = Url::parse(&format!("localhost:{}", server.port)).unwrap();
    let get = Request { method: HttpMethod::Get, body: "", headers: &[] };
    let response = request(&Dialer::default(), &url, &get, &limit);
    failed(&response, "stopped");
    assert!(response.duration < Duration::from_secs(1), "{response:?}");
    stopper.join().unwrap();
}

#[test]
fn a_server_on_ipv6_only_is_localhost_too() {
    let server = Server::on("[::1]:0", |mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nsix").unwrap();
    });
    assert_eq!(get(&server).body, "six");
}

#[test]
fn no_prefix_of_an_answer_and_no_changed_byte_makes_it_panic() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let turn = Arc::new(Mutex::new(0_usize));
    let server = Server::start({
        let turn = Arc::clone(&turn);
        move |mut stream| {
            read_request(&mut stream);
            let mut bytes = answer.to_vec();
            let turn = *turn.lock().unwrap();
            if turn < answer.len() {
                bytes.truncate(turn);
            } else {
                bytes[turn - answer.len()] ^= 0x95;
            }
            let _ = stream.write_all(&bytes);
        }
    });
    for i in 0..2 * answer.len() {
        *turn.lock().unwrap() = i;
        let response = get(&server);
        assert_eq!(response.ok, response.status != 0, "{i}: {response:?}");
        assert_eq!(response.ok, response.error.is_empty(), "{i}: {response:?}");
    }
}
