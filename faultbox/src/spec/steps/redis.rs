//! Commands of Redis: a step for each of the usual ones, and `command(cmd=, args=)` for all.

use starlark::values::Value;

use crate::spec::{Step, arguments::Call, failure::Raised, suggest::quoted};

/// How a step is called.
pub(super) fn example(name: &str) -> &'static str {
    match name {
        "get" => "get(key=\"cart\")",
        "set" => "set(key=\"cart\", value=\"3\")",
        "delete" => "delete(key=\"cart\")",
        "keys" => "keys(pattern=\"cart:*\")",
        "incr" => "incr(key=\"visits\")",
        "lpush" => "lpush(key=\"queue\", value=\"job\")",
        "rpush" => "rpush(key=\"queue\", value=\"job\")",
        "lrange" => "lrange(key=\"queue\", start=0, stop=-1)",
        "command" => "command(cmd=\"CONFIG\", args=[\"GET\", \"maxmemory\"])",
        _ => "ping()",
    }
}

/// The command of a step.
pub(super) fn command(name: &'static str, mut call: Call<'_>) -> Result<Step, Raised> {
    let (words, valid): (Vec<String>, &[&str]) = match name {
        "get" => (vec!["GET".to_owned(), key(&mut call, name)?], &["key"]),
        "delete" => (vec!["DEL".to_owned(), key(&mut call, name)?], &["key"]),
        "incr" => (vec!["INCR".to_owned(), key(&mut call, name)?], &["key"]),
        "keys" => {
            let pattern = call.string("pattern")?.unwrap_or("*").to_owned();
            (vec!["KEYS".to_owned(), pattern], &["pattern"])
        }
        "lrange" => {
            let key = key(&mut call, name)?;
            let start = index(&mut call, "start", 0)?;
            let stop = index(&mut call, "stop", -1)?;
            (vec!["LRANGE".to_owned(), key, start, stop], &["key", "start", "stop"])
        }
        "set" | "lpush" | "rpush" => {
            let words = vec![name.to_uppercase(), key(&mut call, name)?, value(&mut call, name)?];
            (words, &["key", "value"])
        }
        "command" => (any(&mut call)?, &["cmd", "args"]),
        _ => (vec!["PING".to_owned()], &[]),
    };
    call.finish(valid)?;
    Ok(Step::Redis { name, words })
}

/// `key=`.
fn key(call: &mut Call<'_>, name: &str) -> Result<String, Raised> {
    match call.string("key")? {
        Some(key) => Ok(key.to_owned()),
        None => Err(call.wrong(format_args!("key= is required, as in {}", example(name)))),
    }
}

/// `value=`.
fn value(call: &mut Call<'_>, name: &str) -> Result<String, Raised> {
    match call.optional("value") {
        Some(value) => word(call, "value=", value),
        None => Err(call.wrong(format_args!("value= is required, as in {}", example(name)))),
    }
}

/// A place in a list; negative ones count from its end.
fn index(call: &mut Call<'_>, name: &str, default: i64) -> Result<String, Raised> {
    let Some(value) = call.optional(name) else {
        return Ok(default.to_string());
    };
    match call.as_int(&format!("{name}="), value)? {
        Some(index) => Ok(index.to_string()),
        None => Err(call.wrong(format_args!("{name}= is too large"))),
    }
}

/// `cmd=` and `args=`.
fn any(call: &mut Call<'_>) -> Result<Vec<String>, Raised> {
    let example = example("command");
    let Some(command) = call.string("cmd")? else {
        return Err(call.wrong(format_args!("cmd= is required, as in {example}")));
    };
    if command.is_empty() || command.contains(char::is_whitespace) {
        let text = format!("cmd= must be one word, got {}; as in {example}", quoted(command));
        return Err(call.wrong(text));
    }
    let mut words = vec![command.to_owned()];
    if let Some(list) = call.optional("args") {
        for (i, value) in call.as_list("args=", list)?.into_iter().enumerate() {
            words.push(word(call, &format!("args[{i}]"), value)?);
        }
    }
    Ok(words)
}

/// What Redis stores: a text, or a number as one.
fn word<'v>(call: &Call<'v>, what: &str, value: Value<'v>) -> Result<String, Raised> {
    match value.get_type() {
        "string" => Ok(call.as_string(what, value)?.to_owned()),
        "int" | "float" => Ok(value.to_repr()),
        _ => Err(call.wrong_type(what, "a string or a number", value)),
    }
}
