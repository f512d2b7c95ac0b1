//! What an HTTP step returns.

use std::fmt;

use allocative::Allocative;
use starlark::values::{
    Heap, NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, dict::AllocDict,
    starlark_value,
};

use crate::spec::Response;

use super::never_frozen;

const ATTRIBUTES: &[&str] =
    &["body", "data", "duration_ms", "error", "headers", "ok", "status", "status_code"];

/// An answer, or the lack of one.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct ResponseValue<'v> {
    status: i32,
    ok: bool,
    duration_ms: u64,
    body: Value<'v>,
    error: Value<'v>,
    /// The body as JSON, or as it is.
    data: Value<'v>,
    headers: Value<'v>,
}

impl<'v> ResponseValue<'v> {
    pub(super) fn new(response: &Response, heap: Heap<'v>) -> Self {
        let body = heap.alloc(&*response.body);
        let json = serde_json::from_str::<serde_json::Value>(&response.body);
        let headers = response.headers.iter().map(|(name, value)| (&**name, &**value));
        Self {
            status: i32::from(response.status),
            ok: response.ok,
            duration_ms: u64::try_from(response.duration.as_millis()).unwrap_or(u64::MAX),
            body,
            error: heap.alloc(&*response.error),
            data: json.map_or(body, |json| heap.alloc(json)),
            headers: heap.alloc(AllocDict(headers)),
        }
    }
}

impl fmt::Display for ResponseValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, body, duration_ms, .. } = self;
        write!(f, "response(status={status}, body={}, duration_ms={duration_ms})", body.to_repr())
    }
}

#[starlark_value(type = "response", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for ResponseValue<'v> {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(match attribute {
            "status" | "status_code" => heap.alloc(self.status),
            "body" => self.body,
            "data" => self.data,
            "ok" => Value::new_bool(self.ok),
            "error" => self.error,
            "duration_ms" => heap.alloc(self.duration_ms),
            "headers" => self.headers,
            _ => return None,
        })
    }

    fn dir_attr(&self) -> Vec<String> {
        ATTRIBUTES.iter().map(|it| (*it).to_owned()).collect()
    }

    fn to_bool(&self) -> bool {
        self.ok
    }
}
never_frozen!(ResponseValue<'v>);
