//! Byte offsets of structure members, from the running kernel's own type information.
//!
//! The format is `Documentation/bpf/btf.rst`. Only what offsets need is read: aya's parser keeps
//! its types to itself, and there is no maintained permissive crate that gives members.

use std::{collections::HashMap, fs, path::Path};

use faultbox_common::Layout;

/// Where kernels since 5.4 with `CONFIG_DEBUG_INFO_BTF` put it.
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why there are no offsets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BtfError {
    #[error("cannot read {VMLINUX}: {0} (the kernel needs CONFIG_DEBUG_INFO_BTF=y)")]
    Read(std::io::Error),
    #[error("{VMLINUX} is damaged or of an unknown format")]
    Format,
    #[error("{VMLINUX} has no {0}.{1}, which this version of faultbox relies on")]
    Missing(&'static str, &'static str),
}

/// Why the kernel's types cannot be used, if so.
pub(crate) fn check_types() -> Result<(), String> {
    Types::of_kernel().and_then(|types| types.layout()).map(drop).map_err(|it| it.to_string())
}

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_FUNC: u32 = 12;

/// A parsed type section: the positions of all types, and of structures and functions by name.
pub(crate) struct Types {
    data: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Position of each type in `data`, by id; id 0 is `void`.
    positions: Vec<usize>,
    structures: HashMap<String, usize>,
    functions: HashMap<String, u32>,
}

impl Types {
    /// Those of the running kernel.
    pub(crate) fn of_kernel() -> Result<Self, BtfError> {
        Self::parse(fs::read(Path::new(VMLINUX)).map_err(BtfError::Read)?).ok_or(BtfError::Format)
    }

