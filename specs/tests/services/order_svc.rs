//! The routes of order-svc, with an inventory that works, is absent or misbehaves.

use crate::inventory_svc::Log;
use crate::peer::Behaviour::{Close, Send};
use crate::peer::misbehaving_peer;
use crate::program::{Program, free_port};

fn with_address(address: &str) -> Program {
    Program::start("order-svc", &[("INVENTORY_ADDR", address)])
}

fn answer(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

#[test]
fn an_order_is_confirmed_kept_and_taken_from_the_stock() {
    let log = Log::new("orders");
    let inventory = log.start();
    let orders = with_address(&inventory.address());
    assert_eq!(orders.http("GET", "/health", ""), answer(200, "ok"));
    let stock = |qty| answer(200, &format!(r#"{{"sku":"widget","qty":{qty}}}"#));
    assert_eq!(orders.http("GET", "/inventory/widget", ""), stock(100));
    let first = r#"{"id":1,"sku":"widget","qty":1,"status":"confirmed","remaining_stock":99}"#;
    let placed = orders.http("POST", "/orders", r#"{"sku":"widget","qty":1}"#);
    assert_eq!(placed, answer(200, first));
    assert_eq!(orders.http("GET", "/orders/1", ""), answer(200, first));
    assert_eq!(orders.http("GET", "/inventory/widget", ""), stock(99));
    // No quantity, and one that makes no sense, both mean one piece.
    let (status, body) = orders.http("POST", "/orders", r#"{"sku":"widget"}"#);
    assert_eq!((status, body.contains(r#""qty":1,"#)), (200, true), "{body}");
    let (status, body) = orders.http("POST", "/orders", r#"{"sku":"widget","qty":-5}"#);
    assert_eq!((status, body.contains(r#""id":3,"#)), (200, true), "{body}");
    assert_eq!(orders.http("GET", "/inventory/widget", ""), stock(97));
}

#[test]
fn the_last_piece_leaves_a_stock_of_zero() {
    let log = Log::new("last");
    let inventory = log.start();
    let orders = with_address(&inventory.address());
    let placed = orders.http("POST", "/orders", r#"{"sku":"gizmo","qty":25}"#);
    let body = r#"{"id":1,"sku":"gizmo","qty":25,"status":"confirmed","remaining_stock":0}"#;
    assert_eq!(placed, answer(200, body));
}

#[test]
fn an_order_that_the_inventory_refuses_is_a_conflict() {
    let inventory = Program::start("inventory-svc", &[("WAL_PATH", "/dev/full")]);
    let orders = with_address(&inventory.address());
    let placed = orders.http("POST", "/orders", r#"{"sku":"widget","qty":1}"#);
    let body = concat!(
        r#"{"id":1,"sku":"widget","qty":1,"status":"failed","#,
        r#""error":"ERR wal: write: No space left on device"}"#,
    );
    assert_eq!(placed, answer(409, body));
    assert_eq!(orders.http("GET", "/orders/1", ""), answer(200, body));
    let placed = orders.http("POST", "/orders", r#"{"sku":"widget","qty":101}"#);
    assert_eq!(placed.0, 409);
    assert!(placed.1.contains("ERR insufficient_stock 100"), "{placed:?}");
    assert_eq!(inventory.ask("CHECK widget"), "100");
}

#[test]
fn what_the_inventory_does_not_know_is_not_found() {
    let log = Log::new("unknown");
    let inventory = log.start();
    let orders = with_address(&inventory.address());
    let (status, body) = orders.http("POST", "/orders", r#"{"sku":"unicorn","qty":1}"#);
    assert_eq!(status, 404);
    assert!(body.contains(r#""status":"failed","error":"sku not found""#), "{body}");
    let missing = orders.http("GET", "/inventory/unicorn", "");
    assert_eq!(missing, answer(404, r#"{"error":"sku not found"}"#));
}

#[test]
fn an_inventory_that_is_absent_is_unreachable() {
    let orders = with_address(&format!("localhost:{}", free_port()));
    let refused = r#""error":"inventory unreachable: connect to inventory: Connection refused (os error 111)"}"#;
    let (status, body) = orders.http("POST", "/orders", r#"{"sku":"widget","qty":1}"#);
    assert_eq!(status, 503);
    assert!(body.ends_with(refused), "{body}");
    let (status, body) = orders.http("GET", "/inventory/widget", "");
    assert_eq!((status, body), (503, format!("{{{refused}")));
    assert_eq!(orders.http("GET", "/health", ""), answer(200, "ok"));
}

#[test]
fn an_inventory_that_fails_between_check_and_reserve_is_an_error() {
    for (behaviours, error) in [
        (&[Send("100\n"), Close], "inventory error: no response from inventory"),
        (&[Send("100\n"), Send("hello\n")], "inventory error: unexpected reply: hello"),
        (&[Close, Close], "inventory unreachable: no response from inventory"),
        (&[Send("hello\n"), Close], "inventory error: unexpected reply: hello"),
    ] {
        let orders = with_address(&misbehaving_peer(behaviours));
        let (status, body) = orders.http("POST", "/orders", r#"{"sku":"widget","qty":1}"#);
        assert_eq!(status, 503, "{body}");
        assert!(body.ends_with(&format!(r#""error":"{error}"}}"#)), "{body}");
    }
}

#[test]
fn requests_that_make_no_sense_are_refused_without_asking_the_inventory() {
    let orders = with_address(&format!("localhost:{}", free_port()));
    for (method, path, body, status) in [
        ("POST", "/orders", "", 400),
        ("POST", "/orders", "not json", 400),
        ("POST", "/orders", "[]", 400),
        ("POST", "/orders", r#"{"sku":"widget","qty":"two"}"#, 400),
        ("POST", "/orders", r#"{"sku":"","qty":1}"#, 400),
        ("POST", "/orders", r#"{"qty":1}"#, 400),
        ("POST", "/orders", r#"{"sku":"a b"}"#, 400),
        ("POST", "/orders", r#"{"sku":"a\nRESERVE widget 5"}"#, 400),
        ("GET", "/inventory/", "", 400),
        ("GET", "/inventory/a%0ab", "", 400),
        ("GET", "/orders", "", 405),
        ("PUT", "/orders/1", "{}", 405),
        ("POST", "/health", "", 405),
        ("GET", "/orders/1", "", 404),
        ("GET", "/orders/0", "", 404),
        ("GET", "/orders/one", "", 404),
        ("GET", "/", "", 404),
    ] {
        let (got, text) = orders.http(method, path, body);
        assert_eq!(got, status, "{method} {path} {body}: {text}");
    }
    let (_, body) = orders.http("POST", "/orders", r#"{"qty":1}"#);
    assert_eq!(body, r#"{"error":"sku is required"}"#);
}
