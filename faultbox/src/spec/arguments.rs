//! The arguments of one call of a builtin, taken one by one, with errors that name the builtin.

use starlark::{
    eval::Arguments,
    values::{
        Heap, Value, ValueLike, dict::DictRef, function::FUNCTION_TYPE, list::ListRef,
        tuple::TupleRef,
    },
};

use super::{failure::Raised, suggest::quoted};

/// The arguments of a call that nobody has taken yet.
pub(super) struct Call<'v> {
    who: String,
    positional: Vec<Value<'v>>,
    named: Vec<(&'v str, Value<'v>)>,
}

impl<'v> Call<'v> {
    /// `who` begins every error: `deny()`.
    pub(super) fn new(
        who: &str,
        arguments: &Arguments<'v, '_>,
        heap: Heap<'v>,
    ) -> starlark::Result<Self> {
        let named = arguments.names_map()?;
        Ok(Self {
            who: who.to_owned(),
            positional: arguments.positions(heap)?.collect(),
            named: named.iter().map(|(name, value)| (name.as_str(), *value)).collect(),
        })
    }

    /// How errors name the call.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    /// Names the call better, now that more is known.
    pub(super) fn rename(&mut self, who: String) {
        self.who = who;
    }

    /// A mistake in this call.
    pub(super) fn wrong(&self, text: impl std::fmt::Display) -> Raised {
        Raised::error(format!("{}: {text}", self.who))
    }

    /// A value of a wrong type.
    pub(super) fn wrong_type(&self, what: &str, wanted: &str, got: Value<'v>) -> Raised {
        self.wrong(format_args!("{what} must be {wanted}, got {}", got.get_type()))
    }

