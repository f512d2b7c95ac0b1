//! The files of the servers that specs/servers breaks, for guests that do not see this machine's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::run;

/// Where the package postgresql-15 lies.
const POSTGRES: &str = "/usr/lib/postgresql/15";

/// The programs that the launchers of specs/servers start, and what `initdb` reads. Not all of the database's
/// libraries: the one that compiles queries brings LLVM with it, and a server without it does without.
const FILES: [&str; 12] = [
    "bin/initdb",
    "bin/postgres",
    "lib/dict_snowball.so",
    "lib/plpgsql.so",
    "/usr/share/postgresql/15",
    "/usr/share/zoneinfo/Etc",
    // busybox has no flock, and its setpriv cannot change users.
    "/usr/bin/setpriv",
    "/usr/bin/flock",
    "/usr/bin/redis-server",
    "/usr/bin/sqlite3",
    "/usr/sbin/nginx",
    PYTHON,
];
const PYTHON: &str = "/usr/bin/python3";

/// Prints the files, source and compiled, of every module that specs/servers/python-api.py needs, those that it loads
/// on demand included.
const MODULES: &str = "\
import http.server, json, os, socket, sys, threading, time, encodings.idna
for module in list(sys.modules.values()):
    for name in ('__file__', '__cached__'):
        file = getattr(module, name, None)
        if file and os.path.exists(file):
            print(file)
";

/// What a guest needs to run the specs of specs/servers, without the shared libraries, which are found by themselves.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = FILES.iter().map(|file| Path::new(POSTGRES).join(file)).collect();
    for file in &files {
        ensure!(
            file.exists(),
            "{} is not installed; `cargo xtask setup --servers` installs it",
            file.display()
        );
    }
    let modules = run::output(Command::new(PYTHON).args(["-I", "-c", MODULES]))
        .context("cannot find out which modules Python needs")?;
    files.extend(modules.lines().map(PathBuf::from));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_names_the_modules_that_a_server_needs() {
        let files = files().unwrap();
        for name in ["http/server.py", "os.py", "idna.py"] {
            assert!(files.iter().any(|file| file.ends_with(name)), "{name}: {files:?}");
        }
        assert!(files.iter().all(|file| file.exists()), "{files:?}");
    }
}
