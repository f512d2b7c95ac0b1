//! The loaded object: its maps, and the programs that are attached from the start. Those that
//! rules need are [`super::attached`]'s.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, MapError, RingBuf},
};
use faultbox_common::{
    Control, Driver, EPOCH, LEVELS, MAX_SETS, MAX_SYSCALLS, MAX_TARGETS, PROBES, RuleKey, RuleSet,
    TARGET_SLOTS, TargetSlot, target_slot,
};

use super::{
    super::{Choice, Syscall, TraceLevel, mapping::Mapping, parking::Switches, tables::MapFds},
    attached::{Hook, Needs},
    btf::{BtfError, Types, rename_sequence},
    hooks::kind,
    probe::{Abilities, probe},
    tracing_program::{
        self, AttachType, ProgramError, TracingLink, TracingProgram, TracingPrograms,
    },
};

/// Built by `cargo xtask ebpf` and committed, so that building faultbox needs stable Rust only.
pub(in crate::engine) static OBJECT: &[u8] =
    aya::include_bytes_aligned!("../../../../faultbox-ebpf/faultbox.bpf.o");

/// In place of a cgroup's id: a target has been there.
const GONE: u64 = 1;

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
    #[error("rules on more than {MAX_SETS} system calls of services at once")]
    Sets,
    #[error("too many services at once")]
    Targets,
    #[error("two services have the same cgroup {0}")]
    Twice(u64),
    #[error("targets lie at more than {LEVELS} different depths of the cgroup tree")]
    Levels,
}

/// The object in the kernel. Nothing is pinned: everything ends with this value.
pub(crate) struct Kernel {
    // Its maps, which programs loaded later refer to by their descriptors.
    ebpf: Ebpf,
    pub(super) programs: TracingPrograms,
    pub(super) types: Types,
    control: Mapping<Control>,
    targets: Mapping<TargetSlot>,
    set_of: Mapping<[AtomicU16; MAX_SYSCALLS]>,
    sets: Mapping<RuleSet>,
    /// First freed, last reused, so that a program that still reads a set is done long before
    /// the place has other rules; those have other generations in any case.
    free_sets: VecDeque<u16>,
    /// Where each target's driver dials from.
    drivers: Mapping<Driver>,
    tracepoints: Vec<TracingLink>,
    pub(super) abilities: Abilities,
    /// Whether rung 3 is to be used for everything.
    pub(super) only_kprobes: bool,
    pub(super) hooked: HashMap<Syscall, Hook>,
    pub(super) needs: HashMap<Syscall, Needs>,
    /// On `security_*` functions; they stay, as other calls may pass them, too.
    pub(super) links: Vec<TracingLink>,
    /// Whether the tracepoint on signals is attached.
    watches_signals: bool,
    pub(super) security: HashSet<&'static str>,
    levels: Vec<(u32, usize)>,
}

/// Why no in-kernel rung can work here, as far as that is known at once; `None`: load the object
/// and see.
pub(crate) fn refusal() -> Option<String> {
    /// There if the kernel has kprobes that `perf_event_open(2)` can attach (Linux 4.17).
    const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";
    let refused = tracing_program::refusal()?;
    (!Path::new(KPROBES).exists()).then(|| {
        format!(
            "the kernel refuses tracing programs: {refused}; it has no kprobes either (that needs \
             CONFIG_KPROBE_EVENTS=y and CONFIG_BPF_KPROBE_OVERRIDE=y)"
        )
    })
}

