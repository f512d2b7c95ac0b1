//! `partition()`, `partition_start()`, `partition_stop()` (language.md 1.14).

use std::sync::Arc;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike, none::NoneType},
};

use crate::{
    engine::{PartitionDirection, PartitionMode},
    spec::{
        FaultWindow, Host, PartitionId, PartitionRequest, Service, arguments::Call,
        context::Context, failure::Raised, suggest::quoted, values::ServiceValue,
    },
};

use super::fault::callback;

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Cuts two services off from each other while a function runs, and returns what it returned.
    fn partition<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let host = Context::of(eval)?.test("partition()")?;
        let mut call = Call::new("partition()", arguments, eval.heap())?;
        let (a, b) = sides(&mut call)?;
        let run = callback(&mut call)?;
        let request = request(call, &a, &b, FaultWindow::Scoped)?;
        let id = host.partition(&request).map_err(Raised::from)?;
        // Heals when dropped, and so whatever way the callback ends.
        let _cut = CutOff { host, id };
        eval.eval_function(run, &[], &[])
    }

    /// Cuts two services off from each other until `partition_stop` or the test's end.
    fn partition_start<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("partition_start()")?;
        let mut call = Call::new("partition_start()", arguments, eval.heap())?;
        let (a, b) = sides(&mut call)?;
        if call.named("run").is_some() {
            let text = "run= belongs to partition(); partition_stop() ends this one";
            return Err(call.wrong(text).into());
        }
        let request = request(call, &a, &b, FaultWindow::Imperative)?;
        host.partition(&request).map_err(Raised::from)?;
        Ok(NoneType)
    }

    /// Ends everything that `partition_start` began between two services, in whichever order they
    /// are named.
    fn partition_stop<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let host = Context::of(eval)?.test("partition_stop()")?;
        let mut call = Call::new("partition_stop()", arguments, eval.heap())?;
        let (a, b) = sides(&mut call)?;
        call.finish(&["a", "b"])?;
        host.heal_imperative(&a.name, &b.name);
        Ok(NoneType)
    }
}

/// A partition that is on for as long as this exists.
struct CutOff<'h> {
    host: &'h dyn Host,
    id: PartitionId,
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        self.host.heal(self.id);
    }
}

/// The two services that are meant.
fn sides(call: &mut Call<'_>) -> Result<(Arc<Service>, Arc<Service>), Raised> {
    let mut service = |name: &str| {
        let Some(value) = call.next(name)? else {
            return Err(call.wrong("two services are required, as in partition(api, db, run=...)"));
        };
        match value.downcast_ref::<ServiceValue>() {
            Some(it) => Ok(it.service.clone()),
            None => Err(call.wrong_type(&format!("{name}="), "a service", value)),
        }
    };
    let (a, b) = (service("a")?, service("b")?);
    if a.name == b.name {
        return Err(call.wrong(format_args!(
            "a and b are the same service, {}; a service cannot be cut off from itself",
            a.name
        )));
    }
    Ok((a, b))
}

/// What the remaining keywords say.
fn request(
    mut call: Call<'_>,
    a: &Service,
    b: &Service,
    window: FaultWindow,
) -> Result<PartitionRequest, Raised> {
    let direction = match call.string("direction")? {
        None => PartitionDirection::default(),
        Some("both") => PartitionDirection::Both,
        Some("a_to_b") => PartitionDirection::AToB,
        Some("b_to_a") => PartitionDirection::BToA,
        Some(other) => {
            let text = "direction= must be \"both\", \"a_to_b\" or \"b_to_a\", got";
            return Err(call.wrong(format_args!("{text} {}", quoted(other))));
        }
    };
    let mode = match call.string("mode")? {
        None => PartitionMode::default(),
        Some("refuse") => PartitionMode::Refuse,
        Some("drop") => PartitionMode::Drop,
        Some(other) => {
            let text = "mode= must be \"refuse\" or \"drop\", got";
            return Err(call.wrong(format_args!("{text} {}", quoted(other))));
        }
    };
    match window {
        FaultWindow::Scoped => call.finish(&["a", "b", "run", "direction", "mode"])?,
        FaultWindow::Imperative => call.finish(&["a", "b", "direction", "mode"])?,
    }
    Ok(PartitionRequest { a: a.name.clone(), b: b.name.clone(), mode, direction, window })
}
