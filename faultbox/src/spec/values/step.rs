//! `db.main.send`: a step of an interface, ready to be called.

use std::{fmt, sync::Arc};

use allocative::Allocative;
use starlark::{
    eval::{Arguments, Evaluator},
    values::{
        NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, function::FUNCTION_TYPE,
        starlark_value,
    },
};

use crate::spec::{
    HttpMethod, Interface, Protocol, Service, Step, StepReply, arguments::Call, context::Context,
    failure::Raised, monitors,
};

use super::{ResponseValue, never_frozen};

/// A step that was not called yet.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct StepValue {
    #[allocative(skip)]
    #[trace(static)]
    service: Arc<Service>,
    interface: String,
    #[allocative(skip)]
    #[trace(static)]
    kind: Kind,
    name: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Send,
    Http(HttpMethod),
}

impl StepValue {
    /// The step of that name, if the interface's protocol has one.
    pub(super) fn of(service: &Arc<Service>, interface: &Interface, name: &str) -> Option<Self> {
        let name = interface.protocol.steps().iter().find(|step| **step == name)?;
        let kind = match interface.protocol {
            Protocol::Tcp => Kind::Send,
            Protocol::Http => Kind::Http(HttpMethod::from_step(name)?),
        };
        Some(Self { service: service.clone(), interface: interface.name.clone(), kind, name })
    }

    /// The step with its arguments.
    fn step(&self, mut call: Call<'_>) -> Result<Step, Raised> {
        if !call.rest().is_empty() {
            let example = match self.kind {
                Kind::Send => "send(data=\"PING\")".to_owned(),
                Kind::Http(_) => format!("{}(path=\"/\")", self.name),
            };
            return Err(call.wrong(format_args!("arguments need their names, as in {example}")));
        }
        match self.kind {
            Kind::Send => {
                let Some(data) = call.string("data")? else {
                    return Err(call.wrong("data= is required, as in send(data=\"PING\")"));
                };
                call.finish(&["data"])?;
                Ok(Step::TcpSend { data: data.to_owned() })
            }
            Kind::Http(method) => {
                let path = call.string("path")?.unwrap_or("/").to_owned();
                let odd = |c: char| c.is_whitespace() || c.is_control();
                if !path.starts_with('/') || path.contains(odd) {
                    let text = "path= must begin with / and have no blanks (write %20)";
                    return Err(call.wrong(text));
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
        }
    }
}

impl fmt::Display for StepValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.service.name, self.interface, self.name)
    }
}

#[starlark_value(type = FUNCTION_TYPE, ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for StepValue {
    fn invoke(
        &self,
        _me: Value<'v>,
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let heap = eval.heap();
        let who = format!("{self}()");
        let host = Context::of(eval)?.test(&who)?;
        let step = self.step(Call::new(&who, arguments, heap)?)?;
        let reply = host.step(&self.service.name, &self.interface, &step);
        monitors::deliver(eval)?;
        let reply = reply.map_err(Raised::from)?;
        if host.is_cancelled() {
            return Err(Raised::cancelled().into());
        }
        Ok(match reply {
            StepReply::Line(line) => heap.alloc(line),
            StepReply::Response(response) => heap.alloc(ResponseValue::new(&response, heap)),
        })
    }
}
never_frozen!(StepValue);