impl Kernel {
    /// Loads the object and finds out what works. Attaches nothing yet.
    pub(crate) fn load(trace: TraceLevel, choice: Choice) -> Result<Self, KernelError> {
        let types = Types::of_kernel()?;
        let layout = types.layout()?;
        let ebpf = EbpfLoader::new()
            // aya would parse the kernel's types a second time, for programs it does not load.
            .btf(None)
            .load(OBJECT)
            .map_err(|error| {
                if is_denied(&error) {
                    KernelError::Privilege
                } else {
                    KernelError::Load(text(&error))
                }
            })?;
        let programs = TracingPrograms::new(OBJECT, &ebpf, &types, &layout, trace)?;
        let control = Mapping::<Control>::new(1, Some(array(&ebpf, "CONTROL")?.fd().as_fd()))?;
        let first = Control {
            epoch: EPOCH,
            rename_sequence: rename_sequence().unwrap_or(0),
            ..Control::default()
        };
        // SAFETY: in bounds; no program runs yet.
        unsafe { control.slot(0).write_volatile(first) };
        let kinds =
            Mapping::<u32>::new(MAX_SYSCALLS as u32, Some(array(&ebpf, "KINDS")?.fd().as_fd()))?;
        for syscall in Syscall::all() {
            // SAFETY: in bounds; no program runs yet.
            unsafe { kinds.slot(syscall.number()).write_volatile(kind(syscall)) };
        }
        let abilities = probe(&programs, &types, &control);
        Ok(Self {
            targets: Mapping::new(TARGET_SLOTS, Some(array(&ebpf, "TARGETS")?.fd().as_fd()))?,
            set_of: Mapping::new(MAX_TARGETS, Some(array(&ebpf, "SET_OF")?.fd().as_fd()))?,
            sets: Mapping::new(MAX_SETS, Some(array(&ebpf, "SETS")?.fd().as_fd()))?,
            free_sets: (1..MAX_SETS as u16).collect(),
            drivers: Mapping::new(MAX_TARGETS, Some(array(&ebpf, "DRIVERS")?.fd().as_fd()))?,
            tracepoints: Vec::new(),
            ebpf,
            programs,
            types,
            control,
            abilities,
            only_kprobes: choice == Choice::Kprobe,
            hooked: HashMap::new(),
            needs: HashMap::new(),
            links: Vec::new(),
            watches_signals: false,
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
            globs: array(&self.ebpf, "GLOBS")?.fd().as_fd(),
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
            self.attach_tracepoint(name)?;
        }
        Ok(())
    }

    fn attach_tracepoint(&mut self, name: &str) -> Result<(), KernelError> {
        let program = self.programs.load(name, (name, 0), AttachType::RawTracepoint, None)?;
        self.tracepoints.push(TracingProgram::attach(program)?);
        Ok(())
    }

    /// Attaches the tracepoint that tells the tracer of signals to processes with parked
    /// threads. It costs every signal on the machine, and so stays away until there is a delay.
    pub(crate) fn watch_signals(&mut self) -> Result<(), KernelError> {
        if !self.watches_signals {
            self.attach_tracepoint("signal_generate")?;
            self.watches_signals = true;
        }
        Ok(())
    }

    /// What the tracer needs: the table of parked threads, the buffer of messages to it, and the
    /// switches that programs ask.
    pub(crate) fn parking(&self) -> Result<(OwnedFd, OwnedFd, Box<dyn Switches>), KernelError> {
        let fd = |name| match self.ebpf.map(name) {
            Some(Map::HashMap(map) | Map::RingBuf(map)) => {
                Ok(map.fd().as_fd().try_clone_to_owned()?)
            }
            _ => Err(KernelError::Load(format!("no map {name}"))),
        };
        let control = Mapping::new(1, Some(array(&self.ebpf, "CONTROL")?.fd().as_fd()))?;
        Ok((fd("PARKED")?, fd("WAKES")?, Box::new(InControl(control))))
    }

    /// Makes a cgroup, `depth` below the root, and its descendants a target; a `foreign` one if
    /// somebody else starts its processes.
    pub(crate) fn add_target(
        &mut self,
        cgroup: u64,
        depth: u32,
        index: u32,
        driver: Driver,
        foreign: bool,
    ) -> Result<(), KernelError> {
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
        self.fill_target(cgroup, index, driver, foreign)?;
        let users = self.levels[place].1;
        self.levels[place] = (depth, users + 1);
        let control = self.control.slot(0);
        // SAFETY: in bounds; programs read the word at any time and accept any value.
        unsafe { (&raw mut (*control).levels[place]).write_volatile(depth + 1) };
        self.begin_epoch();
        Ok(())
    }

    /// Has the programs forget whose processes are whose. After each change of targets: a program
    /// reads the epoch first, so what it remembers under the new one was found after the change.
    fn begin_epoch(&self) {
        // SAFETY: in bounds and aligned; programs only add nothing to it.
        let epoch = unsafe { AtomicU64::from_ptr(&raw mut (*self.control.slot(0)).epoch) };
        epoch.fetch_add(EPOCH, Ordering::SeqCst);
    }

    /// Ends a target. That it is gone already is no error.
    pub(crate) fn remove_target(&mut self, cgroup: u64, depth: u32) {
        let probes = (0..PROBES).map(|probe| (target_slot(cgroup) + probe) % TARGET_SLOTS);
        for slot in probes {
            let id = self.cgroup_of(slot);
            if id.load(Ordering::Relaxed) == cgroup {
                id.store(GONE, Ordering::SeqCst);
            }
        }
        if let Some((_, users)) =
            self.levels.iter_mut().find(|(level, users)| *users > 0 && *level == depth)
        {
            *users -= 1;
        }
        self.begin_epoch();
    }

    fn cgroup_of(&self, slot: u32) -> &AtomicU64 {
        // SAFETY: in bounds and aligned; programs only read it.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.targets.slot(slot)).cgroup) }
    }

    fn fill_target(
        &self,
        cgroup: u64,
        index: u32,
        driver: Driver,
        foreign: bool,
    ) -> Result<(), KernelError> {
        let probes = || (0..PROBES).map(|probe| (target_slot(cgroup) + probe) % TARGET_SLOTS);
        let id_in = |slot: &u32| self.cgroup_of(*slot).load(Ordering::Relaxed);
        // The end of a second target on a cgroup would be the end of the first.
        if probes().any(|slot| id_in(&slot) == cgroup) {
            return Err(KernelError::Twice(cgroup));
        }
        let slot = probes().find(|slot| id_in(slot) <= GONE).ok_or(KernelError::Targets)?;
        // SAFETY: in bounds; no program looks at the rest of a slot that names no cgroup, nor at
        // the driver of a target that no slot names. One that is named twice keeps its driver.
        unsafe {
            self.drivers.slot(index).write_volatile(driver);
            (&raw mut (*self.targets.slot(slot)).index).write_volatile(index);
            (&raw mut (*self.targets.slot(slot)).foreign).write_volatile(foreign.into());
        }
        self.cgroup_of(slot).store(cgroup, Ordering::SeqCst);
        Ok(())
    }

    /// Replaces the rules of a target on a call; an empty set removes the entry.
    pub(crate) fn set_rules(&mut self, key: RuleKey, set: &RuleSet) -> Result<(), KernelError> {
        let mut place = 0;
        if set.count > 0 {
            place = self.free_sets.pop_front().ok_or(KernelError::Sets)?;
            // SAFETY: in bounds; no program is told of a free place.
            unsafe { self.sets.slot(place.into()).write_volatile(*set) };
        }
        let entry = &self.set_of.get(key.target)[key.syscall as usize % MAX_SYSCALLS];
        let before = entry.swap(place, Ordering::SeqCst);
        if before != 0 {
            self.free_sets.push_back(before);
        }
        Ok(())
    }

    /// Records that found no room in the ring buffer.
    pub(crate) fn dropped(&self) -> u64 {
        // SAFETY: in bounds; programs add to the word at any time.
        unsafe { (&raw const (*self.control.slot(0)).dropped).read_volatile() }
    }

    /// Calls that passed unexamined so far: see `TracingLink::misses` and `Control::unread`.
    pub(crate) fn misses(&self) -> u64 {
        let control = self.control.slot(0);
        // SAFETY: in bounds; programs add to the word at any time.
        let unread = unsafe { (&raw const (*control).unread).read_volatile() };
        let hooks = self.hooked.values().map(|hook| match hook {
            Hook::Tracing(link) | Hook::Kprobe(link) => link,
        });
        hooks.chain(&self.links).map(TracingLink::misses).sum::<u64>() + unread
    }

    /// Calls that should have been delayed and were not, so far.
    pub(crate) fn undelayed(&self) -> u64 {
        // SAFETY: in bounds; programs add to the word at any time.
        unsafe { (&raw const (*self.control.slot(0)).undelayed).read_volatile() }
    }
}

/// The switches that programs ask whether and by whom threads are parked.
struct InControl(Mapping<Control>);

impl Switches for InControl {
    fn set_tracer(&self, pid: u32) {
        // SAFETY: in bounds; programs read the word at any time and accept any value.
        unsafe { (&raw mut (*self.0.slot(0)).tracer).write_volatile(pid) };
    }

    fn set_parks(&self, on: bool) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0.slot(0)).parks).write_volatile(on.into()) };
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
pub(in crate::engine) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether the kernel refused for want of privilege.
pub(in crate::engine) fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
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
