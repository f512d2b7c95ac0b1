//! Loading and attaching programs: what aya would do, and what it cannot.
//!
//! aya has `fentry` and `fexit`, each with a section name that its parser insists on, and no
//! `BPF_MODIFY_RETURN`; and it knows nothing of what our object leaves open (see
//! [`super::placeholders`]). So the object is parsed a second time, relocated against the maps that
//! aya made, and loaded and attached by `bpf(2)`. Shaped like an aya program type: load first,
//! attach later, drop the link to detach.
//!
//! # Minimum kernel version
//!
//! 5.7 for `BPF_MODIFY_RETURN`; 4.17 for kprobes that `perf_event_open(2)` makes.

use std::{
    collections::HashSet,
    ffi::CString,
    fs, io,
    mem::zeroed,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object,
    generated::{
        PERF_FLAG_FD_CLOEXEC, bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type, perf_event_attr,
    },
};
use faultbox_common::{Layout, TABLES};

use super::{
    super::{Syscall, TraceLevel},
    btf::Types,
    placeholders::Placeholders,
};

/// When the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachType {
    /// Before the function; it runs in any case.
    Fentry,
    /// Before the function; a result other than zero is returned in its place.
    ModifyReturn,
    /// Before the function, by a kprobe.
    Kprobe,
    /// At a tracepoint, which is named in place of a function.
    RawTracepoint,
}

/// Why a program could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("the embedded eBPF object is damaged: {0}")]
    Object(String),
    #[error("the kernel refused to load {program} for {function}: {error}{}", verdict(.log))]
    Load { program: String, function: String, error: io::Error, log: String },
    #[error("the kernel refused to attach {program} to {function}: {error}")]
    Attach { program: String, function: String, error: io::Error },
}

impl ProgramError {
    /// The verifier's last words, or the error.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Load { error, log, .. } => match last_line(log) {
                Some(line) => line.to_owned(),
                None => format!("the kernel refuses tracing programs: {error}"),
            },
            other => other.to_string(),
        }
    }
}

/// The line of a verifier log that says why: the last before the statistics.
fn last_line(log: &str) -> Option<&str> {
    log.lines().rev().map(str::trim).find(|line| {
        !line.is_empty() && !line.starts_with("processed ") && !line.starts_with("verification ")
    })
}

