//! What each call is hooked by: attached when the first rule needs it, and exchanged when a rule
//! needs what the hook that is there cannot do.

use super::{
    super::{Action, Syscall},
    hooks::{APPLY, Rung, kprobe_program, programs},
    programs::Kernel,
    tracing_program::{AttachType, TracingLink, TracingProgram},
};

/// What a call's function is hooked by.
pub(super) enum Hook {
    Tracing(TracingLink),
    Kprobe(TracingLink),
}

/// Rules that are on and care what their call is hooked by.
#[derive(Default)]
pub(super) struct Needs {
    /// Those that make it report zero.
    zeros: usize,
    /// Those that delay it.
    delays: usize,
}

impl Kernel {
    /// The rung that serves a call here, or why none does.
    pub(crate) fn rung(&self, syscall: Syscall) -> Result<Rung, String> {
        let function = syscall.entry_function();
        if self.types.function(&function).is_none() {
            return Err(format!("the kernel has no function {function}"));
        }
        if self.only_kprobes {
            return self.abilities.kprobes.clone().map(|()| Rung::Kprobe);
        }
        let Err(first) = &self.abilities.syscall_functions else {
            return Ok(Rung::SyscallFunction);
        };
        let second = match &self.abilities.security_functions {
            Ok(()) if self.security_functions(syscall).next().is_some() => {
                return Ok(Rung::SecurityFunction);
            }
            Ok(()) => "no security function lies on its way".to_owned(),
            Err(second) => second.clone(),
        };
        if self.abilities.kprobes.is_ok() {
            return Ok(Rung::Kprobe);
        }
        Err(if *first == second { second } else { format!("{second}, and {first}") })
    }

    fn security_functions(&self, syscall: Syscall) -> impl Iterator<Item = (&'static str, u32)> {
        let named = syscall.security_functions().iter();
        named.filter_map(|name| Some((*name, self.types.function(name)?)))
    }

    /// Attaches what an action on a call needs, unless it is attached already. For a result of
    /// zero that is a kprobe: to `fmod_ret` it means that the call runs.
    pub(crate) fn hook(&mut self, syscall: Syscall, action: Action) -> Result<(), String> {
        let rung = self.rung(syscall)?;
        let needs = self.needs.entry(syscall).or_default();
        let conflict = || {
            "a kprobe is needed to have it report 0, and cannot make a thread wait: the two are \
             not possible at once; use --engine seccomp"
                .to_owned()
        };
        let by_kprobe = match action {
            _ if rung == Rung::Kprobe => true,
            Action::Return(0) if needs.delays > 0 => return Err(conflict()),
            Action::Return(0) => true,
            Action::Delay(_) if needs.zeros > 0 => return Err(conflict()),
            Action::Delay(_) => {
                self.unhook_kprobe(syscall);
                false
            }
            _ => false,
        };
        if by_kprobe {
            return self.hook_by_kprobe(syscall);
        }
        if self.hooked.contains_key(&syscall) {
            return Ok(());
        }
        let function = syscall.entry_function();
        let (returning, deferring) = programs(syscall);
        let (program, attach_type) = match rung {
            Rung::SyscallFunction => (returning, AttachType::ModifyReturn),
            _ => (deferring, AttachType::Fentry),
        };
        let id = self.types.function(&function).unwrap_or_default();
        let mut links = Vec::new();
        if attach_type == AttachType::Fentry {
            let functions: Vec<_> = self.security_functions(syscall).collect();
            for (name, id) in functions {
                if !self.security.contains(name) {
                    links.push(self.attach(APPLY, (name, id), AttachType::ModifyReturn, None)?);
                    self.security.insert(name);
                }
            }
        }
        let link = self.attach(program, (&function, id), attach_type, Some(syscall))?;
        self.links.append(&mut links);
        self.hooked.insert(syscall, Hook::Tracing(link));
        Ok(())
    }

    /// A rule with this action is on from now on: what the call is hooked by must stay.
    pub(crate) fn need(&mut self, syscall: Syscall, action: Action) {
        let needs = self.needs.entry(syscall).or_default();
        match action {
            Action::Return(0) => needs.zeros += 1,
            Action::Delay(_) => needs.delays += 1,
            _ => {}
        }
    }

