//! An HTTP request as it goes over the wire.

use super::Url;
use crate::spec::HttpMethod;

/// What a step asks for.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    pub(super) method: HttpMethod,
    /// Empty: none.
    pub(super) body: &'a str,
    pub(super) headers: &'a [(String, String)],
}

impl Request<'_> {
    /// What to ask for after a redirect with this status, if it is one (RFC 9110, 15.4).
    pub(super) fn redirected(&self, status: u16) -> Option<Self> {
        match status {
            301..=303 => Some(Self { method: HttpMethod::Get, body: "", ..self.clone() }),
            307 | 308 => Some(self.clone()),
            _ => None,
        }
    }

    /// Head and body. An error names a header that cannot be sent.
    pub(super) fn encode(&self, url: &Url) -> Result<Vec<u8>, String> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method.as_str(), url.target);
        let mut add = |name: &str, value: &str| {
            for part in [name, ": ", value, "\r\n"] {
                head.push_str(part);
            }
        };
        let given = |name: &str| self.headers.iter().any(|(it, _)| it.eq_ignore_ascii_case(name));
        let with_body = !self.body.is_empty()
            || matches!(self.method, HttpMethod::Post | HttpMethod::Put | HttpMethod::Patch);
        let length = self.body.len().to_string();
        for (name, value, wanted) in [
            ("Host", url.authority().as_str(), true),
            ("User-Agent", "faultbox", true),
            ("Accept", "*/*", true),
            // One step, one connection: nothing carries over to the next step.
            ("Connection", "close", true),
            ("Content-Type", content_type(self.body), !self.body.is_empty()),
            ("Content-Length", &length, with_body && !given("Transfer-Encoding")),
        ] {
            if wanted && !given(name) {
                add(name, value);
            }
        }
        for (name, value) in self.headers {
            if !is_token(name) {
                return Err(format!("{name:?} is not a header name"));
            }
            if value.chars().any(|it| it.is_control() && it != '\t') {
                return Err(format!("the value of header {name} has a control character"));
            }
            // They describe a body that a redirect may have dropped.
            let of_body = name.get(..8).is_some_and(|it| it.eq_ignore_ascii_case("content-"));
            if !of_body || with_body {
                add(name, value);
            }
        }
        head.push_str("\r\n");
        let mut message = head.into_bytes();
        message.extend_from_slice(self.body.as_bytes());
        Ok(message)
    }
}

/// The type of a body whose sender did not say it.
fn content_type(body: &str) -> &'static str {
    let json = body.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    if json { "application/json" } else { "text/plain; charset=utf-8" }
}

/// RFC 9110, 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(method: HttpMethod, body: &str, headers: &[(&str, &str)]) -> Result<String, String> {
        let headers: Vec<_> =
            headers.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let url = Url::parse("localhost:8080/data/key").unwrap();
        let bytes = Request { method, body, headers: &headers }.encode(&url)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_get_has_no_body() {
        assert_eq!(
            encoded(HttpMethod::Get, "", &[]).unwrap(),
            "GET /data/key HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: faultbox\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a_post_says_length_and_type_and_the_callers_headers_win() {
        let text = encoded(HttpMethod::Post, "{\"a\": 1}", &[("host", "x"), ("X-Y", "1")]);
        let text = text.unwrap();
        assert!(text.contains("Content-Length: 8\r\n"), "{text}");
        assert!(text.contains("Content-Type: application/json\r\n"), "{text}");
        assert!(text.contains("host: x\r\nX-Y: 1\r\n\r\n{\"a\": 1}"), "{text}");
        assert!(!text.contains("localhost"), "{text}");
        let text = encoded(HttpMethod::Put, "", &[]).unwrap();
        assert!(text.contains("Content-Length: 0\r\n"), "{text}");
        let text = encoded(HttpMethod::Post, "v", &[]).unwrap();
        assert!(text.contains("Content-Type: text/plain"), "{text}");
    }

    #[test]
    fn a_header_cannot_smuggle_another() {
        assert!(encoded(HttpMethod::Get, "", &[("A", "1\r\nB: 2")]).is_err());
        assert!(encoded(HttpMethod::Get, "", &[("A: 1\r\nB", "2")]).is_err());
        assert!(encoded(HttpMethod::Get, "", &[("", "2")]).is_err());
    }

    #[test]
    fn a_redirect_keeps_or_drops_the_body_by_its_status() {
        let headers = [("Content-Type".to_owned(), "x/y".to_owned())];
        let post = Request { method: HttpMethod::Post, body: "b", headers: &headers };
        let get = post.redirected(302).unwrap();
        assert_eq!((get.method, get.body), (HttpMethod::Get, ""));
        let text = String::from_utf8(get.encode(&Url::parse("h").unwrap()).unwrap()).unwrap();
        assert!(!text.contains("x/y"), "{text}");
        let same = post.redirected(307).unwrap();
        assert_eq!((same.method, same.body), (HttpMethod::Post, "b"));
        assert!(post.redirected(304).is_none());
    }
}
