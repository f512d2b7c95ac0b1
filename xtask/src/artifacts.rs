//! What cargo has built, in its own words (`--message-format=json`, <https://doc.rust-lang.org/cargo/reference/external-tools.html>).

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run;

/// One executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    /// The folder of the package's Cargo.toml; cargo starts test binaries in it.
    pub(crate) package: PathBuf,
    /// The target's name: a binary's, or an integration test's.
    pub(crate) name: String,
    /// What it is made of.
    pub(crate) kind: Kind,
    /// Whether it runs tests, rather than being the program itself.
    pub(crate) test: bool,
    /// The file.
    pub(crate) executable: PathBuf,
}

/// The kinds of targets that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The library; as an executable, its unit tests.
    Library,
    /// A program.
    Binary,
    /// An integration test.
    Test,
    /// An example or a benchmark.
    Other,
}

/// Runs a cargo build, shows its diagnostics on stderr, and lists the executables that came out, rebuilt or not.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Artifact>> {
    command.arg("--message-format=json-render-diagnostics");
    let shown = run::display(command);
    eprintln!("+ {shown}");
    let output = command
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    anyhow::ensure!(output.status.success(), "`{shown}` failed ({})", output.status);
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(messages: &str) -> Result<Vec<Artifact>> {
    let mut artifacts = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value =
            serde_json::from_str(line).context("cargo printed a message that is not JSON")?;
        artifacts.extend(artifact(&message));
    }
    Ok(artifacts)
}

fn artifact(message: &Value) -> Option<Artifact> {
    let executable = message.get("executable")?.as_str()?.into();
    let target = message.get("target")?;
    let kinds: Vec<_> = target.get("kind")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let kind = match kinds.as_slice() {
        ["bin"] => Kind::Binary,
        ["test"] => Kind::Test,
        ["example" | "bench"] => Kind::Other,
        kinds if kinds.iter().any(|kind| kind.ends_with("lib")) => Kind::Library,
        _ => return None,
    };
    let manifest = PathBuf::from(message.get("manifest_path")?.as_str()?);
    Some(Artifact {
        package: manifest.parent()?.to_owned(),
        name: target.get("name")?.as_str()?.to_owned(),
        kind,
        test: message.pointer("/profile/test")?.as_bool()?,
        executable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_and_all_else_is_passed_over() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/w/faultbox/Cargo.toml","target":{"kind":["lib"],"name":"faultbox"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/w/faultbox/Cargo.toml","target":{"kind":["lib"],"name":"faultbox"},"profile":{"test":true},"executable":"/w/target/debug/deps/faultbox-1"}
warning: something that is no message
{"reason":"compiler-artifact","manifest_path":"/w/faultbox/Cargo.toml","target":{"kind":["test"],"name":"it"},"profile":{"test":true},"executable":"/w/target/debug/deps/it-2"}
{"reason":"compiler-artifact","manifest_path":"/w/specs/Cargo.toml","target":{"kind":["bin"],"name":"mock-db"},"profile":{"test":false},"executable":"/w/target/debug/mock-db"}
{"reason":"compiler-artifact","manifest_path":"/w/x/Cargo.toml","target":{"kind":["custom-build"],"name":"build-script-build"},"profile":{"test":false},"executable":"/w/target/b"}
{"reason":"build-finished","success":true}"#;
        let found = parse(messages).unwrap();
        let summary: Vec<_> = found.iter().map(|a| (a.name.as_str(), a.kind, a.test)).collect();
        assert_eq!(
            summary,
            [
                ("faultbox", Kind::Library, true),
                ("it", Kind::Test, true),
                ("mock-db", Kind::Binary, false)
            ]
        );
        assert_eq!(found[2].package, PathBuf::from("/w/specs"));
    }
}
