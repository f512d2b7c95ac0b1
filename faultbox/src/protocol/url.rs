//! Addresses and URLs, as far as steps and healthchecks need them.

use std::fmt::{self, Write};

/// Why a text is no URL that can be requested; says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

/// An `http://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// 80 when it is not given.
    pub port: u16,
    /// Path and query, from the slash on, fit for a request line.
    pub target: String,
}

impl Url {
    /// Reads a URL; `http://` is added when the scheme is missing.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.chars().all(|it| it.is_ascii_alphanumeric()) => {
                return Err(UrlError(format!(
                    "{text:?} is not an http:// URL; {scheme} is not supported"
                )));
            }
            _ => text,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        // Credentials are nothing a test's own services ask for in a URL.
        if authority.contains('@') {
            return Err(UrlError(format!("{text:?} has a user name; pass it in headers=")));
        }
        let (host, port) = match parse_address(authority) {
            Some(both) => both,
            None if authority.contains(':') && !authority.ends_with(']') => {
                return Err(UrlError(format!("{text:?} has no valid port")));
            }
            None => (unbracket(authority).to_owned(), 80),
        };
        if host.is_empty() || host.chars().any(|it| it.is_whitespace() || it.is_control()) {
            return Err(UrlError(format!("{text:?} has no valid host")));
        }
        Ok(Self { host, port, target: request_target(target) })
    }

    /// Where a `Location` header of an answer from this URL leads (RFC 9110, 10.2.2).
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.trim();
        let head = location.split(['/', '?', '#']).next().unwrap_or_default();
        if location.contains("://") && head.ends_with(':') {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("http://{rest}"));
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let target = if location.starts_with('/') {
            location.to_owned()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
            format!("{folder}{location}")
        };
        Ok(Self { target: request_target(&target), ..self.clone() })
    }

    /// `host:port` as in a `Host` header: brackets around IPv6, no port when it is 80.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

/// Splits `host:port`; brackets around an IPv6 address are taken off. `None` unless there is a
/// host and a port from 1 to 65535.
pub fn parse_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let port: u16 = port.parse().ok().filter(|it| *it > 0)?;
    let bare = unbracket(host);
    // More colons are an IPv6 address, and that needs brackets.
    let clear = !bare.is_empty() && (bare.len() < host.len() || !host.contains(':'));
    clear.then(|| (bare.to_owned(), port))
}

fn unbracket(host: &str) -> &str {
    host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host)
}

/// A path and query that can stand in a request line: begins with a slash, without a fragment,
/// and what would break the line percent-encoded.
pub(super) fn request_target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        target.push('/');
    }
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'<' && byte != b'>' {
            target.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(target, "%{byte:02X}");
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Url::parse(text).map_or_else(|error| error.to_string(), |url| url.to_string())
    }

    #[test]
    fn the_scheme_may_be_missing_and_other_parts_have_defaults() {
        assert_eq!(parsed("localhost:8080/health"), "http://localhost:8080/health");
        assert_eq!(parsed("HTTP://a.b"), "http://a.b/");
        assert_eq!(parsed("http://[::1]:81?q=1#x"), "http://[::1]:81/?q=1");
        assert_eq!(parsed("[::1]"), "http://[::1]/");
        assert_eq!(Url::parse("[::1]:5/x").unwrap().host, "::1");
    }

    #[test]
    fn what_cannot_be_requested_is_said() {
        for (text, part) in [
            ("https://a/", "https is not supported"),
            ("", "no valid host"),
            ("http:///x", "no valid host"),
            ("localhost:0/x", "no valid port"),
            ("localhost:99999", "no valid port"),
            ("localhost:/x", "no valid port"),
            ("::1:80", "no valid port"),
            ("u:p@host:1", "user name"),
            ("a b:1", "no valid host"),
        ] {
            assert!(parsed(text).contains(part), "{text}: {}", parsed(text));
        }
    }

    #[test]
    fn locations_are_joined_like_links() {
        let base = Url::parse("localhost:8080/a/b?x=1").unwrap();
        for (location, expected) in [
            ("/c?d", "http://localhost:8080/c?d"),
            ("c", "http://localhost:8080/a/c"),
            ("?y", "http://localhost:8080/a/b?y"),
            ("http://other:1/z", "http://other:1/z"),
            ("//other:1/z", "http://other:1/z"),
            ("/to?url=http://x/", "http://localhost:8080/to?url=http://x/"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), expected);
        }
        assert!(base.join("https://x/").is_err());
    }

    #[test]
    fn a_target_cannot_break_the_request_line() {
        assert_eq!(request_target("a b\r\nX: y"), "/a%20b%0D%0AX:%20y");
        assert_eq!(request_target("/ä%20?q=\"1\""), "/%C3%A4%20?q=%221%22");
        assert_eq!(request_target("/\u{22}\u{22}\u{1}"), "/%22%22%01");
    }

    #[test]
    fn addresses_need_a_host_and_a_port() {
        assert_eq!(parse_address("localhost:9999"), Some(("localhost".to_owned(), 9999)));
        assert_eq!(parse_address("[::1]:1"), Some(("::1".to_owned(), 1)));
        for wrong in ["localhost", ":1", "a:", "a:x", "a:+1", "a:65536", "::1:80", "[]:1"] {
            assert_eq!(parse_address(wrong), None, "{wrong}");
        }
    }
}
