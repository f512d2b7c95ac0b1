//! Why a program could not be executed, in the user's words.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// The text of `strerror(3)`, without Rust's `(os error 2)`; an error of our own as it is.
pub(super) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// One line about an `execve(2)` that failed.
pub(super) fn cannot_execute(program: &Path, error: &io::Error) -> String {
    let reason = match error.raw_os_error() {
        Some(libc::ENOEXEC) => match foreign_machine(program) {
            Some(machine) => format!(
                "exec format error (binary is {machine}, host is {})",
                std::env::consts::ARCH
            ),
            None => "exec format error".to_owned(),
        },
        // The file is there, so it is its interpreter that is not.
        Some(libc::ENOENT) if program.exists() => match interpreter(program) {
            Some(name) => format!("its interpreter {name} does not exist"),
            None => "its dynamic loader does not exist".to_owned(),
        },
        _ => os_text(error),
    };
    format!("cannot execute {}: {reason}", program.display())
}

/// The first bytes of a file, as many as there are up to the limit.
fn start_of(program: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    File::open(program).ok()?.take(256).read_to_end(&mut start).ok()?;
    Some(start)
}

/// The machine that an ELF file is for, if that is not this one: `e_machine` of `elf(5)`.
fn foreign_machine(program: &Path) -> Option<String> {
    let start = start_of(program)?;
    if !start.starts_with(b"\x7fELF") || start.len() < 20 {
        return None;
    }
    let bytes = [start[18], start[19]];
    let big_endian = start[5] == 2;
    let machine = if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let name = match machine {
        3 => "x86",
        8 => "mips",
        20 => "powerpc",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        other => return Some(format!("for machine {other}")),
    };
    (name != std::env::consts::ARCH).then(|| name.to_owned())
}

/// What the first line of a script names.
fn interpreter(program: &Path) -> Option<String> {
    let start = start_of(program)?;
    let line = start.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    line.split_whitespace().next().map(str::to_owned)
}
