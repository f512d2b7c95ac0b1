//! An HTTP order desk that checks and reserves stock at inventory-svc.
//!
//! `PORT` (default 8080) is the port, `INVENTORY_ADDR` (default localhost:5432) the inventory,
//! which is dialled anew for every question. Routes: `GET /health`, `POST /orders` with
//! `{"sku": …, "qty": …}`, `GET /orders/ID`, `GET /inventory/SKU`.

use faultbox_specs::client::Peer;
use faultbox_specs::http::{self, Request, Response};
use faultbox_specs::{environment, startup};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

fn main() -> ExitCode {
    startup::run("order-svc", 8080, |listener| {
        let address = environment::text("INVENTORY_ADDR", "localhost:5432");
        let desk = Desk { inventory: Peer::new("inventory", address), orders: Mutex::default() };
        http::serve(listener, move |request| desk.answer(request))
    })
}

/// What a customer sends.
#[derive(Deserialize)]
struct Wish {
    #[serde(default)]
    sku: String,
    #[serde(default)]
    qty: i64,
}

/// What became of a wish; this is the answer's body and what `GET /orders/ID` returns later.
#[derive(Clone, Serialize)]
struct Order {
    id: usize,
    sku: String,
    qty: i64,
    status: OrderStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_stock: Option<u64>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum OrderStatus {
    Confirmed,
    Failed,
}

#[derive(Serialize)]
struct Stock<'a> {
    sku: &'a str,
    qty: u64,
}

/// The body of an answer that has no order to show.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// An HTTP status and the text that goes with it.
type Failure = (u16, String);

struct Desk {
    inventory: Peer,
    /// The order with the id N is at N - 1.
    orders: Mutex<Vec<Order>>,
}

impl Desk {
    fn answer(&self, request: &Request) -> Response {
        let is_get = request.method == "GET";
        match request.path.as_str() {
            "/orders" if request.method == "POST" => self.place(&request.body),
            "/orders" => Response::method_not_allowed("POST"),
            path => match route_of(path) {
                None => problem(404, "not found"),
                Some(_) if !is_get => Response::method_not_allowed("GET"),
                Some(Route::Health) => Response::text(200, "ok"),
                Some(Route::Order(id)) => self.show(id),
                Some(Route::Inventory(sku)) => self.stock(sku),
            },
        }
    }

    fn place(&self, body: &[u8]) -> Response {
        let wish: Wish = match serde_json::from_slice(body) {
            Ok(wish) => wish,
            Err(error) => return problem(400, &format!("bad JSON: {error}")),
        };
        if let Err((status, text)) = check_sku(&wish.sku) {
            return problem(status, &text);
        }
        let qty = wish.qty.max(1);
        let outcome = self.reserve(&wish.sku, qty);
        let status = outcome.as_ref().map_or_else(|(status, _)| *status, |_| 200);
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let id = orders.len() + 1;
        let order = match outcome {
            Ok(remaining) => Order {
                id,
                sku: wish.sku,
                qty,
                status: OrderStatus::Confirmed,
                error: None,
                remaining_stock: Some(remaining),
            },
            Err((_, text)) => Order {
                id,
                sku: wish.sku,
                qty,
                status: OrderStatus::Failed,
                error: Some(text),
                remaining_stock: None,
            },
        };
        orders.push(order.clone());
        Response::json(status, &order)
    }

    /// Asks whether the inventory knows the sku, then reserves; the stock that remains.
    fn reserve(&self, sku: &str, qty: i64) -> Result<u64, Failure> {
        self.check(sku)?;
        let reply = self
            .inventory
            .ask(format!("RESERVE {sku} {qty}").as_bytes())
            .map_err(|error| (503, format!("inventory error: {error}")))?;
        let reply = String::from_utf8_lossy(&reply);
        let remaining = reply.strip_prefix("OK ").and_then(|rest| rest.parse().ok());
        match remaining {
            Some(remaining) => Ok(remaining),
            None if reply.starts_with("ERR ") => Err((409, reply.into_owned())),
            None => Err((503, unexpected(&reply))),
        }
    }

    fn check(&self, sku: &str) -> Result<u64, Failure> {
        let reply = self
            .inventory
            .ask(format!("CHECK {sku}").as_bytes())
            .map_err(|error| (503, format!("inventory unreachable: {error}")))?;
        let reply = String::from_utf8_lossy(&reply);
        match reply.parse() {
            Ok(qty) => Ok(qty),
            Err(_) if reply == "NOT_FOUND" => Err((404, "sku not found".to_owned())),
            Err(_) => Err((503, unexpected(&reply))),
        }
    }

    fn show(&self, id: &str) -> Response {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let index = id.parse::<usize>().ok().and_then(|id| id.checked_sub(1));
        match index.and_then(|index| orders.get(index)) {
            Some(order) => Response::json(200, order),
            None => problem(404, "order not found"),
        }
    }

    fn stock(&self, sku: &str) -> Response {
        match check_sku(sku).and_then(|()| self.check(sku)) {
            Ok(qty) => Response::json(200, &Stock { sku, qty }),
            Err((status, text)) => problem(status, &text),
        }
    }
}

/// The paths that are only read.
enum Route<'a> {
    Health,
    Order(&'a str),
    Inventory(&'a str),
}

fn route_of(path: &str) -> Option<Route<'_>> {
    if path == "/health" {
        Some(Route::Health)
    } else if let Some(id) = path.strip_prefix("/orders/") {
        Some(Route::Order(id))
    } else {
        path.strip_prefix("/inventory/").map(Route::Inventory)
    }
}

/// The inventory reads a space as the end of the sku and a line end as the end of the command.
fn check_sku(sku: &str) -> Result<(), Failure> {
    if sku.is_empty() {
        Err((400, "sku is required".to_owned()))
    } else if sku.contains(|c: char| c == ' ' || c.is_control()) {
        let text = "sku must not contain spaces or control characters";
        Err((400, text.to_owned()))
    } else {
        Ok(())
    }
}

fn problem(status: u16, error: &str) -> Response {
    Response::json(status, &Problem { error })
}

fn unexpected(reply: &str) -> String {
    format!("inventory error: unexpected reply: {reply}")
}
