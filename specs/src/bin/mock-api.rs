//! An HTTP front for mock-db.
//!
//! `PORT` (default 8080) is the port, `DB_ADDR` (default localhost:5432) the database, which is
//! dialled anew for every operation. Routes: `GET /health`, `POST /data/KEY`, `GET /data/KEY`.

use faultbox_specs::client::Peer;
use faultbox_specs::http::{self, Request, Response};
use faultbox_specs::{environment, startup};
use std::process::ExitCode;

fn main() -> ExitCode {
    startup::run("mock-api", 8080, |listener| {
        let db = Peer::new("db", environment::text("DB_ADDR", "localhost:5432"));
        http::serve(listener, move |request| answer(&db, request))
    })
}

fn answer(db: &Peer, request: &Request) -> Response {
    let method = request.method.as_str();
    if request.path == "/health" {
        return match method {
            "GET" => health(db),
            _ => Response::method_not_allowed("GET"),
        };
    }
    let Some(key) = request.path.strip_prefix("/data/") else {
        return Response::text(404, "not found");
    };
    if key.is_empty() {
        return Response::text(400, "key is missing: use /data/KEY");
    }
    // The database reads a space as the end of the key and a line end as the end of the command.
    if key.contains(|c: char| c == ' ' || c.is_control()) {
        return Response::text(400, "key must not contain spaces or control characters");
    }
    match method {
        "POST" => store(db, key, &request.body),
        "GET" => load(db, key),
        _ => Response::method_not_allowed("GET, POST"),
    }
}

fn health(db: &Peer) -> Response {
    match db.ask(b"PING") {
        Ok(reply) if reply == b"PONG" => Response::text(200, "ok"),
        Ok(reply) => unavailable(&unexpected(&reply)),
        Err(error) => unavailable(&error.to_string()),
    }
}

fn store(db: &Peer, key: &str, body: &[u8]) -> Response {
    let value = match body.trim_ascii() {
        b"" => b"default",
        value => value,
    };
    if value.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Response::text(400, "value must be a single line");
    }
    let question = [b"SET ", key.as_bytes(), b" ", value].concat();
    match db.ask(&question) {
        Ok(reply) if reply == b"OK" => {
            Response::text(200, [b"stored: ", key.as_bytes(), b"=", value].concat())
        }
        Ok(reply) => db_error(&unexpected(&reply)),
        Err(error) => db_error(&error.to_string()),
    }
}

fn load(db: &Peer, key: &str) -> Response {
    match db.ask(&[b"GET ", key.as_bytes()].concat()) {
        Ok(reply) if reply == b"NOT_FOUND" => Response::text(404, "not found"),
        Ok(value) => Response::text(200, value),
        Err(error) => db_error(&error.to_string()),
    }
}

fn db_error(problem: &str) -> Response {
    Response::text(500, format!("db error: {problem}"))
}

fn unavailable(problem: &str) -> Response {
    Response::text(503, format!("db unavailable: {problem}"))
}

fn unexpected(reply: &[u8]) -> String {
    format!("unexpected reply: {}", String::from_utf8_lossy(reply))
}
