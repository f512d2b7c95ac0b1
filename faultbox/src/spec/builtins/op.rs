//! `op(syscalls=[…])` (language.md 1.10).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::{
    engine::expand_keyword,
    spec::{
        Op,
        arguments::Call,
        failure::Raised,
        suggest::{did_you_mean, quoted},
        values::DeclaredOp,
    },
};

use super::keyword::known_keywords;

#[starlark_module]
pub(super) fn register(builder: &mut GlobalsBuilder) {
    /// A named group of calls, once it is in a service's `ops`.
    fn op<'v>(
        arguments: &Arguments<'v, '_>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let call = Call::new("op()", arguments, eval.heap())?;
        Ok(eval.heap().alloc(DeclaredOp(declare(call)?)))
    }
}

fn declare(mut call: Call<'_>) -> Result<Op, Raised> {
    let example = "as in op(syscalls=[\"write\", \"fsync\"])";
    let Some(value) = call.next("syscalls")? else {
        return Err(call.wrong(format_args!("syscalls= is required, {example}")));
    };
    let names = call.as_list("syscalls=", value)?;
    if call.optional("path").is_some() {
        let text = "path= is not supported by this version; without it the op covers every file";
        return Err(call.wrong(text));
    }
    call.finish(&["syscalls", "path"])?;
    if names.is_empty() {
        return Err(call.wrong(format_args!("syscalls= must not be empty, {example}")));
    }
    let mut syscalls = Vec::new();
    for name in names {
        let name = call.as_string("an entry of syscalls=", name)?;
        let Some(members) = expand_keyword(name) else {
            let hint = did_you_mean(name, known_keywords());
            return Err(call.wrong(format_args!("unknown system call {}{hint}", quoted(name))));
        };
        for syscall in members {
            if !syscalls.contains(&syscall) {
                syscalls.push(syscall);
            }
        }
    }
    Ok(Op { syscalls })
}
