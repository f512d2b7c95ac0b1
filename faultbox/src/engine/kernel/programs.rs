//! The loaded object: maps to fill, programs to attach when the first rule needs them.

use std::{collections::HashSet, io, os::fd::AsFd as _};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, RingBuf},
    programs::RawTracePoint,
};
use faultbox_common::{Control, LEVELS, RuleKey, RuleSet, TargetInfo};

use super::{
    super::{Syscall, TraceLevel, mapping::Mapping, tables::MapFds},
    btf::{BtfError, Types},
    hooks::{APPLY, Rung, kind, programs},
    plain::Plain,
    probe::{Abilities, probe},
    tracing_program::{AttachType, ProgramError, TracingLink, TracingPrograms},
};

/// Built by `cargo xtask ebpf` and committed, so that building faultbox needs stable Rust only.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../faultbox-ebpf/faultbox.bpf.o");

/// Why the in-kernel rungs are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// The kernel says no to eBPF altogether.
    #[error(
        "cannot load eBPF programs: need root or CAP_BPF+CAP_PERFMON+CAP_SYS_ADMIN; try: sudo faultbox …"
    )]
    Privilege,
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("cannot load the eBPF object: {0}")]
    Load(String),
    #[error("cannot use an eBPF map: {0}")]
    Map(#[from] MapError),
    #[error("cannot map an eBPF array: {0}")]
    Mapping(#[from] io::Error),
    #[error("targets lie at more than {LEVELS} different depths of the cgroup tree")]
    Levels,
}

/// The object in the kernel. Nothing is pinned: everything ends with this value.
pub(crate) struct Kernel {
    // The raw tracepoint programs and their links live in it.
    ebpf: Ebpf,
    programs: TracingPrograms,
    types: Types,
    control: Mapping<Control>,
    targets: HashMap<MapData, u64, Plain<TargetInfo>>,
    sets: HashMap<MapData, Plain<RuleKey>, Plain<RuleSet>>,
    // Held because programs loaded later refer to it by its descriptor.
    _kinds: Array<MapData, u32>,
    abilities: Abilities,
    hooked: HashSet<Syscall>,
    links: Vec<TracingLink>,
    security: HashSet<&'static str>,
    levels: Vec<(u32, usize)>,
}

impl Kernel {
    /// Loads the object and finds out what works. Attaches nothing yet.
    pub(crate) fn load(trace: TraceLevel) -> Result<Self, KernelError> {
        let types = Types::of_kernel()?;
        let (layout, level) = (Plain(types.layout()?), trace as u32);
        let mut ebpf = EbpfLoader::new()
            // aya would parse the kernel's types a second time, for programs it does not load.
            .btf(None)
            .override_global("LAYOUT", &layout, true)
            .override_global("TRACE", &level, true)
            .load(OBJECT)
            .map_err(|error| {
                if is_denied(&error) {
                    KernelError::Privilege
                } else {
                    KernelError::Load(text(&error))
                }
            })?;
        let programs = TracingPrograms::new(OBJECT, &ebpf)?;
        let control = Mapping::new(1, Some(array(&ebpf, "CONTROL")?.fd().as_fd()))?;
        let abilities = probe(&programs, &types, &control);
        let mut kinds: Array<MapData, u32> = Array::try_from(take(&mut ebpf, "KINDS")?)?;
        for syscall in Syscall::all() {
            kinds.set(syscall.number(), kind(syscall), 0)?;
        }
        Ok(Self {
            targets: HashMap::try_from(take(&mut ebpf, "TARGETS")?)?,
            sets: HashMap::try_from(take(&mut ebpf, "SETS")?)?,
            _kinds: kinds,
            ebpf,
            programs,
            types,
            control,
            abilities,
            hooked: HashSet::new(),
            links: Vec::new(),
            security: HashSet::new(),
            levels: Vec::new(),
        })
    }

    /// What works here.
    pub(crate) fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// Runs `use_them` with the maps that rules and counts lie in.
    pub(crate) fn with_tables<R>(
        &self,
        use_them: impl FnOnce(&MapFds<'_>) -> R,
    ) -> Result<R, KernelError> {
        Ok(use_them(&MapFds {
            rules: array(&self.ebpf, "RULES")?.fd().as_fd(),
            scopes: array(&self.ebpf, "SCOPES")?.fd().as_fd(),
            counts: array(&self.ebpf, "COUNTS")?.fd().as_fd(),
        }))
    }

    /// The ring buffer; the first call gets it.
    pub(crate) fn take_events(&mut self) -> Result<RingBuf<MapData>, KernelError> {
        Ok(RingBuf::try_from(take(&mut self.ebpf, "EVENTS")?)?)
    }

    /// Attaches the raw tracepoints: `sys_enter` if calls are to be observed, for every call of
    /// every target from now on, and `sys_exit` where denials may be left over.
    pub(crate) fn attach_tracepoints(&mut self, observes: bool) -> Result<(), KernelError> {
        let mut names = Vec::new();
        if observes {
            names.push("sys_enter");
        }
        if self.abilities.syscall_functions.is_err() && self.abilities.security_functions.is_ok() {
            names.push("sys_exit");
        }
        for name in names {
            let program = self.ebpf.program_mut(name);
            let program: &mut RawTracePoint = program
                .ok_or_else(|| KernelError::Load(format!("no program {name}")))?
                .try_into()
                .map_err(|error| KernelError::Load(text(&error)))?;
            program
                .load()
                .and_then(|()| program.attach(name))
                .map_err(|error| KernelError::Load(text(&error)))?;
        }
        Ok(())
    }

    /// The rung that serves a call here, or why none does.
    pub(crate) fn rung(&self, syscall: Syscall) -> Result<Rung, String> {
        let function = syscall.entry_function();
        if self.types.function(&function).is_none() {
            return Err(format!("the kernel has no function {function}"));
        }
        let Err(first) = &self.abilities.syscall_functions else {
            return Ok(Rung::SyscallFunction);
        };
        if let Err(second) = &self.abilities.security_functions {
            return Err(if first == second { first.clone() } else { format!("{first}; {second}") });
        }
        if self.security_functions(syscall).next().is_some() {
            return Ok(Rung::SecurityFunction);
        }
        Err(format!("no security function lies on its way, and {first}"))
    }

    fn security_functions(&self, syscall: Syscall) -> impl Iterator<Item = (&'static str, u32)> {
        let named = syscall.security_functions().iter();
        named.filter_map(|name| Some((*name, self.types.function(name)?)))
    }

    /// Attaches what a call needs, unless it is attached already.
    pub(crate) fn hook(&mut self, syscall: Syscall) -> Result<(), String> {
        if self.hooked.contains(&syscall) {
            return Ok(());
        }
        let function = syscall.entry_function();
        let (returning, deferring) = programs(syscall);
        let (program, attach_type) = match self.rung(syscall)? {
            Rung::SyscallFunction => (returning, AttachType::ModifyReturn),
            _ => (deferring, AttachType::Fentry),
        };
        let id = self.types.function(&function).unwrap_or_default();
        let mut links = Vec::new();
        if attach_type == AttachType::Fentry {
            let functions: Vec<_> = self.security_functions(syscall).collect();
            for (name, id) in functions {
                if !self.security.contains(name) {
                    links.push(self.attach(APPLY, (name, id), AttachType::ModifyReturn)?);
                    self.security.insert(name);
                }
            }
        }
        links.push(self.attach(program, (&function, id), attach_type)?);
        self.links.append(&mut links);
        self.hooked.insert(syscall);
        Ok(())
    }

    fn attach(
        &self,
        program: &str,
        function: (&str, u32),
        attach_type: AttachType,
    ) -> Result<TracingLink, String> {
        let loaded = self.programs.load(program, function, attach_type);
        loaded
            .and_then(super::tracing_program::TracingProgram::attach)
            .map_err(|error| error.to_string())
    }

    /// Whether the verifier accepts what a call needs on one of the in-kernel rungs.
    pub(crate) fn try_rung(&self, syscall: Syscall, rung: Rung) -> Result<(), String> {
        let function = syscall.entry_function();
        let id = self.types.function(&function);
        let id = id.ok_or_else(|| format!("the kernel has no function {function}"))?;
        let (returning, deferring) = programs(syscall);
        let load = |program, function, attach_type| {
            self.programs.load(program, function, attach_type).map(drop).map_err(|e| e.reason())
        };
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

    /// Makes a cgroup, `depth` below the root, and its descendants a target.
    pub(crate) fn add_target(
        &mut self,
        cgroup: u64,
        depth: u32,
        info: TargetInfo,
    ) -> Result<(), KernelError> {
        /// `BPF_NOEXIST`: the end of a second target on a cgroup would be the end of the first.
        const NOEXIST: u64 = 1;
        let known = self.levels.iter().position(|(level, users)| *users > 0 && *level == depth);
        let free = || self.levels.iter().position(|(_, users)| *users == 0);
        // A place that is in use never moves, because a program may be half way through the list.
        let place = match known.or_else(free) {
            Some(place) => place,
            None if self.levels.len() < LEVELS => {
                self.levels.push((depth, 0));
                self.levels.len() - 1
            }
            None => return Err(KernelError::Levels),
        };
        self.targets.insert(cgroup, Plain(info), NOEXIST)?;
        let users = self.levels[place].1;
        self.levels[place] = (depth, users + 1);
        let control = std::ptr::from_ref(self.control.get(0)).cast_mut();
        // SAFETY: in bounds; programs read the word at any time and accept any value.
        unsafe { (&raw mut (*control).levels[place]).write_volatile(depth + 1) };
        Ok(())
    }

    /// Ends a target. That it is gone already is no error.
    pub(crate) fn remove_target(&mut self, cgroup: u64, depth: u32) {
        let _ = self.targets.remove(&cgroup);
        if let Some((_, users)) =
            self.levels.iter_mut().find(|(level, users)| *users > 0 && *level == depth)
        {
            *users -= 1;
        }
    }

    /// Replaces the rules of a target on a call; an empty set removes the entry.
    pub(crate) fn set_rules(&mut self, key: RuleKey, set: &RuleSet) -> Result<(), KernelError> {
        if set.count > 0 {
            return Ok(self.sets.insert(Plain(key), Plain(*set), 0)?);
        }
        match self.sets.remove(&Plain(key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Records that found no room in the ring buffer.
    pub(crate) fn dropped(&self) -> u64 {
        // SAFETY: in bounds; programs add to the word at any time.
        unsafe { (&raw const (*std::ptr::from_ref(self.control.get(0))).dropped).read_volatile() }
    }

    /// Calls that passed unexamined so far: see `TracingLink::misses` and `Control::unread`.
    pub(crate) fn misses(&self) -> u64 {
        let control = std::ptr::from_ref(self.control.get(0));
        // SAFETY: in bounds; programs add to the word at any time.
        let unread = unsafe { (&raw const (*control).unread).read_volatile() };
        self.links.iter().map(TracingLink::misses).sum::<u64>() + unread
    }
}

fn array<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, KernelError> {
    match ebpf.map(name) {
        Some(Map::Array(map)) => Ok(map),
        _ => Err(KernelError::Load(format!("no array {name}"))),
    }
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, KernelError> {
    ebpf.take_map(name).ok_or_else(|| KernelError::Load(format!("no map {name}")))
}

/// An error with all its causes, which aya's own text leaves out.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether the kernel refused for want of privilege.
fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let os = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if os == Some(libc::EPERM) || os == Some(libc::EACCES) {
            return true;
        }
        cause = error.source();
    }
    false
}
