//! Starting other programs: every one is named on stderr before it runs and in the error when it fails.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The command line as a user would type it: without the environment and without cargo's folder.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = match program.file_name() {
        Some(name)
            if name == "cargo" && program.starts_with(env!("CARGO").trim_end_matches("cargo")) =>
        {
            name
        }
        _ => program.as_os_str(),
    };
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// One word, quoted for a shell where it needs to be.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs the command to its end with our own stdin, stdout and stderr; fails unless it exits with 0.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let shown = display(command);
    eprintln!("+ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// What the command prints on stdout; its stderr is only shown when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = display(command);
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{shown}` printed something that is not UTF-8"))
}

/// Runs the command with its stdout passed on line by line; `seen` gets each line as well.
///
/// Returns whether the command exited with 0.
pub(crate) fn stream(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<bool> {
    let shown = display(command);
    eprintln!("+ {shown}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let stdout = child.stdout.take().context("the child has no stdout")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("cannot read the output of `{shown}`"))?;
        let text = String::from_utf8_lossy(&line);
        print_line(&text);
        seen(&text);
    }
    Ok(child.wait()?.success())
}

/// Prints a line; a reader of our stdout that went away is no reason to stop.
pub(crate) fn print_line(line: &str) {
    print(format!("{line}\n").as_bytes());
}

/// Prints bytes as they are, at once.
pub(crate) fn print(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// Whether `program` can be found in PATH or in the folders for administrators.
pub(crate) fn installed(program: impl AsRef<Path>) -> bool {
    find(program).is_some()
}

/// Where `program` lies: PATH first, then the folders for administrators.
pub(crate) fn find(program: impl AsRef<Path>) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into))
        .map(|folder| folder.join(program.as_ref()))
        .find(|file| file.is_file())
}

/// Cargo as it runs us, for builds of the workspace; what it set for us alone is taken away again.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if is_of_our_own_run(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// Variables that `cargo run` sets to describe xtask: passed on, they would make build scripts rerun for nothing.
fn is_of_our_own_run(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_BIN_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quote("--release"), "--release");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn output_of_a_failing_command_names_it_and_its_stderr() {
        let error = output(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c") && error.contains("broken") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn lines_are_seen_and_the_status_is_kept() {
        let mut lines = Vec::new();
        let ok = stream(Command::new("sh").args(["-c", "echo one; echo two; exit 1"]), |l| {
            lines.push(l.to_owned());
        });
        assert!(!ok.unwrap());
        assert_eq!(lines, ["one", "two"]);
    }
}
