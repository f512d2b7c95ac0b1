//! Building an answer.

use serde::Serialize;

/// An answer, sent with `Connection: close`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    content_type: &'static str,
    /// The methods that the path allows, for a 405.
    allow: Option<&'static str>,
    body: Vec<u8>,
}

impl Response {
    /// An answer of plain text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", allow: None, body: body.into() }
    }

    /// An answer of JSON. A value that cannot be written as JSON becomes a 500 that says why.
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, content_type: "application/json", allow: None, body },
            Err(error) => Self::text(500, format!("cannot write the answer: {error}")),
        }
    }

    /// 405, naming the methods that would do.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::text(405, "method not allowed") }
    }

    /// Head and body as they go over the wire, for one `write`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let allow = match self.allow {
            Some(methods) => format!("Allow: {methods}\r\n"),
            None => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.body.len(),
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The reason phrase of the statuses used here (RFC 9110, section 15).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_carries_its_length_and_closes_the_connection() {
        let bytes = Response::text(404, "not found").to_bytes();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Length: 9\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nnot found"), "{text}");
    }

    #[test]
    fn a_405_names_the_methods() {
        let text = String::from_utf8(Response::method_not_allowed("GET").to_bytes()).unwrap();
        assert!(text.contains("\r\nAllow: GET\r\n"), "{text}");
    }
}
