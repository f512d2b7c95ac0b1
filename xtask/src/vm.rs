//! `cargo xtask vm`: runs a shell command as root in a QEMU machine, with the project at its usual path.
//!
//! Two kinds of guest. The 6.1 kernel mounts the host's own files, read-only, below a layer in memory. Stock kernels
//! have no driver for that, so what a guest may need is put into its initramfs. Output streams while the command runs;
//! writes stay in the guest.

mod cpio;
mod debian;
mod docker;
mod initramfs;
mod kernel;
mod kernel_build;
mod qemu;

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Seek as _},
    os::fd::FromRawFd as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result};

pub(crate) use self::{
    docker::{Cgroups, Docker},
    kernel::{Kernel, TESTED},
};
use crate::{images, project::Project, run, servers, setup, tree::Tree};

/// The exit status of `cargo xtask vm` when the guest itself failed, not the command in it.
pub(crate) const GUEST_FAILED: u8 = 125;
/// How many lines of a dead guest's console are shown.
const CONSOLE_LINES: usize = 60;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    kernel_build: Option<Sub>,
    /// 6.1 (with error injection), 6.12 or 7.2 (as Debian ships them), or the file of a kernel image.
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,
    /// The guest's memory, as QEMU takes it.
    #[arg(long, default_value = "3G")]
    memory: String,
    /// Kill the guest after so many seconds.
    #[arg(long, default_value_t = 240)]
    timeout: u64,
    /// One CPU whose clock counts instructions: exact, repeatable costs.
    #[arg(long)]
    icount: bool,
    /// More files and folders to take into the guest of a stock kernel, with the libraries they need.
    #[arg(long, num_args = 1..)]
    extra: Vec<PathBuf>,
    /// Take the servers of specs/servers into the guest of a stock kernel.
    #[arg(long)]
    servers: bool,
    /// Start a Docker Engine before the command, with everything in memory; kernel 6.1 only.
    #[arg(long)]
    docker: bool,
    /// Load these images of `cargo xtask images` into the engine, by their folders in specs/qa; or `all`.
    #[arg(long, num_args = 1.., requires = "docker")]
    image: Vec<String>,
    /// unified (version 2 alone), or hybrid (version 1, with version 2 beside it).
    #[arg(long, default_value_t)]
    cgroups: Cgroups,
    /// The command line for the guest's shell, words joined by spaces.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(clap::Subcommand)]
enum Sub {
    /// Builds the 6.1 kernel with error injection from Debian's source package.
    Kernel(kernel_build::Args),
}

/// Runs the command in a guest; the exit status is the command's, or 125 if the guest failed.
pub(crate) fn run(project: &Project, args: &Args) -> Result<ExitCode> {
    if let Some(Sub::Kernel(build)) = &args.kernel_build {
        kernel_build::run(project, build)?;
        return Ok(ExitCode::SUCCESS);
    }
    setup::vm()?;
    let mut extra = args.extra.clone();
    if args.servers {
        extra.extend(servers::files()?);
    }
    let images = match args.image.as_slice() {
        [] => Vec::new(),
        [all] if all == "all" => images::saved(project, &[])?,
        names => images::saved(project, names)?,
    };
    let docker = args.docker.then_some(Docker { images });
    let guest = Guest {
        kernel: args.kernel.clone(),
        memory: args.memory.clone(),
        timeout: Duration::from_secs(args.timeout),
        icount: args.icount,
        extra,
        cgroups: args.cgroups,
        docker,
    };
    match guest.run(project, &args.command.join(" "), |_| ())? {
        Outcome::Exited(status) => Ok(ExitCode::from(status)),
        Outcome::Died(why) => {
            eprintln!("error: {why}");
            Ok(ExitCode::from(GUEST_FAILED))
        }
    }
}

/// A virtual machine to run one command in.
pub(crate) struct Guest {
    pub(crate) kernel: Kernel,
    pub(crate) memory: String,
    pub(crate) timeout: Duration,
    pub(crate) icount: bool,
    /// What the guest needs besides the project's binaries and specs.
    pub(crate) extra: Vec<PathBuf>,
    pub(crate) cgroups: Cgroups,
    /// The engine to start before the command.
    pub(crate) docker: Option<Docker>,
}

/// How a guest's run ended.
pub(crate) enum Outcome {
    /// The command ended with this status.
    Exited(u8),
    /// The guest did not get that far; the text says why and shows the end of its console.
    Died(String),
}

impl Guest {
    /// Boots, runs the script with the guest's shell in the project's folder, passes its output on to stdout line by
    /// line, and turns the machine off. `seen` gets each line as well.
    pub(crate) fn run(
        &self,
        project: &Project,
        script: &str,
        mut seen: impl FnMut(&str),
    ) -> Result<Outcome> {
        let image = self.kernel.image(project)?;
        if self.docker.is_some() {
            Docker::prepare(&self.kernel)?;
        }
        let kept = self.paths(project)?;
        let mut initramfs = memfd().context("cannot create the guest's initramfs in memory")?;
        if !self.kernel.has_9p() {
            let machine_part =
                initramfs::image(&Self::tree(&kept)?, &project.scratch().join("initramfs"))?;
            io::copy(&mut fs::File::open(&machine_part)?, &mut initramfs)
                .with_context(|| format!("cannot copy {}", machine_part.display()))?;
        }
        self.write_own_part(project, script, &kept, &mut initramfs)?;
        initramfs.rewind()?;
        let machine = qemu::Machine {
            kernel: &image,
            initramfs: &initramfs,
            host_root: self.kernel.has_9p(),
            memory: &self.memory,
            icount: self.icount,
            timeout: self.timeout,
        };
        let ended = qemu::run(&machine, |lines| {
            run::print(lines);
            String::from_utf8_lossy(lines).lines().for_each(&mut seen);
        })?;
        Ok(match ended.status {
            Some(status) => Outcome::Exited(status),
            None => Outcome::Died(self.obituary(&image, &ended)),
        })
    }

