//! Installing Debian packages, as root or through sudo.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::Package;
use crate::run;

/// Our own list of sources, written only where the distribution's QEMU is too old.
const BACKPORTS_LIST: &str = "/etc/apt/sources.list.d/faultbox-backports.list";

/// Installs those of the packages that are missing.
pub(crate) fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> = packages.iter().filter(|p| !is_installed(p.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("setup: installing {}: {}", package.name, package.why);
    }
    let names: Vec<_> = missing.iter().map(|p| p.name).collect();
    require_apt(&names)?;
    update()?;
    get(&names, None)
}

/// Installs the package from the distribution, or from its backports where the distribution's release is too old.
pub(crate) fn install_at_least(package: &Package, major: u32) -> Result<()> {
    eprintln!("setup: installing {} (release {major} or newer): {}", package.name, package.why);
    require_apt(&[package.name])?;
    update()?;
    if newest(package.name, None)? >= Some(major) {
        return get(&[package.name], None);
    }
    let codename = os_release("VERSION_CODENAME").context("/etc/os-release names no release")?;
    ensure!(
        os_release("ID").as_deref() == Some("debian"),
        "this distribution's {} is older than {major}, and only Debian's backports are known to us: install a newer one by hand",
        package.name
    );
    let suite = format!("{codename}-backports");
    if newest(package.name, Some(&suite))? < Some(major) {
        let mirror = mirror()?;
        eprintln!(
            "setup: adding {suite} of {mirror} in {BACKPORTS_LIST}: the distribution's {} is too old",
            package.name
        );
        write_as_root(Path::new(BACKPORTS_LIST), &format!("deb {mirror} {suite} main\n"))?;
        update()?;
    }
    get(&[package.name], Some(&suite))
}

/// Installs those of the packages that are missing, for their programs alone: no daemon of theirs is started, now or at
/// the next boot.
pub(crate) fn install_programs(packages: &[Package], daemons: &[&str]) -> Result<()> {
    let before: Vec<_> = daemons.iter().filter(|name| has_init_script(name)).collect();
    if packages.iter().all(|package| is_installed(package.name)) {
        return Ok(());
    }
    let held = HeldDaemons::hold()?;
    install(packages)?;
    drop(held);
    // What was here before us is in use, and stays as it is.
    for name in daemons.iter().filter(|name| !before.contains(name) && has_init_script(name)) {
        run::check(as_root("update-rc.d")?.args([name, "disable"]))
            .with_context(|| format!("cannot keep {name} from starting at boot"))?;
    }
    Ok(())
}

fn has_init_script(name: &str) -> bool {
    Path::new("/etc/init.d").join(name).exists()
}

/// While it lives, packages do not start their daemons when they are installed: `invoke-rc.d(8)` asks this file, and
/// 101 means that the action is forbidden.
struct HeldDaemons {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl HeldDaemons {
    fn hold() -> Result<Self> {
        // The machine has a policy of its own, such as a container's.
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        write_as_root(Path::new(POLICY), "#!/bin/sh\nexit 101\n")?;
        let held = Self { ours: true };
        run::check(as_root("chmod")?.args(["755", POLICY]))?;
        Ok(held)
    }
}

impl Drop for HeldDaemons {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) =
                as_root("rm").and_then(|mut command| run::check(command.args(["-f", POLICY])))
        {
            eprintln!(
                "error: {error:#}; remove {POLICY} by hand, or no package can start its daemon"
            );
        }
    }
}

