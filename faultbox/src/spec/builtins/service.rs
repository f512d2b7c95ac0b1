//! `service(name, …)` (language.md 1.2).

use std::sync::Arc;

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::{Value, ValueLike},
};

use crate::{
    engine::expand_keyword,
    spec::{
        Healthcheck, Interface, Location, Op, Service, Source,
        arguments::Call,
        context::{Context, caller},
        failure::Raised,
        suggest::{did_you_mean, quoted},
        values::{
            DeclaredHealthcheck, DeclaredInterface, DeclaredOp, Hooks, ReadyWhen, Registry,
            ServiceValue,
        },
    },
};

use super::container;

/// The longest name, in characters: it becomes the name of a cgroup and a column of the trace.
const LONGEST_NAME: usize = 63;

const VALID: &[&str] = &[
    "name",
    "binary",
    "image",
    "build",
    "container",
    "args",
    "env",
    "depends_on",
    "healthcheck",
    "ops",
    "volumes",
    "ports",
    "reuse",
    "seed",
    "reset",
    "seccomp",
];

/// Keywords of `fault()` and its relatives that an op would hide.
const TAKEN: &[&str] =
    &["target", "run", "include_driver", "faults", "monitors", "rules", "description", "services"];

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// Declares a service.
    fn service<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let context = Context::of(eval)?;
        let call = Call::new("service()", arguments, eval.heap())?;
        if context.is_running() {
            return Err(call.wrong("only valid while the file is loaded").into());
        }
        let location = caller(eval).ok_or_else(|| call.wrong("called from nowhere"))?;
        let (service, hooks) = declare(call, location, context)?;
        context.declare(&service)?;
        Registry::of(eval)?.add_hooks(&service.name, hooks);
        let misses = context.misses().clone();
        Ok(eval.heap().alloc(ServiceValue { service: Arc::new(service), misses }))
    }
}

/// Checks a name: a letter or `_` first, then letters, digits and `also`.
pub(super) fn check_name(
    call: &Call<'_>,
    what: &str,
    name: &str,
    also: &[char],
) -> Result<(), Raised> {
    let length = name.chars().count();
    if length > LONGEST_NAME {
        let text = format!("{what} has {length} characters; at most {LONGEST_NAME} are possible");
        return Err(call.wrong(text));
    }
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.starts_with(first)
        && name.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
    {
        return Ok(());
    }
    let also: Vec<String> = also.iter().map(|c| format!("\"{c}\"")).collect();
    Err(call.wrong(format_args!(
        "bad {what} {}; use letters, digits and {}, and no digit first",
        quoted(name),
        also.join(" and ")
    )))
}

fn declare<'v>(
    mut call: Call<'v>,
    location: Location,
    context: &Context<'_>,
) -> Result<(Service, Hooks<'v>), Raised> {
    let Some(name) = call.next("name")? else {
        return Err(call.wrong("name is required, as in service(\"db\", \"bin/mock-db\", …)"));
    };
    let name = call.as_string("name", name)?;
    check_name(&call, "name", name, &['_', '-'])?;
    call.rename(format!("service({name:?})"));

    let (source, interfaces) = source_and_interfaces(&mut call, &location)?;
    let (container, hooks) = container::options(&mut call, &source, &location)?;
    let (has_seed, has_reset) = (hooks.seed.is_some(), hooks.reset.is_some());
    if container.reuse && !has_seed && !has_reset {
        context.print(&format!(
            "note: service({name:?}): reuse=True without seed= or reset= lets each test see what \
             the tests before it have left"
        ));
    }
    let args = call.optional("args");
    let args = args.map(|it| strings(&call, "args", it)).transpose()?.unwrap_or_default();
    let env = call.optional("env");
    let env = env.map(|it| environment(&call, it)).transpose()?.unwrap_or_default();
    let depends_on = call.optional("depends_on");
    let depends_on = depends_on.map(|it| dependencies(&call, it)).transpose()?.unwrap_or_default();
    let healthcheck = call.optional("healthcheck");
    let healthcheck = healthcheck.map(|it| as_healthcheck(&call, it, &interfaces)).transpose()?;
    let ops = call.optional("ops");
    let ops = ops.map(|it| operations(&call, it)).transpose()?.unwrap_or_default();
    if call.named("seccomp").is_some() {
        let text = "seccomp= is ignored; faultbox chooses by itself what serves a fault";
        context.print(&format!("note: service({name:?}): {text}"));
    }
    // How other tools call what is `args` here.
    for foreign in ["cmd", "entrypoint"] {
        if call.named(foreign).is_some() {
            let valid = VALID.join(", ");
            let text = format!("unknown keyword {foreign:?}; valid: {valid}; use args=");
            return Err(call.wrong(text));
        }
    }
    call.finish(VALID)?;
    let name = name.to_owned();
    let service = Service {
        name,
        source,
        interfaces,
        args,
        env,
        depends_on,
        container,
        has_seed,
        has_reset,
        healthcheck,
        ops,
        location,
    };
    Ok((service, hooks))
}

