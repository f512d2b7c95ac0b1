//! `cargo xtask setup`: installs what the other commands need and this machine lacks, and says what and why.
//!
//! Everything comes from Debian's packages or crates.io. What is there already is passed over in silence, so every
//! command can call this first.

mod apt;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::apt::mirror;
use crate::{
    ebpf::{LINKER_RELEASE, Toolchain},
    elf,
    project::Project,
    run,
};

/// QEMU before this release crashes guests while programs are attached under load.
const QEMU_RELEASE: u32 = 10;

/// A package, and what it is needed for.
pub(crate) struct Package {
    name: &'static str,
    why: &'static str,
}

const EBPF_PACKAGES: [Package; 3] = [
    Package {
        name: "rustc-web",
        why: "a stable Rust compiler with the BPF target, and the LLVM that bpf-linker shares with it",
    },
    Package { name: "cargo-web", why: "the cargo that belongs to that compiler" },
    Package {
        name: "rust-web-src",
        why: "the source of `core`, which is compiled for the BPF target",
    },
];

const KERNEL_PACKAGES: [Package; 8] = [
    Package { name: "build-essential", why: "compiling the kernel" },
    Package { name: "flex", why: "the kernel's configuration" },
    Package { name: "bison", why: "the kernel's configuration" },
    Package { name: "bc", why: "the kernel's build" },
    Package { name: "libelf-dev", why: "objtool, which the kernel's build runs" },
    Package { name: "libssl-dev", why: "the kernel's build tools" },
    Package { name: "dwarves", why: "pahole, which makes the kernel's BTF" },
    Package { name: "xz-utils", why: "unpacking the kernel's source" },
];

const STRACE: Package =
    Package { name: "strace", why: "the yardstick that `cargo xtask bench syscall` measures, too" };
const SERVER_PACKAGES: [Package; 6] = [
    Package { name: "postgresql-15", why: "specs/servers/postgres.star breaks it" },
    Package { name: "redis-server", why: "specs/servers/redis.star breaks it" },
    Package { name: "nginx", why: "specs/servers/nginx.star breaks it" },
    Package { name: "sqlite3", why: "specs/servers/sqlite.star breaks it" },
    Package { name: "golang-go", why: "compiles the program that specs/servers/go.star breaks" },
    Package { name: "python3", why: "runs the program that specs/servers/python.star breaks" },
];

/// The daemons that come with these packages; specs start servers of their own.
const DAEMONS: [&str; 3] = ["postgresql", "redis-server", "nginx"];

const BUSYBOX: Package = Package {
    name: "busybox-static",
    why: "the virtual machines' first process and their small tools",
};
const QEMU: Package = Package {
    name: "qemu-system-x86",
    why: "the virtual machines in which the in-kernel tests run",
};

/// Programs, and the packages that they come in. Who has Docker's own packages has the first as well.
const DOCKER: [(&str, Package); 3] = [
    ("dockerd", Package { name: "docker.io", why: "the engine whose containers the tests break" }),
    (
        "docker-compose",
        Package { name: "docker-compose", why: "a test breaks a container of a Compose project" },
    ),
    (
        "curl",
        Package {
            name: "curl",
            why: "virtual machines ask the engine with it: docker itself takes seconds there",
        },
    ),
];

#[derive(clap::Args, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// Only what `cargo xtask ebpf` needs.
    #[arg(long)]
    ebpf: bool,
    /// Only what `cargo xtask vm` needs.
    #[arg(long)]
    vm: bool,
    /// Only the servers that specs/servers breaks.
    #[arg(long)]
    servers: bool,
    /// Only Docker, and what `cargo xtask images` puts into images.
    #[arg(long)]
    docker: bool,
}

/// Installs for the commands that are named, or for all.
pub(crate) fn run(project: &Project, args: &Args) -> Result<()> {
    let all = !args.ebpf && !args.vm && !args.servers && !args.docker;
    if args.ebpf || all {
        ebpf(project)?;
    }
    if args.vm || all {
        vm()?;
    }
    if args.servers || all {
        servers()?;
    }
    if args.docker || all {
        docker()?;
        servers()?;
    }
    Ok(())
}

