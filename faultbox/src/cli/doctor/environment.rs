//! What the rungs and the sandbox depend on, besides the kernel's programs.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::read::GzDecoder;

use crate::runner;

/// Capabilities that faultbox uses, their numbers in `linux/capability.h`, and what for.
const CAPABILITIES: &[(&str, u32, &str)] = &[
    ("CAP_SYS_ADMIN", 21, "namespaces, and in-kernel programs before Linux 5.8"),
    ("CAP_BPF", 39, "eBPF programs and maps"),
    ("CAP_PERFMON", 38, "tracing programs"),
    ("CAP_NET_ADMIN", 12, "the sandbox's own addresses"),
    ("CAP_SYS_PTRACE", 19, "supervising programs that changed their user"),
];

/// Options of the kernel's configuration that decide about rungs.
const OPTIONS: &[&str] = &[
    "CONFIG_BPF_SYSCALL",
    "CONFIG_BPF_JIT",
    "CONFIG_BPF_EVENTS",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    "CONFIG_FUNCTION_ERROR_INJECTION",
    "CONFIG_BPF_KPROBE_OVERRIDE",
    "CONFIG_KPROBES",
    "CONFIG_CGROUPS",
    "CONFIG_NET_NS",
    "CONFIG_SECCOMP_FILTER",
];

/// A capability, whether this process has it, and what it is for.
pub(super) struct Capability {
    pub(super) name: &'static str,
    pub(super) held: bool,
    pub(super) purpose: &'static str,
}

/// The kernel's configuration: where it was read, and the value of each option.
pub(super) struct KernelOptions {
    pub(super) file: PathBuf,
    pub(super) values: Vec<(&'static str, String)>,
}

/// The findings.
pub(super) struct Environment {
    pub(super) kernel: String,
    pub(super) capabilities: Vec<Capability>,
    /// The options, or why they could not be read.
    pub(super) options: Result<KernelOptions, String>,
    /// The cgroup below which services would run.
    pub(super) cgroup: Result<PathBuf, String>,
    /// Whether a service can have a network of its own.
    pub(super) namespace: Result<(), String>,
    /// Whether it can have temporary directories of its own.
    pub(super) files: Result<(), String>,
    /// The engine's version.
    pub(super) docker: Result<String, String>,
}

impl Environment {
    pub(super) fn find() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim().to_owned();
        Self {
            capabilities: capabilities(),
            options: options(&release),
            cgroup: runner::sandbox_cgroup(),
            namespace: runner::try_namespace(),
            files: runner::try_files(),
            docker: docker(),
            kernel: format!("Linux {release} ({})", std::env::consts::ARCH),
        }
    }
}

/// `proc_pid_status(5)`: the effective set, in hexadecimal.
fn capabilities() -> Vec<Capability> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    let held = |number: u32| set >> number & 1 == 1;
    CAPABILITIES
        .iter()
        .map(|&(name, number, purpose)| Capability { name, held: held(number), purpose })
        .collect()
}

/// Reads the kernel's configuration from where it or the distribution keeps it.
fn options(release: &str) -> Result<KernelOptions, String> {
    let places = ["/proc/config.gz".into(), format!("/boot/config-{release}")];
    let found = places.iter().find_map(|place| Some((PathBuf::from(place), read(place)?)));
    let (file, text) = found.ok_or_else(|| format!("neither {} nor {}", places[0], places[1]))?;
    let value = |option: &str| {
        let set = text.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='));
        set.unwrap_or("not set").to_owned()
    };
    let values = OPTIONS.iter().map(|option| (*option, value(option))).collect();
    Ok(KernelOptions { file, values })
}

fn read(place: &str) -> Option<String> {
    let mut text = String::new();
    let bytes = fs::read(place).ok()?;
    if Path::new(place).extension().is_some_and(|it| it == "gz") {
        // A configuration has some 300 KiB; what is larger is none.
        GzDecoder::new(&*bytes).take(16 << 20).read_to_string(&mut text).ok()?;
        return Some(text);
    }
    String::from_utf8(bytes).ok()
}

/// Asks the Docker Engine for its version; containers are not needed for programs.
fn docker() -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let docker =
            bollard::Docker::connect_with_local_defaults().map_err(|error| error.to_string())?;
        match tokio::time::timeout(Duration::from_secs(2), docker.version()).await {
            Ok(Ok(version)) => Ok(version.version.unwrap_or_else(|| "of unknown version".into())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer within 2s".to_owned()),
        }
    })
}