    fn parse(data: Vec<u8>) -> Option<Self> {
        const MAGIC: u16 = 0xeb9f;
        if u16::from_le_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let word = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?));
        let header = word(4)? as usize;
        let section = |offset, length| {
            let start = header + word(offset)? as usize;
            Some(start..start + word(length)? as usize)
        };
        let (types, strings) = (section(8, 12)?, section(16, 20)?);
        data.get(strings.clone())?;
        let mut this = Self {
            positions: vec![0],
            structures: HashMap::new(),
            functions: HashMap::new(),
            strings,
            data: Vec::new(),
        };
        let mut at = types.start;
        while at < types.end {
            let info = word(at + 4)?;
            let (count, kind) = ((info & 0xffff) as usize, info >> 24 & 0x1f);
            let name = || string(&data, &this.strings, word(at)?).map(str::to_owned);
            match kind {
                KIND_STRUCT | KIND_UNION => {
                    this.structures.entry(name()?).or_insert(at);
                }
                KIND_FUNC => {
                    let id = this.positions.len() as u32;
                    this.functions.entry(name()?).or_insert(id);
                }
                _ => {}
            }
            this.positions.push(at);
            at += 12
                + match kind {
                    1 | 14 | 17 => 4, // INT, VAR, DECL_TAG
                    KIND_ARRAY => 12,
                    KIND_STRUCT | KIND_UNION | 15 | 19 => count * 12, // DATASEC, ENUM64
                    6 | 13 => count * 8,                              // ENUM, FUNC_PROTO
                    2..=18 => 0,
                    _ => return None,
                };
        }
        this.data = data;
        Some(this)
    }

    /// Id of the function of that name, to attach to.
    pub(crate) fn function(&self, name: &str) -> Option<u32> {
        self.functions.get(name).copied()
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.data.get(at..at + 4)?.try_into().ok()?))
    }

    /// Offset of a member in the structure at `position`, also in its anonymous members: on
    /// 6.12 and later `file.f_path` and `dentry.d_name` lie in such.
    fn member(&self, position: usize, member: &str) -> Option<u32> {
        let info = self.word(position + 4)?;
        let has_bitfields = info >> 31 == 1;
        for i in 0..(info & 0xffff) as usize {
            let at = position + 12 + i * 12;
            let mut bits = self.word(at + 8)?;
            if has_bitfields {
                bits &= 0xff_ffff;
            }
            let name = string(&self.data, &self.strings, self.word(at)?)?;
            if name == member {
                return Some(bits / 8);
            }
            if name.is_empty()
                && let Some(inner) = self.aggregate(self.word(at + 4)?)
                && let Some(offset) = self.member(inner, member)
            {
                return Some(offset + bits / 8);
            }
        }
        None
    }

    /// Position of the structure or union that a type is, behind qualifiers and names.
    fn aggregate(&self, id: u32) -> Option<usize> {
        let mut position = *self.positions.get(id as usize)?;
        // A chain of qualifiers is short; a longer one is damage.
        for _ in 0..16 {
            match self.word(position + 4)? >> 24 & 0x1f {
                KIND_STRUCT | KIND_UNION => return Some(position),
                8..=11 | 18 => {
                    position = *self.positions.get(self.word(position + 8)? as usize)?;
                }
                _ => return None,
            }
        }
        None
    }

    fn offset(&self, of: &'static str, member: &'static str) -> Result<u32, BtfError> {
        self.structures
            .get(of)
            .and_then(|position| self.member(*position, member))
            .ok_or(BtfError::Missing(of, member))
    }

    /// Bytes of a structure.
    fn size(&self, of: &'static str) -> Result<u32, BtfError> {
        let position = self.structures.get(of);
        position.and_then(|at| self.word(at + 8)).ok_or(BtfError::Missing(of, "its size"))
    }

    /// All offsets that the programs need.
    pub(crate) fn layout(&self) -> Result<Layout, BtfError> {
        let common = |member| self.offset("sock_common", member);
        if (self.offset("path", "mnt")?, self.offset("path", "dentry")?) != (0, 8) {
            return Err(BtfError::Missing("path", "the layout that the programs read"));
        }
        Ok(Layout {
            regs_syscall: self.offset("pt_regs", registers::SYSCALL)?,
            regs_args: registers::arguments(self)?,
            regs_cs: registers::code_segment(self)?,
            task_files: self.offset("task_struct", "files")?,
            task_fs: self.offset("task_struct", "fs")?,
            files_fdt: self.offset("files_struct", "fdt")?,
            files_fdtab: self.offset("files_struct", "fdtab")?,
            files_fd_array: self.offset("files_struct", "fd_array")?,
            fdt_max_fds: self.offset("fdtable", "max_fds")?,
            fdt_fd: self.offset("fdtable", "fd")?,
            fs_root: self.offset("fs_struct", "root")?,
            fs_pwd: self.offset("fs_struct", "pwd")?,
            file_f_inode: self.offset("file", "f_inode")?,
            file_f_path: self.offset("file", "f_path")?,
            file_f_dentry: self.offset("file", "f_path")? + self.offset("path", "dentry")?,
            file_private_data: self.offset("file", "private_data")?,
            inode_i_mode: self.offset("inode", "i_mode")?,
            inode_i_sb: self.offset("inode", "i_sb")?,
            super_s_magic: self.offset("super_block", "s_magic")?,
            dentry_d_parent: self.offset("dentry", "d_parent")?,
            dentry_d_name: self.offset("dentry", "d_name")?,
            qstr_name: self.offset("qstr", "name")?,
            qstr_len: self.offset("qstr", "len")?,
            mount_mnt: self.offset("mount", "mnt")?,
            mount_mnt_parent: self.offset("mount", "mnt_parent")?,
            mount_mnt_mountpoint: self.offset("mount", "mnt_mountpoint")?,
            vfsmount_mnt_root: self.offset("vfsmount", "mnt_root")?,
            socket_sk: self.offset("socket", "sk")?,
            socket_type: self.offset("socket", "type")?,
            sock_family: common("skc_family")?,
            sock_daddr: common("skc_daddr")?,
            sock_v6_daddr: common("skc_v6_daddr")?,
            sock_v6_daddr_low: common("skc_v6_daddr")? + 8,
            sock_dport: common("skc_dport")?,
            unix_addr: self.offset("unix_sock", "addr")?,
            unix_peer: self.offset("unix_sock", "peer")?,
            regs_ip: self.offset("pt_regs", registers::INSTRUCTION)?,
            regs_sp: self.offset("pt_regs", "sp")?,
            task_flags: self.offset("task_struct", "flags")?,
            task_thread_pid: self.offset("task_struct", "thread_pid")?,
            pid_level: self.offset("pid", "level")?,
            pid_numbers: self.offset("pid", "numbers")?,
            task_ptrace: self.offset("task_struct", "ptrace")?,
            task_parent: self.offset("task_struct", "parent")?,
            task_tgid: self.offset("task_struct", "tgid")?,
            task_pid: self.offset("task_struct", "pid")?,
            task_blocked: self.offset("task_struct", "blocked")?,
            task_pending: self.offset("task_struct", "pending")?
                + self.offset("sigpending", "signal")?,
            task_sighand: self.offset("task_struct", "sighand")?,
            sighand_action: self.offset("sighand_struct", "action")?
                + self.offset("k_sigaction", "sa")?
                + self.offset("sigaction", "sa_handler")?,
            action_size: self.size("k_sigaction")?,
            inode_i_ino: self.offset("inode", "i_ino")?,
        })
    }
}

