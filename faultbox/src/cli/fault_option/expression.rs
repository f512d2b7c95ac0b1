//! The spec's form: `deny(EIO, probability="10%", path="/data/**")`.
//!
//! What a shell makes hard to write may be left out: quotes are needed only around a value with
//! one of `,()="'` or a space in it.

use std::num::NonZeroU64;

use nix::sys::signal::Signal;

use crate::{
    engine::{Action, Errno, Probability},
    spec::{deadly_signal, did_you_mean, parse_duration, quoted},
};

use super::{Effect, Wrong};

const ACTIONS: &[&str] = &["deny", "delay", "returns", "eof", "crash", "allow"];
/// What every action but `allow` may be told.
const OPTIONS: &[&str] = &["probability", "nth", "after", "max_hits", "label", "path"];

/// Whether a text is a word with a parenthesis behind it.
pub(super) fn is_one(text: &str) -> bool {
    let behind = text.trim_start().trim_start_matches(is_word);
    behind.len() < text.trim_start().len() && behind.trim_start().starts_with('(')
}

/// Reads what is behind the `=`, which ends at byte `start`.
pub(super) fn read(text: &str, start: usize) -> Result<Effect, Wrong> {
    let mut scanner = Scanner { text, at: start };
    scanner.skip_space();
    let at = scanner.at;
    let name = scanner.take_while(is_word);
    let own = match name {
        "deny" => Some("errno"),
        "delay" => Some("duration"),
        "returns" => Some("value"),
        "crash" => Some("signal"),
        "eof" | "allow" => None,
        _ => {
            let near = did_you_mean(name, ACTIONS.iter().copied());
            let what =
                format!("unknown action {}{near}; there are {}", quoted(name), all_actions());
            return Err(Wrong::new(at, what));
        }
    };
    let mut arguments = scanner.arguments(name, own)?;
    let action = match name {
        "deny" => Action::Deny(errno(&arguments.own(name, "deny(EIO)")?)?),
        "delay" => Action::Delay(duration(&arguments.own(name, "delay(500ms)")?)?),
        "returns" => Action::Return(result(&arguments.own(name, "returns(0)")?)?),
        "crash" => Action::Crash(match arguments.take("signal") {
            Some(value) => signal(&value)?,
            None => Signal::SIGKILL,
        }),
        "eof" => Action::Return(0),
        _ => Action::Allow,
    };
    let mut effect = Effect { is_eof: name == "eof", ..Effect::always(action) };
    if let Some(value) = arguments.take("probability") {
        effect.probability = probability(&value)?;
    }
    effect.nth = arguments.take("nth").map(|it| count("nth", &it)).transpose()?;
    effect.max_hits = arguments.take("max_hits").map(|it| count("max_hits", &it)).transpose()?;
    if let Some(value) = arguments.take("after") {
        effect.after = value.text.parse().map_err(|_| {
            Wrong::new(value.at, format!("after= must be a whole number, got {}", value.shown()))
        })?;
        if effect.nth.is_some() && effect.after > 0 {
            let what = "nth= already says which match is hit; leave out after=";
            return Err(Wrong::new(value.at, what));
        }
    }
    effect.label = arguments.take("label").map(|it| it.text);
    if let Some(value) = arguments.take("path") {
        let glob = value.text.parse();
        effect.path =
            Some(glob.map_err(|error| {
                Wrong::new(value.at, format!("path {} {error}", value.shown()))
            })?);
    }
    Ok(effect)
}

