//! Names of services and of the variables that hold them.

use std::collections::HashSet;

/// Words of the language and builtins that a new spec uses: no name for a variable.
const RESERVED: &[&str] = &[
    "and",
    "as",
    "assert",
    "assert_eq",
    "assert_true",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "delay",
    "deny",
    "elif",
    "else",
    "except",
    "fail",
    "fault",
    "finally",
    "for",
    "from",
    "global",
    "http",
    "if",
    "import",
    "in",
    "interface",
    "is",
    "lambda",
    "load",
    "nonlocal",
    "not",
    "op",
    "or",
    "pass",
    "print",
    "raise",
    "return",
    "service",
    "struct",
    "tcp",
    "test_happy_path",
    "try",
    "while",
    "with",
    "yield",
    "True",
    "False",
    "None",
];

/// As many characters may the name of a service have.
const LONGEST: usize = 63;

/// A text as the name of a service: what is no letter, digit, `_` or `-` becomes `_`.
pub(crate) fn service_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut name: String =
        text.chars().map(|c| if allowed(c) { c } else { '_' }).take(LONGEST - 1).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}

/// A variable for a service of this name. Neither reserved, nor private to its file, nor taken.
pub(super) fn variable(service: &str, taken: &mut HashSet<String>) -> String {
    let mut name = service.replace('-', "_");
    if name.starts_with('_') || name.starts_with("test_") || RESERVED.contains(&&*name) {
        name = format!("svc_{}", name.trim_start_matches('_'));
    }
    unused(&name, taken)
}

/// Takes this name or, when it is taken, the first of `name_2`, `name_3`, … that is not.
pub(super) fn unused(name: &str, taken: &mut HashSet<String>) -> String {
    let mut free = name.to_owned();
    let mut number = 2;
    while !taken.insert(free.clone()) {
        free = format!("{name}_{number}");
        number += 1;
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_name_and_any_name_a_variable() {
        assert_eq!(service_name("my.app v2"), "my_app_v2");
        assert_eq!(service_name("2fa"), "_2fa");
        assert_eq!(service_name(""), "_");
        assert_eq!(service_name(&"x".repeat(100)).len(), 62);
        let mut taken = HashSet::new();
        assert_eq!(unused("a", &mut taken), "a");
        assert_eq!(unused("a", &mut taken), "a_2");
        for (name, expected) in [
            ("my-svc", "my_svc"),
            ("my_svc", "my_svc_2"),
            ("http", "svc_http"),
            ("_2fa", "svc_2fa"),
        ] {
            assert_eq!(variable(name, &mut taken), expected);
        }
    }
}
