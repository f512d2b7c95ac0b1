//! The steps of `http` interfaces.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Dialer, Limit, Url,
    http_request::Request,
    http_response::{Head, ResponseReader},
    wire::Wire,
};
use crate::spec::Response;

/// From the dial to the last byte, redirects included.
const TOTAL: Duration = Duration::from_secs(30);
/// Redirects that one step follows.
const MAX_REDIRECTS: usize = 10;

/// Sends the request and follows redirects. Never fails: whatever goes wrong on the way is a
/// response with status 0 that says so.
pub(super) fn request(
    dialer: &Dialer,
    url: &Url,
    request: &Request<'_>,
    limit: &Limit<'_>,
) -> Response {
    let started = Instant::now();
    let result = follow(dialer, url, request, &limit.within(TOTAL));
    let duration = started.elapsed();
    match result {
        Ok((head, body)) => Response {
            status: head.status,
            body: String::from_utf8_lossy(&body).trim().to_owned(),
            ok: true,
            error: String::new(),
            duration,
            headers: head.headers,
        },
        Err(error) => Response {
            status: 0,
            body: String::new(),
            ok: false,
            error: error.to_string(),
            duration,
            headers: Vec::new(),
        },
    }
}

fn follow(
    dialer: &Dialer,
    url: &Url,
    request: &Request<'_>,
    limit: &Limit<'_>,
) -> io::Result<(Head, Vec<u8>)> {
    let (mut url, mut request) = (url.clone(), request.clone());
    for _ in 0..=MAX_REDIRECTS {
        let (head, mut reader) = exchange(dialer, &url, &request, limit)?;
        let body = reader.body(&head)?;
        let next = request.redirected(head.status).zip(head.values("location").next());
        let Some((next, location)) = next else {
            return Ok((head, body));
        };
        url = url.join(location).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("redirect to {error}"))
        })?;
        request = next;
    }
    Err(io::Error::other(format!("more than {MAX_REDIRECTS} redirects, the last to {url}")))
}

/// Sends one request on a connection of its own and reads the head of the answer.
pub(super) fn exchange<'a>(
    dialer: &Dialer,
    url: &Url,
    request: &Request<'_>,
    limit: &Limit<'a>,
) -> io::Result<(Head, ResponseReader<'a>)> {
    let message =
        request.encode(url).map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
    let stream = dialer.connect(&url.host, url.port, limit).map_err(|error| {
        let (host, port) = (&url.host, url.port);
        io::Error::new(error.kind(), format!("connect to {host}:{port}: {error}"))
    })?;
    let mut wire = Wire { stream, limit: *limit };
    let unsent = wire.write(&message)?;
    let mut reader = ResponseReader::new(wire);
    match (reader.head(), unsent) {
        (Ok(head), _) => Ok((head, reader)),
        // A server that refuses a request half-way may answer before it closes; without an
        // answer, the failed write is what happened.
        (Err(error), Some(unsent)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(unsent),
        (Err(error), _) => Err(error),
    }
}

#[cfg(test)]
mod tests;
