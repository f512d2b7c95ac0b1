//! A first spec for one program.

use std::{collections::HashSet, fmt::Write};

use crate::generate::literal;

use super::naming::variable;

/// What the spec is for.
#[derive(Clone, Debug)]
pub(crate) struct Starter<'a> {
    /// The name of the service.
    pub(crate) name: &'a str,
    /// The program.
    pub(crate) binary: &'a str,
    /// Where it listens.
    pub(crate) port: u16,
    /// Whether it speaks HTTP, and not lines over TCP.
    pub(crate) is_http: bool,
    /// What the spec is going to be called.
    pub(crate) file: &'a str,
}

/// The text of the spec.
pub(crate) fn starter_spec(starter: &Starter<'_>) -> String {
    let Starter { name, binary, port, is_http, file } = starter;
    let variable = variable(name, &mut HashSet::new());
    let (protocol, healthcheck, test, first) = if *is_http {
        (
            "http",
            format!("http(\"localhost:{port}/health\")"),
            "health_check",
            "get(path = \"/health\")",
        )
    } else {
        ("tcp", format!("tcp(\"localhost:{port}\")"), "ping", "send(data = \"PING\")")
    };
    let assertion =
        if *is_http { "assert_eq(resp.status, 200)" } else { "assert_eq(resp, \"PONG\")" };
    let faulted = if *is_http {
        "assert_true(resp.status >= 500, \"the error is reported\")"
    } else {
        "assert_true(resp.startswith(\"ERR\"), \"the error is reported\")"
    };
    let (name, binary) = (literal(name), literal(binary));
    // A path in a comment must not end it.
    let file = file.escape_debug();
    let mut spec = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        spec,
        "# Run all tests, one of them, and with every call that was recorded:
#   faultbox test {file}
#   faultbox test {file} --test {test}
#   faultbox test {file} --debug

{variable} = service({name}, {binary},
    interface(\"main\", \"{protocol}\", {port}),
    env = {{\"PORT\": \"{port}\"}},
    healthcheck = {healthcheck},
)

def test_{test}():
    \"\"\"The service answers.\"\"\"
    resp = {variable}.{first}
    {assertion}

# What does it do when its disk is full? Say what you expect, and remove the comment signs.
#
# def test_disk_full():
#     def scenario():
#         resp = {variable}.{first}
#         {faulted}
#     fault({variable}, write = deny(\"ENOSPC\", label = \"disk full\"), run = scenario)
"
    );
    spec
}
