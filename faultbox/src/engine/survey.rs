//! What this kernel can do, family by family and rung by rung, found by trying.

use super::{
    Choice, FAMILIES, Rung, Syscall, TraceLevel,
    kernel::{Kernel, VMLINUX},
    supervisor,
};

/// Families and calls that are worth a row of their own.
const ROWS: &[&str] = &[
    "read",
    "write",
    "fsync",
    "open",
    "close",
    "connect",
    "accept4",
    "sendto",
    "recvfrom",
    "unlinkat",
    "renameat2",
    "mkdirat",
    "ftruncate",
    "sendfile",
    "copy_file_range",
    "mmap",
    "io_uring_enter",
];

/// Everything that decides which rungs there are.
#[derive(Clone, Debug)]
pub struct Survey {
    /// One row for each family.
    pub families: Vec<FamilySurvey>,
    /// Where the kernel's type information is, or why it cannot be used.
    pub types: Result<&'static str, String>,
    /// Whether raw tracepoints, which observe without breaking anything, can be attached.
    pub tracepoints: Result<(), String>,
}

/// One family of calls.
#[derive(Clone, Debug)]
pub struct FamilySurvey {
    /// The keyword.
    pub family: &'static str,
    /// The rungs, from the first that is tried to the last, and why not.
    pub rungs: Vec<(Rung, Result<(), String>)>,
}

impl FamilySurvey {
    /// Whether any rung serves it.
    pub fn is_served(&self) -> bool {
        self.rungs.iter().any(|(_, available)| available.is_ok())
    }
}

/// Tries everything that faultbox would use. Takes as long as starting it a few times, needs its
/// privileges to be conclusive, and leaves nothing behind.
pub fn survey() -> Survey {
    let mut kernel =
        Kernel::load(TraceLevel::Default, Choice::Auto).map_err(|error| error.to_string());
    let types = super::kernel::check_types().map(|()| VMLINUX);
    let families = ROWS.iter().map(|family| examine(family, kernel.as_ref())).collect();
    let tracepoints = match &mut kernel {
        Ok(kernel) => kernel.attach_tracepoints(true).map_err(|error| error.to_string()),
        Err(error) => Err(error.clone()),
    };
    Survey { families, types, tracepoints }
}

fn examine(family: &'static str, kernel: Result<&Kernel, &String>) -> FamilySurvey {
    let first = FAMILIES.iter().find(|(name, _)| *name == family).map_or(family, |(_, all)| {
        // The first that this architecture has stands for all.
        all.iter().copied().find(|name| Syscall::from_name(name).is_some()).unwrap_or(family)
    });
    let try_rung = |rung| -> Result<(), String> {
        let unknown = || format!("this architecture has no {first}");
        let syscall = Syscall::from_name(first).ok_or_else(unknown)?;
        if first == "close" {
            return Err("Linux releases the descriptor before it reports an error".to_owned());
        }
        match (rung, kernel) {
            (Rung::Supervisor, _) => supervisor::unavailable().map_or(Ok(()), Err),
            (_, Ok(kernel)) => kernel.try_rung(syscall, rung),
            (_, Err(error)) => Err(error.clone()),
        }
    };
    let rungs = [Rung::SyscallFunction, Rung::SecurityFunction, Rung::Kprobe, Rung::Supervisor];
    FamilySurvey { family, rungs: rungs.map(|rung| (rung, try_rung(rung))).into() }
}
