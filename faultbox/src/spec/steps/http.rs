//! `get(path=, body=, headers=)` and the other methods.

use crate::spec::{HttpMethod, Step, arguments::Call, failure::Raised};

/// A request.
pub(super) fn request(method: HttpMethod, mut call: Call<'_>) -> Result<Step, Raised> {
    let path = call.string("path")?.unwrap_or("/").to_owned();
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if !path.starts_with('/') || path.contains(odd) {
        return Err(call.wrong("path= must begin with / and have no blanks (write %20)"));
    }
    let body = call.string("body")?.unwrap_or_default().to_owned();
    let headers = call.optional("headers");
    let headers = headers.map(|it| call.as_string_dict("headers=", it)).transpose()?;
    let headers = headers.unwrap_or_default();
    for (name, value) in &headers {
        // Either would let a header end early and something else begin.
        if name.is_empty() || name.contains(|c| odd(c) || c == ':') {
            return Err(call.wrong("headers=: a name has no blanks and no colon"));
        }
        if value.contains(['\r', '\n', '\0']) {
            return Err(call.wrong(format_args!("headers[{name:?}] has a line break")));
        }
    }
    call.finish(&["path", "body", "headers"])?;
    Ok(Step::Http { method, path, body, headers })
}