    /// Takes back what [`Kernel::need`] said.
    pub(crate) fn need_no_more(&mut self, syscall: Syscall, action: Action) {
        let needs = self.needs.entry(syscall).or_default();
        match action {
            Action::Return(0) => needs.zeros = needs.zeros.saturating_sub(1),
            Action::Delay(_) => needs.delays = needs.delays.saturating_sub(1),
            _ => {}
        }
    }

    /// Removes a kprobe that an earlier rule needed.
    fn unhook_kprobe(&mut self, syscall: Syscall) {
        if matches!(self.hooked.get(&syscall), Some(Hook::Kprobe(_))) {
            self.hooked.remove(&syscall);
        }
    }

    /// Puts a kprobe in the place of whatever the call is hooked by.
    fn hook_by_kprobe(&mut self, syscall: Syscall) -> Result<(), String> {
        self.abilities.kprobes.clone()?;
        if matches!(self.hooked.get(&syscall), Some(Hook::Kprobe(_))) {
            return Ok(());
        }
        let (name, function) = (kprobe_program(syscall), syscall.entry_function());
        let program = self.programs.load(name, (&function, 0), AttachType::Kprobe, Some(syscall));
        let program = program.map_err(|error| error.to_string())?;
        // One after the other: two hooks at once would count every call twice.
        self.hooked.remove(&syscall);
        let link = program.attach().map_err(|error| error.to_string())?;
        self.hooked.insert(syscall, Hook::Kprobe(link));
        Ok(())
    }

    /// Why this kernel's programs cannot carry out an action on a call, if so.
    pub(crate) fn refusal(&self, rung: Rung, action: Action) -> Option<String> {
        match (rung, action) {
            (Rung::Kprobe, Action::Delay(_)) => Some(
                "a kprobe cannot make the thread that it interrupts wait; delay() takes fmod_ret \
                 (Linux 7.1, or CONFIG_FUNCTION_ERROR_INJECTION=y, and --engine ebpf) or \
                 --engine seccomp"
                    .to_owned(),
            ),
            (Rung::SecurityFunction, Action::Return(_)) => Some(
                "programs on security functions can fail a call but not make it report a result; \
                 that takes rung 1 (Linux 7.1, or CONFIG_FUNCTION_ERROR_INJECTION=y), a kprobe \
                 (CONFIG_BPF_KPROBE_OVERRIDE=y) or --engine seccomp"
                    .to_owned(),
            ),
            (Rung::SyscallFunction, Action::Return(0)) => {
                self.abilities.kprobes.as_ref().err().map(|why| {
                    format!(
                        "to a program on the syscall function, a result of 0 means that the call \
                         runs, and {why}; use --engine seccomp, or a result other than 0"
                    )
                })
            }
            _ => None,
        }
    }

    fn attach(
        &self,
        program: &str,
        function: (&str, u32),
        attach_type: AttachType,
        call: Option<Syscall>,
    ) -> Result<TracingLink, String> {
        let loaded = self.programs.load(program, function, attach_type, call);
        loaded.and_then(TracingProgram::attach).map_err(|error| error.to_string())
    }

    /// Whether the verifier accepts what a call needs on one of the in-kernel rungs.
    pub(crate) fn try_rung(&self, syscall: Syscall, rung: Rung) -> Result<(), String> {
        let function = syscall.entry_function();
        let id = self.types.function(&function);
        let id = id.ok_or_else(|| format!("the kernel has no function {function}"))?;
        let (returning, deferring) = programs(syscall);
        let load = |program, function, attach_type| {
            let loaded = self.programs.load(program, function, attach_type, Some(syscall));
            loaded.map(drop).map_err(|error| error.reason())
        };
        if rung == Rung::Kprobe {
            self.abilities.kprobes.clone()?;
            return load(kprobe_program(syscall), (&*function, id), AttachType::Kprobe);
        }
        if rung == Rung::SyscallFunction {
            self.abilities.syscall_functions.clone()?;
            return load(returning, (&*function, id), AttachType::ModifyReturn);
        }
        self.abilities.security_functions.clone()?;
        let mut functions = self.security_functions(syscall).peekable();
        if functions.peek().is_none() {
            return Err("no security function lies on its way".to_owned());
        }
        load(deferring, (&*function, id), AttachType::Fentry)?;
        functions.try_for_each(|function| load(APPLY, function, AttachType::ModifyReturn))
    }
}