fn all_actions() -> String {
    ACTIONS.iter().map(|name| format!("{name}()")).collect::<Vec<_>>().join(", ")
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

/// The value of an argument.
struct Value {
    at: usize,
    text: String,
    is_quoted: bool,
}

impl Value {
    fn shown(&self) -> String {
        quoted(&self.text)
    }
}

/// Arguments by name, those not yet taken.
struct Arguments {
    named: Vec<(String, Value)>,
    end: usize,
}

impl Arguments {
    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.named.iter().position(|(it, _)| it == name)?;
        Some(self.named.remove(index).1)
    }

    /// The argument that the action cannot do without.
    fn own(&mut self, action: &str, example: &str) -> Result<Value, Wrong> {
        let (name, what) = match action {
            "deny" => ("errno", "an errno"),
            "delay" => ("duration", "a duration"),
            _ => ("value", "a value"),
        };
        let missing = || Wrong::new(self.end, format!("{what} is required, as in {example}"));
        let index = self.named.iter().position(|(it, _)| it == name).ok_or_else(missing)?;
        Ok(self.named.remove(index).1)
    }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|it| !wanted(it)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Skips space, then this character if it is next.
    fn take(&mut self, char: char) -> bool {
        self.skip_space();
        let is_next = self.rest().starts_with(char);
        if is_next {
            self.at += char.len_utf8();
        }
        is_next
    }

    /// Everything from `(` to the end of the text.
    fn arguments(&mut self, action: &str, own: Option<&str>) -> Result<Arguments, Wrong> {
        self.take('(');
        let mut named: Vec<(String, Value)> = Vec::new();
        loop {
            self.skip_space();
            let end = self.at;
            if self.take(')') {
                self.skip_space();
                if !self.rest().is_empty() {
                    let what =
                        "nothing may follow the ); give a second rule in an option of its own";
                    return Err(Wrong::new(self.at, what));
                }
                return Ok(Arguments { named, end });
            }
            let mut value = self.value()?;
            let name = if !value.is_quoted && self.take('=') {
                let name = std::mem::take(&mut value.text);
                let at = value.at;
                value = self.value()?;
                let is_option = action != "allow" && OPTIONS.contains(&&*name);
                if Some(&*name) != own && !is_option {
                    return Err(Wrong::new(at, unknown_argument(action, &name, own)));
                }
                name
            } else {
                match own {
                    Some(own) if named.is_empty() => own.to_owned(),
                    _ => {
                        let what = format!("expected NAME=VALUE; {}", valid_arguments(action, own));
                        return Err(Wrong::new(value.at, what));
                    }
                }
            };
            if named.iter().any(|(it, _)| *it == name) {
                return Err(Wrong::new(value.at, format!("{name} is given twice")));
            }
            named.push((name, value));
            self.skip_space();
            if !self.rest().starts_with(')') && !self.take(',') {
                let what = if self.rest().is_empty() {
                    "expected ) at the end"
                } else {
                    "expected , or ); put a value with special characters in quotes"
                };
                return Err(Wrong::new(self.at, what));
            }
        }
    }

    fn value(&mut self) -> Result<Value, Wrong> {
        self.skip_space();
        let at = self.at;
        if let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
            self.at += 1;
            let mut text = String::new();
            let mut characters = self.rest().char_indices();
            while let Some((offset, char)) = characters.next() {
                match char {
                    _ if char == quote => {
                        self.at += offset + 1;
                        return Ok(Value { at, text, is_quoted: true });
                    }
                    // As in Starlark, only these two are needed; others, which a path may have as
                    // its own escapes, stay as they are.
                    '\\' => match characters.next() {
                        Some((_, it)) if it == quote || it == '\\' => text.push(it),
                        Some((_, it)) => text.extend(['\\', it]),
                        None => break,
                    },
                    _ => text.push(char),
                }
            }
            return Err(Wrong::new(at, "this quote is never closed"));
        }
        let text = self.take_while(|it| !it.is_whitespace() && !",()=\"'".contains(it));
        if text.is_empty() {
            return Err(Wrong::new(at, "expected a value"));
        }
        Ok(Value { at, text: text.to_owned(), is_quoted: false })
    }
}

fn valid_arguments(action: &str, own: Option<&str>) -> String {
    let options = OPTIONS.iter().copied().filter(|_| action != "allow");
    let names: Vec<_> = own.into_iter().chain(options).collect();
    if names.is_empty() {
        format!("{action}() takes no arguments")
    } else {
        format!("{action}() takes {}", names.join(", "))
    }
}

fn unknown_argument(action: &str, name: &str, own: Option<&str>) -> String {
    if matches!(name, "direction" | "to") {
        return format!(
            "{name}= needs the services of a spec: here connect means the program's own connects, \
             to anyone"
        );
    }
    let valid = valid_arguments(action, own);
    let near = did_you_mean(name, OPTIONS.iter().copied().chain(own));
    format!("unknown argument {}{near}; {valid}", quoted(name))
}

fn errno(value: &Value) -> Result<Errno, Wrong> {
    Errno::from_name(&value.text).ok_or_else(|| {
        let near = did_you_mean(&value.text, Errno::names());
        Wrong::new(value.at, format!("unknown errno {}{near}", value.shown()))
    })
}

fn duration(value: &Value) -> Result<std::time::Duration, Wrong> {
    parse_duration(&value.text).ok_or_else(|| {
        let what = format!("bad duration {}; use e.g. 500ms or 2s", value.shown());
        Wrong::new(value.at, what)
    })
}

fn result(value: &Value) -> Result<i64, Wrong> {
    value.text.parse().ok().filter(|it: &i64| *it >= 0 && !value.is_quoted).ok_or_else(|| {
        let what = format!(
            "value must be a whole number from 0, got {}; to make a call fail use deny(), as in \
             deny(EIO)",
            value.shown()
        );
        Wrong::new(value.at, what)
    })
}

fn signal(value: &Value) -> Result<Signal, Wrong> {
    deadly_signal(&value.text).map_err(|why| Wrong::new(value.at, why))
}

fn count(name: &str, value: &Value) -> Result<NonZeroU64, Wrong> {
    value.text.parse().map_err(|_| {
        let what = format!("{name}= must be a whole number from 1, got {}", value.shown());
        Wrong::new(value.at, what)
    })
}

/// `"30%"`, a fraction from 0.0 to 1.0, or a whole number of percent, as in a spec.
fn probability(value: &Value) -> Result<Probability, Wrong> {
    let text = &*value.text;
    let number = |divisor: f64| {
        let number: f64 = text.parse().ok()?;
        Probability::from_fraction(number / divisor).filter(|_| !value.is_quoted)
    };
    let found = match text {
        _ if text.ends_with('%') => text.parse().ok(),
        _ if text.contains('.') => number(1.0),
        _ => number(100.0),
    };
    found.ok_or_else(|| {
        let what = format!(
            "bad probability {}; use 30%, a fraction from 0.0 to 1.0, or a whole number from 0 to \
             100",
            value.shown()
        );
        Wrong::new(value.at, what)
    })
}
