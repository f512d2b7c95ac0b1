//! The driver's side of the test: what steps and healthchecks say to services. Plain blocking
//! code over non-blocking sockets; every wait ends at a deadline or when the test is cancelled.

mod dial;
mod go_duration;
mod health;
mod http;
mod http_request;
mod http_response;
mod limit;
mod step;
mod tcp;
mod url;
mod wire;

pub use dial::Dialer;
pub use go_duration::go_duration;
pub use limit::Limit;
pub use step::run;
pub use url::{Url, UrlError, parse_address};

#[cfg(test)]
mod server;
