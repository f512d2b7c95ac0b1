//! The driver's side of the test: what steps and healthchecks say to services. Plain blocking
//! code over non-blocking sockets, but for the clients of databases, which are others' and
//! asynchronous; every wait ends at a deadline or when the test is cancelled.

mod client;
mod client_stream;
mod credentials;
mod dial;
mod go_duration;
mod health;
mod http;
mod http_request;
mod http_response;
mod limit;
mod postgres;
mod redis;
mod step;
mod tcp;
mod url;
mod wire;

pub use credentials::{Credentials, credentials};
pub use dial::{Dialer, Network};
pub use go_duration::go_duration;
pub use limit::Limit;
pub use postgres::check_connstr;
pub use step::run;
pub use url::{Url, UrlError, parse_address};

#[cfg(test)]
mod installed;
#[cfg(test)]
mod server;
