//! The front of a shop: a stand-in for an image that a company would have.
//!
//! It speaks to a redis and to company-search, and needs neither to start. `PORT` (default 8080)
//! is the port; `REDIS_ADDR` (redis:6379) and `SEARCH_ADDR` (search:9200) are dialled anew for
//! every question, each with a budget of one second for everything, the look-up of the name
//! included; orders are appended to `ORDERS_LOG` (/data/orders.log). Routes: `GET /health`,
//! `POST /cart/add`, `POST /checkout`, `POST /orders`.

use faultbox_specs::budget::within;
use faultbox_specs::http::{self, Request, Response};
use faultbox_specs::redis::{Redis, Reply};
use faultbox_specs::{environment, output, startup, wal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::CString;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a question to redis or to the search may take.
const BUDGET: Duration = Duration::from_secs(1);

/// Where redis has the cart. There is one customer.
const CART: &[u8] = b"cart";

fn main() -> ExitCode {
    let Ok(log) = CString::new(environment::text("ORDERS_LOG", "/data/orders.log")) else {
        output::complain("company-api: ORDERS_LOG must not contain a NUL byte");
        return ExitCode::FAILURE;
    };
    startup::run("company-api", 8080, |listener| {
        let shop = Shop {
            redis: Redis::new(environment::text("REDIS_ADDR", "redis:6379"), BUDGET),
            search: environment::text("SEARCH_ADDR", "search:9200"),
            cart: Mutex::default(),
            log,
            orders: Mutex::default(),
        };
        http::serve(listener, move |request| shop.answer(request))
    })
}

/// One line of a cart.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Item {
    sku: String,
    #[serde(default = "one")]
    qty: u64,
}

fn one() -> u64 {
    1
}

/// What became of `POST /cart/add`.
#[derive(Serialize)]
struct Added {
    items: usize,
    /// Why the cart is not in redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

/// What became of `POST /checkout`.
#[derive(Serialize)]
struct Checkout {
    status: &'static str,
    items: usize,
    /// Where the cart came from: `redis` or `local`.
    cart: &'static str,
    /// What the search has to offer beside it; `null` if it gave no answer.
    suggestions: Option<Value>,
    /// What did not work on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

struct Shop {
    redis: Redis,
    search: String,
    /// The same cart as in redis, for as long as this process lives.
    cart: Mutex<Vec<Item>>,
    log: CString,
    /// How many orders were stored.
    orders: Mutex<u64>,
}

impl Shop {
    fn answer(&self, request: &Request) -> Response {
        match (request.path.as_str(), request.method.as_str()) {
            ("/health", "GET") => Response::text(200, "ok"),
            ("/health", _) => Response::method_not_allowed("GET"),
            ("/cart/add", "POST") => self.add(&request.body),
            ("/checkout", "POST") => self.checkout(),
            ("/orders", "POST") => self.order(&request.body),
            ("/cart/add" | "/checkout" | "/orders", _) => Response::method_not_allowed("POST"),
            _ => Response::text(404, "not found"),
        }
    }

    /// Keeps the item, and has redis keep it if that can be.
    fn add(&self, body: &[u8]) -> Response {
        let item: Item = match serde_json::from_slice(body) {
            Ok(item) => item,
            Err(error) => return Response::text(400, format!("bad JSON: {error}")),
        };
        let cart = {
            let mut cart = self.cart.lock().unwrap_or_else(PoisonError::into_inner);
            cart.push(item);
            cart.clone()
        };
        let warning = match serde_json::to_vec(&cart) {
            Ok(text) => self.ask_redis(vec![b"SET".to_vec(), CART.to_vec(), text]).err(),
            Err(error) => Some(error.to_string()),
        };
        Response::json(200, &Added { items: cart.len(), warning })
    }

    /// The cart from redis, or the one in memory; and suggestions, if the search has any.
    fn checkout(&self) -> Response {
        let mut warnings = Vec::new();
        let from_redis = self.cart_in_redis();
        let (cart, items) = match from_redis {
            Ok(items) => ("redis", items),
            Err(problem) => {
                let items = self.cart.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if items.is_empty() {
                    // A cart may be there, and nobody can say what is in it.
                    return Response::text(503, format!("no cart: {problem}"));
                }
                warnings.push(problem);
                ("local", items)
            }
        };
        let first = items.first().map(|item| item.sku.clone()).unwrap_or_default();
        let suggestions = self.suggestions(&first).map_err(|problem| warnings.push(problem)).ok();
        let done = Checkout { status: "ok", items: items.len(), cart, suggestions, warnings };
        Response::json(200, &done)
    }

    fn cart_in_redis(&self) -> Result<Vec<Item>, String> {
        match self.ask_redis(vec![b"GET".to_vec(), CART.to_vec()])? {
            Reply::Value(None) => Ok(Vec::new()),
            Reply::Value(Some(text)) => serde_json::from_slice(&text)
                .map_err(|error| format!("redis has something that is no cart: {error}")),
            other => Err(format!("unexpected reply of redis: {other:?}")),
        }
    }

    /// One command within the budget.
    fn ask_redis(&self, words: Vec<Vec<u8>>) -> Result<Reply, String> {
        let redis = self.redis.clone();
        let asked = within(BUDGET, move || {
            redis.command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>())
        });
        match asked {
            None => Err(late("redis")),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(Reply::Error(text))) => Err(format!("redis: {text}")),
            Some(Ok(reply)) => Ok(reply),
        }
    }

    /// What the search finds for the sku, within the budget.
    fn suggestions(&self, sku: &str) -> Result<Value, String> {
        // A sku is whatever a customer has sent; only plain ones are looked for.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let path = format!("/search/{}", sku.chars().filter(|c| plain(*c)).collect::<String>());
        let address = self.search.clone();
        let asked = within(BUDGET, move || http::get("search", &address, &path, BUDGET));
        match asked {
            None => Err(late("search")),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok((200, body))) => serde_json::from_slice(&body)
                .map_err(|error| format!("search sent something that is no JSON: {error}")),
            Some(Ok((status, _))) => Err(format!("search answered with status {status}")),
        }
    }

    /// Appends the order to the log; it counts once it is on disk.
    fn order(&self, body: &[u8]) -> Response {
        let order: Value = match serde_json::from_slice(body) {
            Ok(order) => order,
            Err(error) => return Response::text(400, format!("bad JSON: {error}")),
        };
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = serde_json::json!({ "id": *orders + 1, "order": order });
        match wal::append(&self.log, format!("{stored}\n").as_bytes()) {
            Ok(()) => {
                *orders += 1;
                Response::json(200, &stored)
            }
            Err(error) => Response::text(507, format!("cannot store the order: {error}")),
        }
    }
}

fn late(peer: &str) -> String {
    format!("no answer from {peer} within {} s", BUDGET.as_secs())
}