    /// Whether a keyword argument was given and not taken yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named.iter().any(|(it, value)| *it == name && !value.is_none())
    }

    /// Takes a keyword argument.
    pub(super) fn named(&mut self, name: &str) -> Option<Value<'v>> {
        let at = self.named.iter().position(|(it, _)| *it == name)?;
        Some(self.named.remove(at).1)
    }

    /// Takes a keyword argument unless it is `None`, which means the default.
    pub(super) fn optional(&mut self, name: &str) -> Option<Value<'v>> {
        self.named(name).filter(|value| !value.is_none())
    }

    /// Takes the next positional argument, or the keyword argument of that name.
    pub(super) fn next(&mut self, name: &str) -> Result<Option<Value<'v>>, Raised> {
        let named = self.named(name);
        if self.positional.is_empty() {
            return Ok(named);
        }
        if named.is_some() {
            return Err(self.wrong(format_args!("{name} is given twice")));
        }
        Ok(Some(self.positional.remove(0)))
    }

    /// Takes all positional arguments that are left.
    pub(super) fn rest(&mut self) -> Vec<Value<'v>> {
        std::mem::take(&mut self.positional)
    }

    /// Takes all keyword arguments that are left, in the order written.
    pub(super) fn rest_named(&mut self) -> Vec<(&'v str, Value<'v>)> {
        std::mem::take(&mut self.named)
    }

    /// Takes a keyword argument that is a string.
    pub(super) fn string(&mut self, name: &str) -> Result<Option<&'v str>, Raised> {
        self.optional(name).map(|value| self.as_string(&format!("{name}="), value)).transpose()
    }

    /// Takes a keyword argument that is a bool.
    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Raised> {
        let Some(value) = self.optional(name) else {
            return Ok(None);
        };
        let bool = value.unpack_bool();
        bool.map(Some).ok_or_else(|| self.wrong_type(&format!("{name}="), "a bool", value))
    }

    /// Takes a keyword argument that is an int and at least `least`.
    pub(super) fn count(&mut self, name: &str, least: u64) -> Result<Option<u64>, Raised> {
        let Some(value) = self.optional(name) else {
            return Ok(None);
        };
        let count = self.as_int(&format!("{name}="), value)?;
        let count = count.and_then(|it| u64::try_from(it).ok()).filter(|it| *it >= least);
        count.map(Some).ok_or_else(|| {
            let got = short_repr(value);
            self.wrong(format_args!("{name}= must be an int of at least {least}, got {got}"))
        })
    }

    /// The value as an int; `None` when it is one that does not fit. A bool is not an int here.
    pub(super) fn as_int(&self, what: &str, value: Value<'v>) -> Result<Option<i64>, Raised> {
        if value.get_type() != "int" {
            return Err(self.wrong_type(what, "an int", value));
        }
        Ok(value.to_repr().parse().ok())
    }

    /// The value as a string.
    pub(super) fn as_string(&self, what: &str, value: Value<'v>) -> Result<&'v str, Raised> {
        value.unpack_str().ok_or_else(|| self.wrong_type(what, "a string", value))
    }

    /// The elements of a list or tuple.
    pub(super) fn as_list(&self, what: &str, value: Value<'v>) -> Result<Vec<Value<'v>>, Raised> {
        if let Some(list) = ListRef::from_value(value) {
            return Ok(list.iter().collect());
        }
        if let Some(tuple) = TupleRef::from_value(value) {
            return Ok(tuple.content().to_vec());
        }
        Err(self.wrong_type(what, "a list", value))
    }

    /// The entries of a dict whose keys are strings, in the order written.
    pub(super) fn as_dict(
        &self,
        what: &str,
        value: Value<'v>,
    ) -> Result<Vec<(&'v str, Value<'v>)>, Raised> {
        let Some(dict) = DictRef::from_value(value) else {
            return Err(self.wrong_type(what, "a dict", value));
        };
        let mut entries = Vec::new();
        for (key, value) in dict.iter() {
            entries.push((self.as_string(&format!("a key of {what}"), key)?, value));
        }
        Ok(entries)
    }

    /// The entries of a dict from strings to strings, in the order written.
    pub(super) fn as_string_dict(
        &self,
        what: &str,
        value: Value<'v>,
    ) -> Result<Vec<(String, String)>, Raised> {
        let mut entries = Vec::new();
        for (key, value) in self.as_dict(what, value)? {
            let text =
                self.as_string(&format!("{}[{}]", what.trim_end_matches('='), quoted(key)), value)?;
            entries.push((key.to_owned(), text.to_owned()));
        }
        Ok(entries)
    }

    /// Refuses what cannot be called with so many positional arguments.
    pub(super) fn check_callable(
        &self,
        what: &str,
        value: Value<'v>,
        arguments: usize,
    ) -> Result<(), Raised> {
        let parameters = match arguments {
            0 => "no parameters".to_owned(),
            1 => "one parameter".to_owned(),
            n => format!("{n} parameters"),
        };
        if value.get_type() != FUNCTION_TYPE {
            return Err(self.wrong_type(what, &format!("a function with {parameters}"), value));
        }
        if value.parameters_spec().is_some_and(|it| !it.can_fill_with_args(arguments, &[])) {
            let name = value.function_name().unwrap_or("the given one");
            return Err(
                self.wrong(format_args!("{what} must be a function with {parameters}, not {name}"))
            );
        }
        Ok(())
    }

    /// Refuses what nobody took.
    pub(super) fn finish(&self, valid: &[&str]) -> Result<(), Raised> {
        if let Some((name, _)) = self.named.first() {
            let name = quoted(name);
            return Err(match valid {
                [] => self.wrong(format_args!("unknown keyword {name}; it takes no arguments")),
                _ => {
                    self.wrong(format_args!("unknown keyword {name}; valid: {}", valid.join(", ")))
                }
            });
        }
        if let Some(value) = self.positional.first() {
            let kind = value.to_value().get_type();
            return Err(self.wrong(format_args!("one positional argument too many ({kind})")));
        }
        Ok(())
    }
}

/// A value as a spec would write it, unless that is too long to be worth reading.
pub(super) fn short_repr(value: Value<'_>) -> String {
    let repr = value.to_repr();
    if repr.len() > 60 { "that".to_owned() } else { repr }
}