/// What is started, and the interfaces, which share the positional arguments with the binary.
fn source_and_interfaces(
    call: &mut Call<'_>,
    location: &Location,
) -> Result<(Source, Vec<Interface>), Raised> {
    let mut sources = container::sources(call, location)?;
    let binary = call.string("binary")?;
    sources.extend(binary.map(|it| Source::Binary(it.to_owned())));
    let mut interfaces: Vec<Interface> = Vec::new();
    for value in call.rest() {
        if let Some(DeclaredInterface(interface)) = value.downcast_ref() {
            if interfaces.iter().any(|it| it.name == interface.name) {
                let text = format!("interface {:?} declared twice", interface.name);
                return Err(call.wrong(text));
            }
            interfaces.push(interface.clone());
        } else if let Some(binary) = value.unpack_str() {
            sources.push(Source::Binary(binary.to_owned()));
        } else {
            return Err(call.wrong_type("what follows the name", "a path or interfaces", value));
        }
    }
    let [source] = sources.as_slice() else {
        return Err(call.wrong(
            "exactly one of binary, image=, build= is required (or container=, for a container \
             that runs already)",
        ));
    };
    let source = source.clone();
    if let Source::Binary(binary) = &source {
        if binary.is_empty() {
            return Err(call.wrong("the path of the binary is empty"));
        }
        no_nul(call, "the path of the binary", binary)?;
    }
    if interfaces.is_empty() {
        let example = "interface(\"main\", \"tcp\", 5432)";
        return Err(call.wrong(format_args!("at least one interface is required, as in {example}")));
    }
    Ok((source, interfaces))
}

/// Refuses what no argument or variable of a program can hold.
fn no_nul(call: &Call<'_>, what: &str, text: &str) -> Result<(), Raised> {
    if text.contains('\0') {
        return Err(call.wrong(format_args!("{what} contains a NUL character")));
    }
    Ok(())
}

fn strings<'v>(call: &Call<'v>, what: &str, value: Value<'v>) -> Result<Vec<String>, Raised> {
    let mut strings = Vec::new();
    for (i, value) in call.as_list(&format!("{what}="), value)?.into_iter().enumerate() {
        let what = format!("{what}[{i}]");
        let text = call.as_string(&what, value)?;
        no_nul(call, &what, text)?;
        strings.push(text.to_owned());
    }
    Ok(strings)
}

fn environment<'v>(call: &Call<'v>, value: Value<'v>) -> Result<Vec<(String, String)>, Raised> {
    let entries = call.as_string_dict("env=", value)?;
    for (name, value) in &entries {
        if name.is_empty() || name.contains(['=', '\0']) {
            let text = format!("env=: {} cannot be the name of a variable", quoted(name));
            return Err(call.wrong(text));
        }
        no_nul(call, &format!("env[{}]", quoted(name)), value)?;
    }
    Ok(entries)
}

fn dependencies<'v>(call: &Call<'v>, value: Value<'v>) -> Result<Vec<String>, Raised> {
    let mut names = Vec::new();
    for value in call.as_list("depends_on=", value)? {
        let name = match value.downcast_ref::<ServiceValue>() {
            Some(it) => it.service.name.clone(),
            None if let Some(name) = value.unpack_str() => name.to_owned(),
            None => {
                let wanted = "a service or the name of one";
                return Err(call.wrong_type("an entry of depends_on=", wanted, value));
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn as_healthcheck<'v>(
    call: &Call<'v>,
    value: Value<'v>,
    interfaces: &[Interface],
) -> Result<Healthcheck, Raised> {
    let Some(DeclaredHealthcheck(when)) = value.downcast_ref() else {
        return Err(call.wrong_type("healthcheck=", "tcp(), http() or ready()", value));
    };
    let (wanted, timeout) = match when {
        ReadyWhen::Passed(healthcheck) => return Ok(healthcheck.clone()),
        ReadyWhen::Answers { interface, timeout } => (interface.as_deref(), *timeout),
    };
    let found = match wanted {
        Some(name) => interfaces.iter().find(|it| it.name == name),
        None => interfaces.first(),
    };
    let Some(Interface { protocol, port, .. }) = found else {
        let wanted = wanted.unwrap_or_default();
        let names = || interfaces.iter().map(|it| &*it.name);
        let near = did_you_mean(wanted, names());
        let available = names().collect::<Vec<_>>().join(", ");
        let hint = if near.is_empty() { format!("; available: {available}") } else { near };
        let text = format!("ready() names no interface of it: {}{hint}", quoted(wanted));
        return Err(call.wrong(text));
    };
    Ok(Healthcheck::Ready { protocol: *protocol, port: *port, timeout })
}

fn operations<'v>(call: &Call<'v>, value: Value<'v>) -> Result<Vec<(String, Op)>, Raised> {
    let mut ops = Vec::new();
    for (name, value) in call.as_dict("ops=", value)? {
        // It becomes a keyword of fault().
        check_name(call, "op name", name, &['_'])?;
        if expand_keyword(name).is_some() || TAKEN.contains(&name) || VALID.contains(&name) {
            let text =
                format!("op {name:?} has the name of a system call or keyword; choose another");
            return Err(call.wrong(text));
        }
        let Some(DeclaredOp(op)) = value.downcast_ref() else {
            return Err(call.wrong_type(&format!("ops[{name:?}]"), "an op()", value));
        };
        ops.push((name.to_owned(), op.clone()));
    }
    Ok(ops)
}
