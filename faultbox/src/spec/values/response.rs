//! What a step returns, unless that is a line.

use std::{fmt, time::Duration};

use allocative::Allocative;
use starlark::values::{
    Heap, NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, dict::AllocDict,
    list::AllocList, starlark_value,
};

use crate::spec::{Answer, Data, Response};

use super::never_frozen;

const ATTRIBUTES: &[&str] =
    &["body", "data", "duration_ms", "error", "headers", "ok", "status", "status_code"];

/// An answer, or the lack of one.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct ResponseValue<'v> {
    /// Of HTTP; other protocols have none.
    status: Option<u16>,
    ok: bool,
    duration_ms: u64,
    body: Value<'v>,
    error: Value<'v>,
    /// What the body means.
    data: Value<'v>,
    headers: Value<'v>,
}

impl<'v> ResponseValue<'v> {
    /// Of an HTTP step: the data is the body as JSON, or as it is.
    pub(super) fn http(response: &Response, heap: Heap<'v>) -> Self {
        let body = heap.alloc(&*response.body);
        let json = serde_json::from_str::<serde_json::Value>(&response.body);
        let headers = response.headers.iter().map(|(name, value)| (&**name, &**value));
        Self {
            status: Some(response.status),
            ok: response.ok,
            duration_ms: millis(response.duration),
            body,
            error: heap.alloc(&*response.error),
            data: json.map_or(body, |json| heap.alloc(json)),
            headers: heap.alloc(AllocDict(headers)),
        }
    }

    /// Of a database: the body is the data as JSON.
    pub(super) fn answer(answer: &Answer, heap: Heap<'v>) -> Self {
        let (data, body, error) = match &answer.result {
            Ok(data) => (value(data, heap), data.to_json(), ""),
            Err(error) => (Value::new_none(), String::new(), &**error),
        };
        Self {
            status: None,
            ok: answer.result.is_ok(),
            duration_ms: millis(answer.duration),
            body: heap.alloc(body),
            error: heap.alloc(error),
            data,
            headers: heap.alloc(AllocDict(<[(&str, &str); 0]>::default())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn value<'v>(data: &Data, heap: Heap<'v>) -> Value<'v> {
    match data {
        Data::None => Value::new_none(),
        Data::Bool(it) => Value::new_bool(*it),
        Data::Int(it) => heap.alloc(*it),
        Data::Float(it) => heap.alloc(*it),
        Data::Text(it) => heap.alloc(&**it),
        Data::List(items) => heap.alloc(AllocList(items.iter().map(|it| value(it, heap)))),
        Data::Map(entries) => {
            heap.alloc(AllocDict(entries.iter().map(|(name, it)| (&**name, value(it, heap)))))
        }
    }
}

impl fmt::Display for ResponseValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, body, error, data, duration_ms, .. } = self;
        match self.status {
            Some(status) => write!(f, "response(status={status}, body={}", body.to_repr())?,
            None if *ok => write!(f, "response(ok=True, data={}", data.to_repr())?,
            None => write!(f, "response(ok=False, error={}", error.to_repr())?,
        }
        write!(f, ", duration_ms={duration_ms})")
    }
}

#[starlark_value(type = "response", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for ResponseValue<'v> {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(match attribute {
            "status" | "status_code" => heap.alloc(i32::from(self.status.unwrap_or(0))),
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
