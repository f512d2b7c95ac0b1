//! Tables between the engine and its programs, other than rules.

use crate::{Driver, MAX_TARGETS};

/// Places in the table of targets, a power of two.
pub const TARGET_SLOTS: u32 = 2 * MAX_TARGETS;
/// How far from [`target_slot`] a target may lie.
pub const PROBES: u32 = 8;

/// The place in the table of targets at which the search for a cgroup starts. An array that both
/// sides hash into, because a kernel's hash map costs every process on the machine ten times as
/// much to miss in.
#[inline(always)]
pub fn target_slot(cgroup: u64) -> u32 {
    (cgroup.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u32 & (TARGET_SLOTS - 1)
}

/// Depths of cgroup at which targets live; see [`Control::levels`].
pub const LEVELS: usize = 4;

/// `bpf_preempt_disable`. Like the next ones a number of no helper, which stands for a kernel
/// function: the loader replaces the call by one of the function, or by nothing.
pub const PREEMPT_DISABLE: i32 = 0x7f00_0001;
/// `bpf_preempt_enable`.
pub const PREEMPT_ENABLE: i32 = 0x7f00_0002;
/// `bpf_local_irq_save`.
pub const IRQ_SAVE: i32 = 0x7f00_0003;
/// `bpf_local_irq_restore`.
pub const IRQ_RESTORE: i32 = 0x7f00_0004;
/// The functions and their placeholders.
pub const KERNEL_FUNCTIONS: [(&str, i32); 4] = [
    ("bpf_preempt_disable", PREEMPT_DISABLE),
    ("bpf_preempt_enable", PREEMPT_ENABLE),
    ("bpf_local_irq_save", IRQ_SAVE),
    ("bpf_local_irq_restore", IRQ_RESTORE),
];

/// Byte offsets of kernel structures, read from the running kernel's BTF at start. They are
/// constants to the verifier, because the map they lie in is frozen before programs are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is the structure and the member of that name")]
pub struct Layout {
    /// `pt_regs`: the system call's number, then its six arguments.
    pub regs_syscall: u32,
    pub regs_args: [u32; 6],
    pub regs_cs: u32,
    pub task_files: u32,
    pub task_fs: u32,
    pub files_fdt: u32,
    pub files_fd_array: u32,
    pub fdt_max_fds: u32,
    pub fdt_fd: u32,
    pub fs_root: u32,
    pub fs_pwd: u32,
    pub file_f_inode: u32,
    pub file_f_path: u32,
    pub file_private_data: u32,
    pub inode_i_mode: u32,
    pub inode_i_sb: u32,
    pub super_s_magic: u32,
    pub dentry_d_parent: u32,
    pub dentry_d_name: u32,
    pub qstr_name: u32,
    pub qstr_len: u32,
    pub mount_mnt: u32,
    pub mount_mnt_parent: u32,
    pub mount_mnt_mountpoint: u32,
    pub vfsmount_mnt_root: u32,
    pub socket_sk: u32,
    pub socket_type: u32,
    pub sock_family: u32,
    pub sock_daddr: u32,
    pub sock_v6_daddr: u32,
    pub sock_dport: u32,
    pub unix_addr: u32,
    pub unix_peer: u32,
    pub regs_ip: u32,
    pub regs_sp: u32,
    pub task_flags: u32,
    pub task_ptrace: u32,
    pub task_parent: u32,
    pub task_tgid: u32,
    pub task_pid: u32,
    pub task_blocked: u32,
    pub task_pending: u32,
    pub task_sighand: u32,
    pub sighand_action: u32,
    /// Size of `struct k_sigaction`, which starts with the handler.
    pub action_size: u32,
    pub inode_i_ino: u32,
    /// Address of `rename_lock.seqcount`, which changes with every rename; 0: unknown.
    pub rename_sequence: u64,
}

impl Layout {
    /// All zeros; a constant, as a `static` needs.
    pub const ZERO: Self = Self {
        regs_syscall: 0,
        regs_args: [0; 6],
        regs_cs: 0,
        task_files: 0,
        task_fs: 0,
        files_fdt: 0,
        files_fd_array: 0,
        fdt_max_fds: 0,
        fdt_fd: 0,
        fs_root: 0,
        fs_pwd: 0,
        file_f_inode: 0,
        file_f_path: 0,
        file_private_data: 0,
        inode_i_mode: 0,
        inode_i_sb: 0,
        super_s_magic: 0,
        dentry_d_parent: 0,
        dentry_d_name: 0,
        qstr_name: 0,
        qstr_len: 0,
        mount_mnt: 0,
        mount_mnt_parent: 0,
        mount_mnt_mountpoint: 0,
        vfsmount_mnt_root: 0,
        socket_sk: 0,
        socket_type: 0,
        sock_family: 0,
        sock_daddr: 0,
        sock_v6_daddr: 0,
        sock_dport: 0,
        unix_addr: 0,
        unix_peer: 0,
        regs_ip: 0,
        regs_sp: 0,
        task_flags: 0,
        task_ptrace: 0,
        task_parent: 0,
        task_tgid: 0,
        task_pid: 0,
        task_blocked: 0,
        task_pending: 0,
        task_sighand: 0,
        sighand_action: 0,
        action_size: 0,
        inode_i_ino: 0,
        rename_sequence: 0,
    };
}

/// Switches that user space writes into mapped memory while programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Depths of the cgroups that are targets (the root is 0), each plus one; 0 ends the list.
    pub levels: [u32; LEVELS],
    /// Thread whose `getpgid(2)` the probe program fails; 0: nobody's.
    pub probe_tid: u32,
    /// Process id of the tracer that parks threads; 0: there is none.
    pub tracer: u32,
    /// Non-zero while threads may be parked or about to be: calls are looked up in the table of
    /// parked threads.
    pub parks: u32,
    /// Where this structure lies in the kernel's memory; programs write it. 0: not yet known.
    pub here: u64,
    /// Calls that a delay should have hit and did not, because their thread could not be parked.
    pub undelayed: u64,
    /// Records that found no room in the ring buffer.
    pub dropped: u64,
    /// Calls with a rule whose path was not in memory, and which ran for that reason.
    pub unread: u64,
}

/// An entry of the table of targets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetSlot {
    /// The cgroup's id; 0: no target has ever been here, so a search ends; 1, which is no
    /// target's: one has been.
    pub cgroup: u64,
    /// The target.
    pub info: TargetInfo,
}

/// A target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetInfo {
    /// Where the driver's connections come from.
    pub driver: Driver,
    /// Index of the target.
    pub index: u32,
    /// To be zero; keeps the size a multiple of eight.
    pub reserved: u32,
}
