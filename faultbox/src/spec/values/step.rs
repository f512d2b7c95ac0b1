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
    Interface, Service, StepReply, arguments::Call, context::Context, failure::Raised, monitors,
    steps,
};

use super::{ResponseValue, never_frozen};

/// A step that was not called yet.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct StepValue {
    #[allocative(skip)]
    #[trace(static)]
    service: Arc<Service>,
    #[allocative(skip)]
    #[trace(static)]
    interface: Interface,
    name: &'static str,
}

impl StepValue {
    /// The step of that name, if the interface's protocol has one.
    pub(super) fn of(service: &Arc<Service>, interface: &Interface, name: &str) -> Option<Self> {
        let name = interface.protocol.steps().iter().find(|step| **step == name)?;
        Some(Self { service: service.clone(), interface: interface.clone(), name })
    }
}

impl fmt::Display for StepValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.service.name, self.interface.name, self.name)
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
        let step = steps::read(&self.interface, self.name, Call::new(&who, arguments, heap)?)?;
        let reply = host.step(&self.service.name, &self.interface.name, &step);
        monitors::deliver(eval)?;
        let reply = reply.map_err(Raised::from)?;
        if host.is_cancelled() {
            return Err(Raised::cancelled().into());
        }
        Ok(match reply {
            StepReply::Line(line) => heap.alloc(line),
            StepReply::Response(response) => heap.alloc(ResponseValue::http(&response, heap)),
            StepReply::Answer(answer) => heap.alloc(ResponseValue::answer(&answer, heap)),
        })
    }
}
never_frozen!(StepValue);
