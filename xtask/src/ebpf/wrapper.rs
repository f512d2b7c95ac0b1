//! Stands between cargo and rustc while the eBPF programs are compiled, and gives each crate a hash of our own.
//!
//! Cargo hashes a path dependency's absolute path, and the compiler's flags, into `-C metadata`; from there it gets
//! into mangled names and with them into the order of functions. With name and version in its place, the object no
//! longer depends on where the checkout lies.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

/// Set for the nested cargo: whoever finds it in the environment is a compiler's wrapper.
pub(super) const VARIABLE: &str = "FAULTBOX_XTASK_RUSTC_WRAPPER";

/// Acts as the wrapper if cargo started us as such; returns only if it did not, or if rustc cannot be started.
pub(crate) fn requested() -> Option<ExitCode> {
    env::var_os(VARIABLE)?;
    let mut args = env::args_os().skip(1);
    let rustc = args.next()?;
    let version = env::var_os("CARGO_PKG_VERSION").unwrap_or_default();
    let args = with_own_metadata(args.collect(), &version);
    let error = Command::new(&rustc).args(args).env_remove(VARIABLE).exec();
    eprintln!("error: cannot start {}: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

fn with_own_metadata(mut args: Vec<OsString>, version: &OsStr) -> Vec<OsString> {
    let name =
        args.iter().position(|arg| arg == "--crate-name").and_then(|at| args.get(at + 1)).cloned();
    let Some(name) = name else { return args };
    for arg in &mut args {
        if arg.as_encoded_bytes().starts_with(b"metadata=") {
            *arg = "metadata=".into();
            arg.push(&name);
            arg.push("-");
            arg.push(version);
        }
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(args: &[&str]) -> Vec<OsString> {
        with_own_metadata(args.iter().map(OsString::from).collect(), OsStr::new("0.2.1"))
    }

    #[test]
    fn metadata_becomes_name_and_version() {
        let args = rewritten(&[
            "--crate-name",
            "aya_ebpf",
            "-C",
            "metadata=0123",
            "-C",
            "extra-filename=-0123",
        ]);
        assert_eq!(
            args,
            [
                "--crate-name",
                "aya_ebpf",
                "-C",
                "metadata=aya_ebpf-0.2.1",
                "-C",
                "extra-filename=-0123"
            ]
        );
    }

    #[test]
    fn a_question_about_the_compiler_passes_unchanged() {
        assert_eq!(rewritten(&["-vV"]), ["-vV"]);
    }
}
