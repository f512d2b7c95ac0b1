//! A stock keeper over TCP that logs every reservation to disk before it counts.
//!
//! `PORT` (default 5432) is the port, `WAL_PATH` (default /tmp/inventory.wal) the log, which is
//! appended to and never read back. Commands: `PING`, `CHECK sku`, `RESERVE sku qty`, `QUIT`.

use faultbox_specs::line_server::{self, Reply, command, split_space};
use faultbox_specs::{environment, output, startup, wal};
use std::collections::HashMap;
use std::ffi::CString;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

fn main() -> ExitCode {
    let Ok(wal) = CString::new(environment::text("WAL_PATH", "/tmp/inventory.wal")) else {
        output::complain("inventory-svc: WAL_PATH must not contain a NUL byte");
        return ExitCode::FAILURE;
    };
    startup::run("inventory-svc", 5432, |listener| {
        let inventory = Inventory::new(wal);
        line_server::serve(listener, move |line| inventory.answer(line))
    })
}

/// What is in stock, and where changes are logged.
struct Inventory {
    stock: Mutex<HashMap<Vec<u8>, u64>>,
    wal: CString,
}

impl Inventory {
    fn new(wal: CString) -> Self {
        let stock = [("widget", 100), ("gadget", 50), ("gizmo", 25)]
            .map(|(sku, quantity)| (sku.as_bytes().to_vec(), quantity));
        Self { stock: Mutex::new(HashMap::from(stock)), wal }
    }

    fn answer(&self, line: &[u8]) -> Reply {
        let (word, arguments) = command(line);
        match word.as_str() {
            "PING" => Reply::text("PONG"),
            "CHECK" => match split_space(arguments) {
                (b"", _) => Reply::text("ERR usage: CHECK sku"),
                (sku, _) => self.check(sku),
            },
            "RESERVE" => match split_space(arguments) {
                (b"", _) | (_, b"") => Reply::text("ERR usage: RESERVE sku qty"),
                (sku, quantity) => match parse_quantity(quantity) {
                    Some(quantity) => self.reserve(sku, quantity),
                    None => Reply::text("ERR bad qty"),
                },
            },
            "QUIT" => Reply::Close,
            _ => {
                let (typed, _) = split_space(line);
                Reply::Line([b"ERR unknown: ", typed].concat())
            }
        }
    }

    fn check(&self, sku: &[u8]) -> Reply {
        let stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        match stock.get(sku) {
            Some(quantity) => Reply::text(quantity.to_string()),
            None => Reply::text("NOT_FOUND"),
        }
    }

    /// Logs first and counts second, under one lock, so the log never misses what was promised.
    fn reserve(&self, sku: &[u8], quantity: u64) -> Reply {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(available) = stock.get_mut(sku) else {
            return Reply::text("ERR not_found");
        };
        let Some(remaining) = available.checked_sub(quantity) else {
            return Reply::text(format!("ERR insufficient_stock {available}"));
        };
        let record = [b"RESERVE ", sku, b" ", quantity.to_string().as_bytes(), b"\n"].concat();
        if let Err(error) = wal::append(&self.wal, &record) {
            return Reply::text(format!("ERR wal: {error}"));
        }
        *available = remaining;
        Reply::text(format!("OK {remaining}"))
    }
}

/// A whole number from 1; nothing else can be reserved.
fn parse_quantity(bytes: &[u8]) -> Option<u64> {
    let quantity = str::from_utf8(bytes).ok()?.parse().ok()?;
    (quantity > 0).then_some(quantity)
}
