//! `cargo xtask ebpf`: compiles the eBPF programs, or checks that the committed object is what their source gives.
//!
//! The object must come out the same, byte for byte, wherever the checkout, cargo's home and the target folder lie:
//! otherwise the check could not tell a forgotten rebuild from another machine. So the nested compiler gets a clean
//! environment, paths are mapped to fixed ones, and the crate hashes are ours (see [`wrapper`]).

pub(crate) mod wrapper;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{elf, project::Project, run, setup};

/// The compiler that made the committed object; another release may well make another one.
pub(crate) const RUSTC_RELEASE: &str = "1.96.0";
/// The linker that made the committed object.
pub(crate) const LINKER_RELEASE: &str = "0.13.0";

const TARGET: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build aside and compare with the committed object instead of replacing it.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Builds the object and stores it, or compares it with the one that is committed.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    setup::ebpf(project)?;
    let toolchain = Toolchain::from_env();
    let built = build(project, &toolchain)?;
    let object = project.ebpf_crate().join("faultbox.bpf.o");
    if args.check {
        return compare(&object, &built, &toolchain);
    }
    if fs::read(&object).is_ok_and(|old| old == built) {
        eprintln!("{} is up to date ({} bytes)", object.display(), built.len());
        return Ok(());
    }
    replace(&object, &built)?;
    eprintln!("wrote {} ({} bytes, sha256 {})", object.display(), built.len(), sha256(&built)?);
    Ok(())
}

/// Where rustc and cargo with the BPF target are: `/usr`, Debian's, unless `FAULTBOX_EBPF_TOOLCHAIN` names another prefix.
pub(crate) struct Toolchain {
    prefix: PathBuf,
}

impl Toolchain {
    pub(crate) fn from_env() -> Self {
        Self {
            prefix: env::var_os("FAULTBOX_EBPF_TOOLCHAIN")
                .map_or_else(|| "/usr".into(), PathBuf::from),
        }
    }

    /// Whether it is the one that `cargo xtask setup` installs.
    pub(crate) fn is_debian(&self) -> bool {
        self.prefix == Path::new("/usr")
    }

    fn rustc(&self) -> PathBuf {
        self.prefix.join("bin/rustc")
    }

    /// Such as `rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)`.
    fn version(&self) -> Result<String> {
        Ok(run::output(Command::new(self.rustc()).arg("-V").env_remove("RUSTUP_TOOLCHAIN"))?
            .trim()
            .to_owned())
    }

    /// The folders that the standard library's sources are compiled from: the link's name and where it leads.
    fn sources(&self) -> Result<Vec<PathBuf>> {
        let sysroot = run::output(
            Command::new(self.rustc()).args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN"),
        )?;
        let named = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        let real = fs::canonicalize(&named).with_context(|| {
            format!("{} is missing: install the sources of the standard library (rust-web-src, rust-src)", named.display())
        })?;
        Ok(vec![named, real])
    }
}

/// Compiles the programs; returns the object without DWARF.
fn build(project: &Project, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let folder = project.ebpf_crate();
    ensure!(
        folder.join("Cargo.lock").is_file(),
        "{} is missing: the object is built with --locked",
        folder.join("Cargo.lock").display()
    );
    let target = project.scratch().join("ebpf");
    let home = cargo_home()?;
    let mut command = Command::new(toolchain.prefix.join("bin/cargo"));
    command
        .args(["build", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core"])
        .current_dir(&folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", env::var_os("HOME").unwrap_or_else(|| "/".into()))
        .env("CARGO_HOME", &home)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(project, toolchain, &home)?)
        .env("RUSTC", toolchain.rustc())
        // A stable compiler refuses -Z; the release is pinned, so what may change there cannot change under us.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC_WRAPPER", env::current_exe().context("cannot find this binary")?)
        .env(wrapper::VARIABLE, "1");
    for name in [
        "CARGO_TERM_COLOR",
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "SSL_CERT_FILE",
        "CARGO_HTTP_CAINFO",
        "CARGO_NET_OFFLINE",
    ] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    run::check(&mut command).context("cannot compile the eBPF programs")?;
    let object = target.join(TARGET).join("release/faultbox-ebpf");
    let data = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    elf::without_debug_info(&data).with_context(|| format!("cannot strip {}", object.display()))
}

fn cargo_home() -> Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}

/// The compiler's flags, with \x1f between them, as `CARGO_ENCODED_RUSTFLAGS` wants them.
fn rustflags(project: &Project, toolchain: &Toolchain, home: &Path) -> Result<OsString> {
    let mut flags: Vec<OsString> = vec![
        // aya-ebpf chooses the layout of pt_regs by it.
        r#"--cfg=bpf_target_arch="x86_64""#.into(),
        // BTF is made from the debug information.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        prefixed("-Clinker=", &project.tools().join("bin/bpf-linker")),
    ];
    // The last mapping that fits wins. The project's own paths become relative to the crate's folder, in which the
    // linker runs: so it still finds the source lines that the verifier's log quotes.
    flags.push(remap(home, "/cargo"));
    for sources in toolchain.sources()? {
        flags.push(remap(&sources, "/rust"));
    }
    flags.push(remap(&project.scratch(), "/target"));
    flags.push(remap(project.root(), ".."));
    flags.push(remap(&project.ebpf_crate(), "."));
    Ok(flags.join("\x1f".as_ref()))
}

fn prefixed(flag: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(flag);
    flag.push(path);
    flag
}

fn remap(from: &Path, to: &str) -> OsString {
    let mut flag = prefixed("--remap-path-prefix=", from);
    flag.push("=");
    flag.push(to);
    flag
}

fn compare(object: &Path, built: &[u8], toolchain: &Toolchain) -> Result<()> {
    let committed = fs::read(object).with_context(|| {
        format!("cannot read {}: `cargo xtask ebpf` makes it", object.display())
    })?;
    if committed == built {
        eprintln!(
            "{} is what its source gives ({} bytes, sha256 {})",
            object.display(),
            built.len(),
            sha256(built)?
        );
        return Ok(());
    }
    let version = toolchain.version()?;
    let hint = if version.starts_with(&format!("rustc {RUSTC_RELEASE} ")) {
        "run `cargo xtask ebpf` and commit the object with the change of its source".to_owned()
    } else {
        format!(
            "this compiler is {version}, the committed object comes from {RUSTC_RELEASE}: check with that one, or rebuild with `cargo xtask ebpf` and raise RUSTC_RELEASE in xtask/src/ebpf.rs"
        )
    };
    bail!(
        "{} is not what its source gives\n  committed: {} bytes, sha256 {}\n  built:     {} bytes, sha256 {}\n{hint}",
        object.display(),
        committed.len(),
        sha256(&committed)?,
        built.len(),
        sha256(built)?,
    )
}

/// Replaces the file in one step, so that a build of faultbox beside us embeds the old or the new one.
fn replace(object: &Path, data: &[u8]) -> Result<()> {
    let aside = object.with_extension("o.new");
    fs::write(&aside, data).with_context(|| format!("cannot write {}", aside.display()))?;
    fs::rename(&aside, object).with_context(|| format!("cannot replace {}", object.display()))
}

fn sha256(data: &[u8]) -> Result<String> {
    use std::{io::Write as _, process::Stdio};
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sha256sum (package coreutils)")?;
    child.stdin.take().context("sha256sum has no stdin")?.write_all(data)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().unwrap_or("unknown").to_owned())
}