    /// The folders and files that a guest must have whatever its kernel: by their real paths, and by those that they
    /// were asked for if symbolic links are on the way.
    fn paths(&self, project: &Project) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        let images = self.docker.is_some().then(|| project.images()).filter(|it| it.exists());
        for path in self.extra.iter().chain(&images) {
            let real = fs::canonicalize(path)
                .with_context(|| format!("cannot find {}", path.display()))?;
            let asked = std::path::absolute(path)?;
            if asked != real {
                paths.push(asked);
            }
            paths.push(real);
        }
        paths.push(project.root().to_owned());
        Ok(paths)
    }

    /// All that a guest without the host's files gets.
    fn tree(kept: &[PathBuf]) -> Result<Tree> {
        let mut tree = Tree::default();
        let (root, extra) = kept.split_last().context("the project's folder is missing")?;
        tree.add_entry_if_present(root)?;
        for folder in ["bin", "specs", "faultbox/tests"] {
            tree.add_if_present(&root.join(folder))?;
        }
        for path in extra {
            tree.add(path)?;
        }
        for file in
            ["passwd", "group", "hosts", "nsswitch.conf", "services", "protocols", "host.conf"]
        {
            tree.add_if_present(&Path::new("/etc").join(file))?;
        }
        for link in [
            "/bin",
            "/sbin",
            "/lib",
            "/lib64",
            "/usr/bin",
            "/usr/sbin",
            "/tmp",
            "/root",
            "/var/tmp",
        ] {
            tree.add_entry_if_present(Path::new(link))?;
        }
        for program in ["/bin/bash", "/bin/sh"] {
            tree.add_if_present(Path::new(program))?;
        }
        let busybox = busybox()?;
        tree.add(&busybox)?;
        tree.add_libraries()?;
        // Every other small tool is busybox's.
        for applet in run::output(Command::new(&busybox).arg("--list"))?.lines() {
            tree.link(Path::new("/usr/bin").join(applet), &busybox);
        }
        Ok(tree)
    }

    fn write_own_part(
        &self,
        project: &Project,
        script: &str,
        kept: &[PathBuf],
        out: &mut fs::File,
    ) -> Result<()> {
        let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
        let root = project.root().to_string_lossy();
        let settings = format!(
            "HOST_ROOT={}\nPROJECT={}\nSHELL={shell}\nCGROUPS={}\nDOCKER={}\n",
            u8::from(self.kernel.has_9p()),
            run::quote(&root),
            self.cgroups,
            u8::from(self.docker.is_some()),
        );
        let covered = |path: &&PathBuf| {
            ["/tmp", "/run", "/dev/shm"].iter().any(|folder| path.starts_with(folder))
        };
        let kept = kept.iter().filter(covered).fold(String::new(), |mut list, path| {
            let _ = writeln!(list, "{}", path.display());
            list
        });
        let mut files = vec![
            ("settings", settings),
            ("kept-paths", kept),
            ("environment", environment()),
            ("command", format!("{script}\n")),
        ];
        if let Some(docker) = &self.docker {
            files.extend(docker.files());
        }
        initramfs::own_part(
            io::BufWriter::new(out),
            &busybox()?,
            include_str!("vm/init.sh"),
            &files,
        )
        .context("cannot write the guest's initramfs")
    }

    fn obituary(&self, image: &Path, ended: &qemu::Ended) -> String {
        let what = if ended.timed_out {
            format!("did not end within {} s and was killed", self.timeout.as_secs())
        } else {
            "died before the command ended".to_owned()
        };
        let lines: Vec<_> = ended.console.lines().collect();
        let last = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        let console = if last.is_empty() {
            "it printed nothing on its console".to_owned()
        } else {
            format!("the end of its console:\n{last}")
        };
        format!(
            "the virtual machine (kernel {}, {}) {what}; {console}",
            self.kernel,
            image.display()
        )
    }
}

/// What a login would have set, and those of our own variables that are meant for faultbox and for Rust's runtime.
fn environment() -> String {
    let mut text = String::from(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root LANG=C.UTF-8 TERM=dumb\n",
    );
    for (name, value) in env::vars() {
        if name.starts_with("FAULTBOX_") || name.starts_with("RUST_") {
            let _ = writeln!(text, "export {name}={}", run::quote(&value));
        }
    }
    text
}

fn busybox() -> Result<PathBuf> {
    setup::busybox().context("there is no static busybox; `cargo xtask setup --vm` installs it")
}

/// A file in memory without a name; it is gone when its last descriptor is.
fn memfd() -> io::Result<fs::File> {
    // SAFETY: the name is a C string, and the descriptor is checked before it is owned.
    unsafe {
        match libc::memfd_create(c"faultbox-initramfs".as_ptr(), libc::MFD_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(fs::File::from_raw_fd(fd)),
        }
    }
}
