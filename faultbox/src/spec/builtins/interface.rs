//! `interface(name, protocol, port)` (language.md 1.3).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::spec::{
    Interface, Protocol, arguments::Call, failure::Raised, suggest::quoted,
    values::DeclaredInterface,
};

use super::service::check_name;

const VALID: &[&str] = &["name", "protocol", "port", "spec", "tls"];

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// A way into a service.
    fn interface<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let call = Call::new("interface()", arguments, eval.heap())?;
        Ok(eval.heap().alloc(DeclaredInterface(declare(call)?)))
    }
}

fn declare(mut call: Call<'_>) -> Result<Interface, Raised> {
    let example = "as in interface(\"main\", \"tcp\", 5432)";
    let missing =
        |call: &Call<'_>, what: &str| call.wrong(format_args!("{what} is required, {example}"));

    let Some(name) = call.next("name")? else {
        return Err(missing(&call, "name"));
    };
    let name = call.as_string("name", name)?;
    // It becomes an attribute of the service, so that a dash would read as a minus.
    check_name(&call, "name", name, &['_'])?;
    call.rename(format!("interface({name:?})"));
    if name == "name" {
        return Err(call.wrong("is taken: service.name is the service's name"));
    }
    let Some(protocol) = call.next("protocol")? else {
        return Err(missing(&call, "protocol"));
    };
    let protocol = call.as_string("protocol", protocol)?;
    let Some((_, protocol)) = Protocol::ALL.iter().find(|(name, _)| *name == protocol) else {
        let known: Vec<_> = Protocol::ALL.iter().map(|(name, _)| *name).collect();
        let text = format!("unknown protocol {}; known: {}", quoted(protocol), known.join(", "));
        return Err(call.wrong(text));
    };
    let Some(value) = call.next("port")? else {
        return Err(missing(&call, "port"));
    };
    if value.get_type() != "int" {
        return Err(call.wrong_type("port", "an int", value));
    }
    let port =
        value.unpack_i32().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let Some(port) = port else {
        let text = format!("port must be from 1 to 65535, got {}", quoted(&value.to_repr()));
        return Err(call.wrong(text.replace('"', "")));
    };
    for later in ["spec", "tls"] {
        if call.optional(later).is_some() {
            return Err(call.wrong(format_args!("{later}= is not supported by this version")));
        }
    }
    call.finish(VALID)?;
    Ok(Interface { name: name.to_owned(), protocol: *protocol, port })
}
