//! `op(syscalls=[…], path=…)` (language.md 1.10).

use starlark::{
    environment::GlobalsBuilder,
    eval::{Arguments, Evaluator},
    starlark_module,
    values::Value,
};

use crate::{
    engine::{PathGlob, Syscall, expand_keyword},
    spec::{
        Op,
        arguments::Call,
        failure::Raised,
        suggest::{did_you_mean, quoted},
        values::DeclaredOp,
    },
};

use super::keyword::{can_have_path, known_keywords};

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
    let path = path(&mut call)?;
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
    if path.is_some() && !syscalls.iter().any(|it| can_have_path(*it)) {
        let names: Vec<_> = syscalls.iter().map(|it: &Syscall| it.name()).collect();
        let text = "path= needs a call that works on files, such as write, fsync or openat; \
                    these have no path";
        return Err(call.wrong(format_args!("{text}: {}", names.join(", "))));
    }
    Ok(Op { syscalls, path })
}

/// The glob of `path=`.
fn path(call: &mut Call<'_>) -> Result<Option<PathGlob>, Raised> {
    let Some(text) = call.string("path")? else {
        return Ok(None);
    };
    if text.is_empty() {
        return Err(call.wrong("path= is empty; use e.g. path=\"/tmp/*.wal\""));
    }
    let glob = text.parse().map_err(|error| {
        call.wrong(format_args!("path= {} {error}; use e.g. path=\"/tmp/*.wal\"", quoted(text)))
    });
    glob.map(Some)
}
