//! A program that does nothing, on the function that serves `write(2)`: what the kernel itself asks for any program
//! there, whoever calls.

use std::{
    fs, io,
    mem::zeroed,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type};

const FUNCTION: &str =
    if cfg!(target_arch = "aarch64") { "__arm64_sys_write" } else { "__x64_sys_write" };

/// Attaches the program, until the descriptor is closed. Fails where the kernel has no `BPF_MODIFY_RETURN` for the
/// function.
pub(crate) fn attach() -> Result<OwnedFd> {
    let types = fs::read("/sys/kernel/btf/vmlinux").context("the kernel's types")?;
    let id = function(&types, FUNCTION).with_context(|| format!("no function {FUNCTION}"))?;
    // `r0 = 0; exit`: bpf_common.h and bpf.h, BPF_ALU64 | BPF_MOV | BPF_K and BPF_JMP | BPF_EXIT.
    let program = [0xb7, 0x95].map(|code| {
        // SAFETY: all zeros is a valid instruction: plain numbers.
        let mut instruction: bpf_insn = unsafe { zeroed() };
        instruction.code = code;
        instruction
    });
    // SAFETY: all zeros is a valid `bpf_attr`, as the kernel demands of unused fields.
    let mut attr: bpf_attr = unsafe { zeroed() };
    // SAFETY: the union was just zeroed, so every view of it is initialised.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
    load.expected_attach_type = bpf_attach_type::BPF_MODIFY_RETURN as u32;
    load.attach_btf_id = id;
    load.insns = program.as_ptr() as u64;
    load.insn_cnt = program.len() as u32;
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    let program = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).context("loading an empty program")?;
    // SAFETY: as above.
    let mut attr: bpf_attr = unsafe { zeroed() };
    attr.raw_tracepoint.prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr).context("attaching an empty program")
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is a live union of that size, and what it points to outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size_of::<bpf_attr>())
    };
    match result {
        // SAFETY: both commands used here return a new descriptor, which nobody else owns.
        fd if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The id of a function in the kernel's own description of its types
/// (<https://docs.kernel.org/bpf/btf.html>).
fn function(btf: &[u8], name: &str) -> Option<u32> {
    let word = |at: usize| {
        btf.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
    };
    let header = word(4)? as usize;
    let (types, length) = (header + word(8)? as usize, word(12)? as usize);
    let strings = header + word(16)? as usize;
    let (mut at, mut id) = (types, 1);
    while at < types + length {
        let (text, info) = (strings + word(at)? as usize, word(at + 4)?);
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let is_named = |text: &[u8]| {
            text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(&[0]))
        };
        // BTF_KIND_FUNC.
        if kind == 12 && is_named(btf.get(text..)?) {
            return Some(id);
        }
        at += 12
            + match kind {
                // INT, VAR, DECL_TAG; ARRAY; STRUCT, UNION, DATASEC, ENUM64; ENUM, FUNC_PROTO.
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => members * 12,
                6 | 13 => members * 8,
                _ => 0,
            };
        id += 1;
    }
    None
}