/// Whether dpkg has the package installed.
fn is_installed(package: &str) -> bool {
    run::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn require_apt(packages: &[&str]) -> Result<()> {
    if run::installed("apt-get") {
        return Ok(());
    }
    bail!(
        "this machine has no apt-get: install the equivalent of these Debian packages by hand: {}",
        packages.join(" ")
    )
}

fn update() -> Result<()> {
    run::check(as_root("apt-get")?.args(["update", "-qq"]))
        .context("cannot refresh the package lists")
}

fn get(packages: &[&str], suite: Option<&str>) -> Result<()> {
    let mut command = as_root("apt-get")?;
    command.args(["install", "-y", "-qq", "--no-install-recommends"]);
    if let Some(suite) = suite {
        command.args(["-t", suite]);
    }
    // apt's progress belongs to the log, not to the results on stdout.
    command.args(packages).stdout(std::io::stderr()).stdin(Stdio::null());
    run::check(&mut command).with_context(|| format!("cannot install {}", packages.join(" ")))
}

/// The highest major release of the package among the suites that apt knows, or in one of them.
fn newest(package: &str, suite: Option<&str>) -> Result<Option<u32>> {
    let table = run::output(Command::new("apt-cache").args(["madison", package]))?;
    Ok(releases(&table, suite).max())
}

/// The major releases in a table of `apt-cache madison`: `package | version | mirror suite/component arch Packages`.
fn releases<'a>(table: &'a str, suite: Option<&'a str>) -> impl Iterator<Item = u32> + 'a {
    table.lines().filter_map(move |line| {
        let mut columns = line.split('|').map(str::trim).skip(1);
        let (version, source) = (columns.next()?, columns.next()?);
        let wanted = suite.is_none_or(|suite| source.split([' ', '/']).any(|word| word == suite));
        // Backports win only when they are asked for by name, so they do not count otherwise.
        let backport = source.contains("-backports");
        let version = version.split_once(':').map_or(version, |(_epoch, version)| version);
        (wanted && (suite.is_some() || !backport))
            .then(|| version.split('.').next()?.parse().ok())?
    })
}

/// The mirror that the machine is configured with.
pub(crate) fn mirror() -> Result<String> {
    let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find_map(|text| mirror_in(&text))
        .context("no Debian mirror is configured under /etc/apt")
}

/// The first mirror of the main archive in a one-line or deb822 list of sources.
fn mirror_in(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix("URIs:").or_else(|| line.strip_prefix("deb "))?;
        let uri = rest.split_whitespace().find(|word| word.contains("://"))?;
        let path = uri.trim_end_matches('/');
        path.ends_with("/debian").then(|| path.to_owned())
    })
}

/// A value of /etc/os-release.
fn os_release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

/// The command itself for root, with sudo before it for anyone else.
fn as_root(program: &str) -> Result<Command> {
    // SAFETY: geteuid has no arguments and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let mut command = if root {
        Command::new(program)
    } else {
        ensure!(
            run::installed("sudo"),
            "`{program}` needs root and there is no sudo: run `cargo xtask setup` once as root"
        );
        let mut command = Command::new("sudo");
        command.args(["--preserve-env=DEBIAN_FRONTEND", program]);
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

fn write_as_root(path: &Path, text: &str) -> Result<()> {
    let mut tee = as_root("tee")?;
    let mut child = tee
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start tee")?;
    child.stdin.take().context("tee has no stdin")?.write_all(text.as_bytes())?;
    ensure!(child.wait()?.success(), "cannot write {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = "\
qemu-system-x86 | 1:10.0.2+ds-2+deb13u1~bpo12+1 | http://deb.debian.org/debian bookworm-backports/main amd64 Packages
qemu-system-x86 | 1:7.2+dfsg-7+deb12u18 | http://deb.debian.org/debian bookworm/main amd64 Packages
";

    #[test]
    fn backports_count_only_when_asked_for() {
        assert_eq!(releases(MADISON, None).max(), Some(7));
        assert_eq!(releases(MADISON, Some("bookworm-backports")).max(), Some(10));
        assert_eq!(releases(MADISON, Some("trixie-backports")).max(), None);
    }

    #[test]
    fn the_mirror_is_found_in_both_formats() {
        let deb822 =
            "Types: deb\n# snapshot\nURIs: http://deb.debian.org/debian\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).as_deref(), Some("http://deb.debian.org/debian"));
        let line =
            "deb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian/ bookworm main\n";
        assert_eq!(mirror_in(line).as_deref(), Some("https://mirror.example/debian"));
        assert_eq!(
            mirror_in("deb http://deb.debian.org/debian-security bookworm-security main\n"),
            None
        );
    }
}