/// Address of the kernel's `rename_lock`, whose first member is the sequence count. `None` without
/// the privilege to see addresses; the programs then look at less when they remember a path.
pub(crate) fn rename_sequence() -> Option<u64> {
    let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
    let line = symbols.lines().find(|line| line.ends_with(" rename_lock"))?;
    u64::from_str_radix(line.split(' ').next()?, 16).ok()
}

fn string<'a>(data: &'a [u8], strings: &std::ops::Range<usize>, at: u32) -> Option<&'a str> {
    let text = data.get(strings.start + at as usize..strings.end)?;
    let len = text.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&text[..len]).ok()
}

/// Where the registers of a system call are: `arch/x86/entry/entry_64.S`.
#[cfg(target_arch = "x86_64")]
mod registers {
    use super::{BtfError, Types};

    pub(super) const SYSCALL: &str = "orig_ax";
    pub(super) const INSTRUCTION: &str = "ip";

    pub(super) fn arguments(types: &Types) -> Result<[u32; 6], BtfError> {
        let mut offsets = [0; 6];
        for (offset, register) in offsets.iter_mut().zip(["di", "si", "dx", "r10", "r8", "r9"]) {
            *offset = types.offset("pt_regs", register)?;
        }
        Ok(offsets)
    }

    pub(super) fn code_segment(types: &Types) -> Result<u32, BtfError> {
        types.offset("pt_regs", "cs")
    }
}

/// Where the registers of a system call are: `arch/arm64/include/asm/ptrace.h`.
#[cfg(target_arch = "aarch64")]
mod registers {
    use super::{BtfError, Types};

    pub(super) const SYSCALL: &str = "syscallno";
    pub(super) const INSTRUCTION: &str = "pc";

    pub(super) fn arguments(types: &Types) -> Result<[u32; 6], BtfError> {
        let registers = types.offset("pt_regs", "regs")?;
        // The body may have overwritten x0 by the time a hook further in runs.
        let first = types.offset("pt_regs", "orig_x0")?;
        Ok([first, registers + 8, registers + 16, registers + 24, registers + 32, registers + 40])
    }

    pub(super) fn code_segment(_: &Types) -> Result<u32, BtfError> {
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernels_layout_is_found() {
        let types = Types::of_kernel().unwrap();
        let layout = types.layout().unwrap();
        // Part of the user ABI, so known: `struct pt_regs` of x86-64 has `orig_ax` at 120.
        #[cfg(target_arch = "x86_64")]
        assert_eq!((layout.regs_syscall, layout.regs_args[0]), (120, 112));
        assert!(layout.task_files > 0 && layout.file_f_path > 0);
        assert!(types.function("vfs_read").is_some());
    }

    #[test]
    fn damage_is_refused_and_never_panics() {
        let good = fs::read(VMLINUX).unwrap();
        for cut in [0, 1, 23, 24, 100, 4097, good.len() / 2] {
            assert!(Types::parse(good[..cut].to_vec()).is_none(), "cut at {cut}");
        }
        let mut wild = good[..4096.min(good.len())].to_vec();
        for byte in wild.iter_mut().skip(2) {
            *byte = 0xff;
        }
        assert!(Types::parse(wild).is_none());
    }
}