fn verdict(log: &str) -> String {
    last_line(log).map(|line| format!(": {line}")).unwrap_or_default()
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is a live, writable union of that size, and the pointers in it are
    // to buffers that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    match result {
        // SAFETY: all commands used here return a new descriptor, which nobody else owns.
        fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: all zeros is a valid `bpf_attr`.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // SAFETY: the union was just zeroed, so every view of it is initialised.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = types.len() as u32;
    bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// Why the kernel takes no program of this type, whatever it does; `None` if it may take one. Much
/// quicker than finding out by loading the object.
pub(super) fn refusal() -> Option<io::Error> {
    /// `r0 = 0; exit` (`linux/bpf.h`).
    const NOTHING: [u64; 2] = [0xb7, 0x95];
    let load = |kind: bpf_prog_type, when: u32| {
        // SAFETY: all zeros is a valid `bpf_attr`.
        let mut attr: bpf_attr = unsafe { zeroed() };
        // SAFETY: the union was just zeroed, so every view of it is initialised.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        (load.prog_type, load.expected_attach_type) = (kind as u32, when);
        (load.insns, load.insn_cnt) = (NOTHING.as_ptr() as u64, NOTHING.len() as u32);
        load.license = c"GPL".as_ptr() as u64;
        bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
    };
    // For no function: what knows the type complains of that.
    let modify = bpf_attach_type::BPF_MODIFY_RETURN as u32;
    let refused = load(bpf_prog_type::BPF_PROG_TYPE_TRACING, modify).err()?;
    // Of who may not load any program, it says nothing.
    let may_load = load(bpf_prog_type::BPF_PROG_TYPE_CGROUP_SKB, 0).is_ok();
    (may_load && refused.kind() == io::ErrorKind::PermissionDenied).then_some(refused)
}

/// The object's programs, relocated and ready to load for any number of functions.
pub(crate) struct TracingPrograms {
    object: Object,
    /// The object's own types, which the verifier wants to see of a program with callbacks.
    types: OwnedFd,
    placeholders: Placeholders,
}

/// A program that the verifier accepted for one function.
pub(crate) struct TracingProgram {
    program: String,
    function: String,
    attach_type: AttachType,
    fd: OwnedFd,
}

/// A program that is attached to a function until this is dropped.
pub(crate) struct TracingLink {
    // Held for its drop: the kernel detaches the program when the descriptor is closed.
    _link: OwnedFd,
    program: OwnedFd,
}

impl TracingPrograms {
    /// `elf` must be what `ebpf` was loaded from, and no map may have been taken out of it.
    pub(crate) fn new(
        elf: &[u8],
        ebpf: &Ebpf,
        types: &Types,
        layout: &Layout,
        trace: TraceLevel,
    ) -> Result<Self, ProgramError> {
        let damaged = |e: &dyn std::fmt::Display| ProgramError::Object(e.to_string());
        let mut object = Object::parse(elf).map_err(|e| damaged(&e))?;
        let definitions = std::mem::take(&mut object.maps);
        let (mut maps, mut tables) = (Vec::new(), HashSet::new());
        for (name, definition) in &definitions {
            let fd = match ebpf.map(name) {
                Some(
                    Map::Array(map) | Map::HashMap(map) | Map::LruHashMap(map) | Map::RingBuf(map),
                ) => map.fd().as_fd().as_raw_fd(),
                _ => return Err(ProgramError::Object(format!("map {name}"))),
            };
            maps.push((name.as_str(), fd, definition));
            if TABLES.contains(&name.as_str()) {
                tables.insert(fd);
            }
        }
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(maps.into_iter(), &text).map_err(|e| damaged(&e))?;
        object.relocate_calls(&text).map_err(|e| damaged(&e))?;
        let placeholders = Placeholders::new(layout, trace, types, tables);
        let features =
            aya::features().btf().ok_or_else(|| damaged(&"the kernel takes no types"))?;
        let types = object.fixup_and_sanitize_btf(features).map_err(|e| damaged(&e))?;
        let types = types.ok_or_else(|| damaged(&"it has no types"))?.to_bytes();
        let types = load_types(&types).map_err(|error| {
            ProgramError::Object(format!("the kernel refused its types: {error}"))
        })?;
        Ok(Self { object, types, placeholders })
    }

    /// Has the verifier check a program for the kernel function of this BTF id, and for the call
    /// that it decides about.
    pub(crate) fn load(
        &self,
        program: &str,
        (function, id): (&str, u32),
        attach_type: AttachType,
        call: Option<Syscall>,
    ) -> Result<TracingProgram, ProgramError> {
        let missing = || ProgramError::Object(format!("program {program}"));
        let parsed = self.object.programs.get(program).ok_or_else(missing)?;
        let code = self.object.functions.get(&parsed.function_key()).ok_or_else(missing)?;
        let license = CString::from(c"Dual MIT/GPL");
        // SAFETY: all zeros is a valid `bpf_attr`, as the kernel demands of unused fields.
        let mut attr: bpf_attr = unsafe { zeroed() };
        // SAFETY: the union was just zeroed, so every view of it is initialised.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        let (kind, when) = match attach_type {
            AttachType::Fentry => {
                (bpf_prog_type::BPF_PROG_TYPE_TRACING, bpf_attach_type::BPF_TRACE_FENTRY as u32)
            }
            AttachType::ModifyReturn => {
                (bpf_prog_type::BPF_PROG_TYPE_TRACING, bpf_attach_type::BPF_MODIFY_RETURN as u32)
            }
            AttachType::Kprobe => (bpf_prog_type::BPF_PROG_TYPE_KPROBE, 0),
            AttachType::RawTracepoint => (bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT, 0),
        };
        (load.prog_type, load.expected_attach_type) = (kind as u32, when);
        if kind == bpf_prog_type::BPF_PROG_TYPE_TRACING {
            load.attach_btf_id = id;
        }
        let mut instructions = code.instructions.clone();
        self.placeholders.fill(&mut instructions, call, true);
        load.insns = instructions.as_ptr() as u64;
        load.insn_cnt = code.instructions.len() as u32;
        load.license = license.as_ptr() as u64;
        let functions = code.func_info.func_info_bytes();
        load.prog_btf_fd = self.types.as_raw_fd() as u32;
        load.func_info = functions.as_ptr() as u64;
        load.func_info_rec_size = code.func_info_rec_size as u32;
        load.func_info_cnt = code.func_info.num_info;
        // The kernel keeps 15 bytes and a zero.
        for (to, from) in load.prog_name.iter_mut().take(15).zip(program.bytes()) {
            *to = from as _;
        }
        let refused = |error, log| ProgramError::Load {
            program: program.to_owned(),
            function: function.to_owned(),
            error,
            log,
        };
        let fd = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).or_else(|_| {
            // A kernel may have those functions and refuse them here: it does without.
            let mut without = code.instructions.clone();
            self.placeholders.fill(&mut without, call, false);
            instructions.copy_from_slice(&without);
            bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)
        });
        let fd = fd.or_else(|first| {
            // Once more, for the verifier's log; it costs too much to ask for in advance.
            let mut log = vec![0u8; 1 << 20];
            // SAFETY: as above.
            let load = unsafe { &mut attr.__bindgen_anon_3 };
            (load.log_level, load.log_size) = (1, log.len() as u32);
            load.log_buf = log.as_mut_ptr() as u64;
            bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map_err(|_| {
                let end = log.iter().position(|&byte| byte == 0).unwrap_or(0);
                refused(first, String::from_utf8_lossy(&log[..end]).into_owned())
            })
        })?;
        Ok(TracingProgram {
            program: program.to_owned(),
            function: function.to_owned(),
            attach_type,
            fd,
        })
    }
}