/// What the bench measures faultbox against.
pub(crate) fn strace() -> Result<()> {
    if run::installed("strace") { Ok(()) } else { apt::install(&[STRACE]) }
}

/// The servers that specs/servers breaks.
pub(crate) fn servers() -> Result<()> {
    apt::install_programs(&SERVER_PACKAGES, &DAEMONS)
}

/// Docker's engine with its clients, for this machine and for the virtual ones.
pub(crate) fn docker() -> Result<()> {
    for (program, package) in DOCKER {
        if !run::installed(program) {
            apt::install(&[package])?;
        }
    }
    Ok(())
}

/// What compiling the eBPF programs takes.
pub(crate) fn ebpf(project: &Project) -> Result<()> {
    let toolchain = Toolchain::from_env();
    if toolchain.is_debian() {
        apt::install(&EBPF_PACKAGES)?;
    }
    bpf_linker(project)
}

/// bpf-linker from crates.io, in tools/, linked against the libLLVM that Debian's rustc uses itself.
fn bpf_linker(project: &Project) -> Result<()> {
    let tools = project.tools();
    let linker = tools.join("bin/bpf-linker");
    let version = run::output(Command::new(&linker).arg("--version")).unwrap_or_default();
    if version.trim() == format!("bpf-linker {LINKER_RELEASE}") {
        return Ok(());
    }
    eprintln!(
        "setup: building bpf-linker {LINKER_RELEASE} in {} (about a minute): it links the eBPF programs",
        tools.display()
    );
    let library = lib_llvm()?;
    let folder = tools.join("llvm/lib");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let link = folder.join("libLLVM.so");
    if fs::read_link(&link).ok().as_deref() != Some(library.as_path()) {
        let _ = fs::remove_file(&link);
        symlink(&library, &link).with_context(|| format!("cannot create {}", link.display()))?;
    }
    run::check(
        run::cargo()
            .args(["install", "bpf-linker", "--version", LINKER_RELEASE, "--locked", "--force"])
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(&tools)
            .current_dir(project.root())
            .env("LLVM_PREFIX", tools.join("llvm"))
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR"),
    )
    .context("cannot build bpf-linker")
}

fn lib_llvm() -> Result<PathBuf> {
    let name = "libLLVM.so.22.1";
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    [multiarch.as_str(), "/usr/lib64", "/usr/lib"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.exists())
        .with_context(|| format!("{name} is not installed; in Debian it is in the package libllvm22, which rustc-web needs itself"))
}

/// What the virtual machines take.
pub(crate) fn vm() -> Result<()> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the virtual machines are x86-64 ones; run natively with --native-only"
    );
    if busybox().is_none() {
        apt::install(&[BUSYBOX])?;
        busybox().context(
            "busybox is installed, but it is not a static binary: install busybox-static",
        )?;
    }
    let found = qemu_release();
    if found.is_some_and(|release| release >= QEMU_RELEASE) {
        return Ok(());
    }
    if let Some(old) = found {
        eprintln!(
            "setup: QEMU {old} is too old: before {QEMU_RELEASE} it crashes guests while programs are attached"
        );
    }
    apt::install_at_least(&QEMU, QEMU_RELEASE)?;
    let now = qemu_release().context("qemu-system-x86_64 does not run after its installation")?;
    ensure!(now >= QEMU_RELEASE, "QEMU {now} was installed, but {QEMU_RELEASE} is needed");
    Ok(())
}

/// What compiling a kernel takes.
pub(crate) fn kernel_build() -> Result<()> {
    apt::install(&KERNEL_PACKAGES)
}

/// A busybox that needs no libraries: only such a one can be a guest's first process.
pub(crate) fn busybox() -> Option<PathBuf> {
    run::find("busybox").filter(|path| !elf::is_dynamic(path))
}

/// The major release of the QEMU that is installed.
fn qemu_release() -> Option<u32> {
    let text = run::output(Command::new("qemu-system-x86_64").arg("--version")).ok()?;
    major_release(&text)
}

/// 10 from `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)`.
fn major_release(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("version ")?;
    version.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_what_qemu_prints() {
        assert_eq!(
            major_release("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7)\nCopyright"),
            Some(7)
        );
        assert_eq!(major_release("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"), Some(10));
        assert_eq!(major_release("command not found"), None);
    }
}
