//! Which rung serves which call on this kernel, and why not a better one.

use std::{collections::BTreeMap, fmt};

use super::{
    Choice, EngineError, Options, Syscall, TraceLevel,
    kernel::{Kernel, Rung},
    supervisor::Filter,
};

/// Calls that no security function lies on: the supervisor always stands by for them, so that a
/// spec that faults one runs on a stock kernel, too.
const ALWAYS_CONSIDERED: &[&str] = &["fsync", "fdatasync", "sync_file_range", "syncfs", "msync"];

/// Which rung serves which call.
#[derive(Clone, Debug)]
pub struct Coverage {
    rungs: BTreeMap<Syscall, Result<Rung, String>>,
    supervised: Vec<Syscall>,
    /// Why no in-kernel rung serves anything.
    refusal: Option<String>,
    choice: Choice,
}

impl Coverage {
    pub(super) fn find(
        options: &Options,
        kernel: Option<&Kernel>,
        refusal: Option<String>,
    ) -> Result<Self, EngineError> {
        let mut refusal = refusal;
        if let Some(kernel) = kernel {
            let abilities = kernel.abilities();
            let rungs = match options.choice {
                Choice::Kprobe => vec![&abilities.kprobes],
                _ => vec![
                    &abilities.syscall_functions,
                    &abilities.security_functions,
                    &abilities.kprobes,
                ],
            };
            if rungs.iter().all(|rung| rung.is_err()) {
                let mut reasons: Vec<_> =
                    rungs.into_iter().filter_map(|rung| rung.clone().err()).collect();
                reasons.dedup();
                refusal = Some(reasons.join("; "));
            }
        }
        let name = if options.choice == Choice::Kprobe { "kprobe" } else { "ebpf" };
        let in_kernel_only = matches!(options.choice, Choice::Ebpf | Choice::Kprobe);
        if in_kernel_only && let Some(why) = refusal {
            return Err(EngineError(format!(
                "--engine {name} cannot be served: {why}; see faultbox doctor, or use --engine auto"
            )));
        }
        let wanted = |syscall: Syscall| {
            ALWAYS_CONSIDERED.contains(&syscall.name())
                || options.extra.contains(&syscall)
                // Where programs run, they observe; where none do, the supervisor does.
                || (refusal.is_some() || options.choice == Choice::Seccomp)
                    && (syscall.is_observed() || options.trace == TraceLevel::All)
        };
        let mut rungs = BTreeMap::new();
        let mut supervised = Vec::new();
        for syscall in Syscall::all() {
            let in_kernel = match kernel {
                Some(kernel) => kernel.rung(syscall),
                None => Err(refusal.clone().unwrap_or_else(|| "--engine seccomp".to_owned())),
            };
            let rung = match in_kernel {
                // Neither a program before the body nor the supervisor can do both.
                _ if syscall.name() == "close" => Err(
                    "close cannot be faulted: Linux releases the descriptor before it reports an \
                     error, so a call that fails without its body would leak it; fault fsync or \
                     write instead"
                        .to_owned(),
                ),
                Ok(rung) => Ok(rung),
                Err(why) if in_kernel_only => Err(format!(
                    "{syscall} cannot be faulted by --engine {name} on this kernel: {why}; use --engine auto"
                )),
                Err(_) if !Filter::can_trap(syscall) => Err(format!(
                    "{syscall} cannot be faulted on this kernel: the supervisor cannot stand in for the kernel there; a kernel that runs tracing programs can (see faultbox doctor)"
                )),
                Err(_) if wanted(syscall) => {
                    supervised.push(syscall);
                    Ok(Rung::Supervisor)
                }
                Err(why) => Err(format!(
                    "{syscall} cannot be faulted here: {why}, and the supervisor was not told of it before the service started"
                )),
            };
            rungs.insert(syscall, rung);
        }
        Ok(Self { rungs, supervised, refusal, choice: options.choice })
    }

    /// The rung that serves a call, or why none does and what to do.
    pub fn rung(&self, syscall: Syscall) -> Result<Rung, String> {
        self.rungs.get(&syscall).cloned().unwrap_or_else(|| Err(format!("{syscall} is unknown")))
    }

    /// The calls that the supervisor serves.
    pub fn supervised(&self) -> &[Syscall] {
        &self.supervised
    }

    /// Whether any call is served in the kernel.
    pub fn uses_kernel(&self) -> bool {
        self.rungs.values().any(|rung| matches!(rung, Ok(rung) if *rung != Rung::Supervisor))
    }
}

/// One line: what serves what, and why not better.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.uses_kernel() {
            f.write_str("seccomp supervisor for all faults")?;
            return match (&self.refusal, self.choice) {
                (Some(why), Choice::Auto) => write!(f, " ({why})"),
                _ => Ok(()),
            };
        }
        let rung = self.rungs.values().flatten().find(|rung| **rung != Rung::Supervisor);
        write!(f, "{}", rung.map_or("", |rung| rung.name()))?;
        if !self.supervised.is_empty() {
            let names: Vec<_> = self.supervised.iter().map(|syscall| syscall.name()).collect();
            write!(f, "; seccomp supervisor for {}", names.join(", "))?;
        }
        Ok(())
    }
}
