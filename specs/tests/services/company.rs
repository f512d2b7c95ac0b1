//! The shop of specs/qa: company-api over a redis and company-search, and without them.

use crate::inventory_svc::Log;
use crate::peer::{Behaviour, misbehaving_peer};
use crate::program::{PATIENCE, Program};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use std::{fs, thread};

/// An address where nothing listens.
const NOBODY: &str = "127.0.0.1:1";

/// A redis that knows `SET` and `GET` of one key. The thread ends with the test process.
fn small_redis() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut value: Option<Vec<u8>> = None;
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let words = command(&mut reader);
            let reply = match (words[0].as_slice(), &value) {
                (b"SET", _) => {
                    value = Some(words[2].clone());
                    b"+OK\r\n".to_vec()
                }
                (b"GET", None) => b"$-1\r\n".to_vec(),
                (b"GET", Some(value)) => {
                    let length = format!("${}\r\n", value.len());
                    [length.as_bytes(), value, b"\r\n"].concat()
                }
                _ => b"-ERR unknown command\r\n".to_vec(),
            };
            reader.get_mut().write_all(&reply).unwrap();
        }
    });
    address
}

/// The words of one command.
fn command(reader: &mut impl BufRead) -> Vec<Vec<u8>> {
    let count = number(reader, '*');
    (0..count)
        .map(|_| {
            let mut word = vec![0; number(reader, '$') + 2];
            reader.read_exact(&mut word).unwrap();
            word.truncate(word.len() - 2);
            word
        })
        .collect()
}

/// The number on a line that starts with `first`.
fn number(reader: &mut impl BufRead, first: char) -> usize {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().strip_prefix(first).unwrap().parse().unwrap()
}

fn api(redis: &str, search: &str, log: &Log) -> Program {
    let log = log.0.to_str().unwrap();
    Program::start(
        "company-api",
        &[("REDIS_ADDR", redis), ("SEARCH_ADDR", search), ("ORDERS_LOG", log)],
    )
}

#[test]
fn a_cart_goes_through_redis_to_the_checkout_and_the_search_adds_its_own() {
    let search = Program::start("company-search", &[]);
    let api = api(&small_redis(), &search.address(), &Log::new("company-all"));
    assert_eq!(api.http("GET", "/health", ""), (200, "ok".to_owned()));
    let added = api.http("POST", "/cart/add", r#"{"sku": "TSHIRT", "qty": 1}"#);
    assert_eq!(added, (200, r#"{"items":1}"#.to_owned()));
    let (status, body) = api.http("POST", "/checkout", r#"{"payment": "card"}"#);
    assert_eq!(status, 200, "{body}");
    for part in [r#""cart":"redis""#, r#""items":1"#, r#"["TSHIRT","TSHIRT-LONG"]"#] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(!body.contains("warnings"), "{body}");
}

#[test]
fn a_customer_without_a_cart_has_an_empty_one() {
    let api = api(&small_redis(), NOBODY, &Log::new("company-empty"));
    let (status, body) = api.http("POST", "/checkout", "{}");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(r#""items":0"#) && body.contains("connect to search"), "{body}");
}

#[test]
fn without_redis_the_cart_is_the_one_in_memory_or_nobody_knows() {
    let api = api(NOBODY, NOBODY, &Log::new("company-local"));
    let (status, body) = api.http("POST", "/checkout", "{}");
    assert_eq!(status, 503);
    assert_eq!(body, "no cart: connect to redis: Connection refused (os error 111)");
    let (status, body) = api.http("POST", "/cart/add", r#"{"sku": "MUG"}"#);
    assert!(status == 200 && body.contains("Connection refused"), "{body}");
    let (status, body) = api.http("POST", "/checkout", "{}");
    assert_eq!(status, 200);
    assert!(body.contains(r#""cart":"local""#) && body.contains("connect to redis"), "{body}");
}

#[test]
fn peers_that_say_nothing_cost_a_second_each() {
    let silent = misbehaving_peer(&[Behaviour::Silence]);
    let api = api(&silent, &silent, &Log::new("company-silent"));
    let start = Instant::now();
    assert_eq!(api.http("POST", "/cart/add", r#"{"sku": "MUG"}"#).0, 200);
    let (status, body) = api.http("POST", "/checkout", "{}");
    let took = start.elapsed();
    assert_eq!(status, 200, "{body}");
    assert!(took >= Duration::from_secs(3) && took < PATIENCE, "{took:?}");
}

#[test]
fn orders_are_on_disk_before_they_count() {
    let log = Log::new("company-orders");
    let api = api(NOBODY, NOBODY, &log);
    let (status, body) = api.http("POST", "/orders", r#"{"item": "WIDGET"}"#);
    assert_eq!((status, body.as_str()), (200, r#"{"id":1,"order":{"item":"WIDGET"}}"#));
    assert_eq!(api.http("POST", "/orders", "[]").1, r#"{"id":2,"order":[]}"#);
    let text = fs::read_to_string(&log.0).unwrap();
    assert_eq!(text, "{\"id\":1,\"order\":{\"item\":\"WIDGET\"}}\n{\"id\":2,\"order\":[]}\n");
}

#[test]
fn an_order_that_cannot_be_stored_says_what_the_system_said() {
    let api = Program::start("company-api", &[("ORDERS_LOG", "/dev/full")]);
    let (status, body) = api.http("POST", "/orders", r#"{"item": "WIDGET"}"#);
    assert_eq!(status, 507);
    assert_eq!(body, "cannot store the order: write: No space left on device");
}

#[test]
fn what_is_no_request_of_the_shop_is_refused() {
    let api = api(NOBODY, NOBODY, &Log::new("company-bad"));
    assert_eq!(api.http("POST", "/cart/add", "shirt").0, 400);
    assert_eq!(api.http("POST", "/orders", "").0, 400);
    assert_eq!(api.http("GET", "/checkout", "").0, 405);
    assert_eq!(api.http("GET", "/nowhere", "").0, 404);
}

#[test]
fn the_search_finds_articles_by_a_part_of_their_name() {
    let search = Program::start("company-search", &[]);
    assert_eq!(search.http("GET", "/health", ""), (200, "ok".to_owned()));
    let mug = (200, r#"{"query":"mu","articles":["MUG"]}"#.to_owned());
    assert_eq!(search.http("GET", "/search/mu", ""), mug);
    assert!(search.http("GET", "/search", "").1.contains("WIDGET"));
    assert_eq!(search.http("GET", "/articles", "").0, 404);
    assert_eq!(search.http("POST", "/search/mu", "").0, 405);
}
