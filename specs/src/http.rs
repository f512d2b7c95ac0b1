//! As much of HTTP/1.1 as the demo services need: one request and one answer per connection.

mod client;
mod request;
mod response;

pub use client::get;
pub use request::{BadRequest, MAX_BODY, MAX_HEAD, Request};
pub use response::Response;

use crate::connection::Connection;
use crate::listener::Listener;

/// Answers every request with `answer`, until the process ends.
///
/// Each answer is one `write`, after which the connection is closed. A read or write that fails
/// closes that one connection; a request that cannot be understood gets its status in the 400s.
pub fn serve(
    listener: Listener,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> ! {
    listener.serve(move |connection| {
        if let Some(response) = respond(connection, &answer) {
            // A client that has gone, or a fault on this very write: there is nobody to tell.
            let _ = connection.write_once(&response.to_bytes());
        }
    })
}

fn respond(connection: &Connection, answer: &impl Fn(&Request) -> Response) -> Option<Response> {
    match Request::read(connection) {
        Ok(request) => Some(answer(&request)),
        Err(bad) => bad.status().map(|status| Response::text(status, bad.to_string())),
    }
}
