//! The shared libraries that programs need at run time.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Every library that one of the programs loads, its loader included, under the names in which `ldd` finds them.
///
/// # Errors
/// If a library of a program is not installed.
pub(crate) fn libraries<'p>(
    programs: impl IntoIterator<Item = &'p Path>,
) -> Result<BTreeSet<PathBuf>> {
    let programs: Vec<_> = programs.into_iter().collect();
    if programs.is_empty() {
        return Ok(BTreeSet::new());
    }
    // ldd fails as soon as one of its arguments is a static program, which is none of our concern: no library, no line.
    let output = Command::new("ldd")
        .args(&programs)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("cannot start ldd (package libc-bin)")?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Reads lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse(text: &str) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with(char::is_whitespace)).map(str::trim) {
        let file = match line.split_once(" => ") {
            Some((name, "not found")) => bail!("the library {name} is not installed"),
            Some((_, file)) => file,
            None => line,
        };
        // The vDSO has a name and an address, but no path: the kernel brings it.
        if let Some((path, _address)) =
            file.split_once(" (0x").filter(|(path, _)| path.starts_with('/'))
        {
            found.insert(path.into());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_every_kind_of_line() {
        let text = "/usr/bin/bash:\n\tlinux-vdso.so.1 (0x00007ffd)\n\tlibtinfo.so.6 => /lib/x86_64-linux-gnu/libtinfo.so.6 (0x00007f)\n\
                    /usr/bin/busybox:\n\tnot a dynamic executable\n\tstatically linked\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libtinfo.so.6", "/lib64/ld-linux-x86-64.so.2"]
            .map(PathBuf::from);
        assert_eq!(parse(text).unwrap(), BTreeSet::from(expected));
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse("\tlibnowhere.so.1 => not found\n").unwrap_err().to_string();
        assert!(error.contains("libnowhere.so.1"), "{error}");
    }

    #[test]
    fn this_very_program_needs_libc_and_its_loader() {
        let found =
            libraries([Path::new("/proc/self/exe").canonicalize().unwrap().as_path()]).unwrap();
        assert!(found.iter().any(|f| f.ends_with("libc.so.6")), "{found:?}");
        assert!(found.iter().any(|f| f.to_string_lossy().contains("ld-linux")), "{found:?}");
        assert!(found.iter().all(|f| f.exists()), "{found:?}");
    }

    #[test]
    fn no_programs_need_no_libraries() {
        assert!(libraries([]).unwrap().is_empty());
    }
}