nix::ioctl_write_int!(
    /// `PERF_EVENT_IOC_SET_BPF` of `linux/perf_event.h`.
    set_program,
    b'$',
    8
);
nix::ioctl_none!(
    /// `PERF_EVENT_IOC_ENABLE`.
    enable,
    b'$',
    0
);

impl TracingProgram {
    /// Attaches it.
    pub(crate) fn attach(self) -> Result<TracingLink, ProgramError> {
        let link = match self.attach_type {
            AttachType::Fentry | AttachType::ModifyReturn => self.open(None),
            AttachType::RawTracepoint => self.open(Some(&self.function)),
            AttachType::Kprobe => self.open_kprobe(),
        };
        match link {
            Ok(link) => Ok(TracingLink { _link: link, program: self.fd }),
            Err(error) => {
                Err(ProgramError::Attach { program: self.program, function: self.function, error })
            }
        }
    }

    /// `BPF_RAW_TRACEPOINT_OPEN` does it for tracing programs, too, since 5.5, which need no name;
    /// `BPF_LINK_CREATE` only since 5.18.
    fn open(&self, name: Option<&str>) -> io::Result<OwnedFd> {
        let name = name.map(CString::new).transpose()?;
        // SAFETY: all zeros is a valid `bpf_attr`.
        let mut attr: bpf_attr = unsafe { zeroed() };
        attr.raw_tracepoint.name = name.as_ref().map_or(0, |name| name.as_ptr() as u64);
        attr.raw_tracepoint.prog_fd = self.fd.as_raw_fd() as u32;
        bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
    }

    /// A kprobe is an event of `perf_event_open(2)`, which ends with its descriptor.
    fn open_kprobe(&self) -> io::Result<OwnedFd> {
        let name = CString::new(self.function.as_str())?;
        let kind = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")?;
        // SAFETY: all zeros is a valid attribute, as the kernel demands of unused fields.
        let mut attr: perf_event_attr = unsafe { zeroed() };
        attr.type_ = kind.trim().parse().map_err(io::Error::other)?;
        attr.size = size_of::<perf_event_attr>() as u32;
        attr.__bindgen_anon_3.config1 = name.as_ptr() as u64;
        // Whatever processor is named here: the program runs on all.
        let (process, processor, group) = (-1, 0, -1);
        // SAFETY: the attribute and the name in it outlive the call.
        let event = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                process,
                processor,
                group,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, which nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(event as i32) };
        // SAFETY: both take no memory of ours.
        unsafe {
            set_program(event.as_raw_fd(), self.fd.as_raw_fd() as u64)?;
            enable(event.as_raw_fd())?;
        }
        Ok(event)
    }
}

impl TracingLink {
    /// Calls that passed unexamined since it was attached, because another thread was preempted
    /// in the same program on the same processor (`recursion_misses`, Linux 5.12).
    pub(crate) fn misses(&self) -> u64 {
        // SAFETY: all zeros is a valid value of both plain structures.
        let (mut info, mut attr): (aya_obj::generated::bpf_prog_info, bpf_attr) =
            unsafe { (zeroed(), zeroed()) };
        attr.info.bpf_fd = self.program.as_raw_fd() as u32;
        attr.info.info_len = size_of_val(&info) as u32;
        attr.info.info = std::ptr::from_mut(&mut info) as u64;
        // SAFETY: the attribute names a writable structure and its size.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as u32,
                &raw mut attr,
                size_of::<bpf_attr>(),
            )
        };
        if result == 0 { info.recursion_misses } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_verifiers_reason_is_found_in_its_log() {
        let log = "__x64_sys_write() is not modifiable\nprocessed 0 insns (limit 1000000)\n";
        assert_eq!(last_line(log), Some("__x64_sys_write() is not modifiable"));
        assert_eq!(last_line("\n"), None);
    }
}
