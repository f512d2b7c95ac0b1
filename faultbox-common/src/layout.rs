//! Tables between the engine and its programs, other than rules.

use crate::MAX_TARGETS;

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

/// A load at this offset or behind it is at another one, which the loader writes into the
/// instruction: that of the field with the number by which it is behind. A field that is in
/// memory would take four more instructions, each time.
pub const FIELDS: usize = 0x7000;
/// The number of a constant that the loader writes into the instruction, likewise.
pub const CONSTANTS: usize = 0x7e00_0000;

/// Fields that are no members of [`Layout`], whose own are numbered by their places in it. The
/// register with the operand of the call that a program is loaded for.
pub const FIELD_OPERAND: usize = size_of::<Layout>() / 4;
/// The register before that.
pub const FIELD_DIRECTORY: usize = FIELD_OPERAND + 1;
/// As a constant: the call's number.
pub const FIELD_NUMBER: usize = FIELD_OPERAND + 2;
/// The call's place among the sets of a target.
pub const FIELD_SET: usize = FIELD_OPERAND + 3;
/// As a constant: how much is recorded.
pub const FIELD_TRACE: usize = FIELD_OPERAND + 4;
/// Descriptor 0 in `files_struct.fd_array`, then the others.
pub const FIELD_DESCRIPTORS: usize = FIELD_OPERAND + 5;
/// `NR_OPEN_DEFAULT` of a 64-bit kernel, `include/linux/fdtable.h`.
pub const DESCRIPTORS: usize = 64;

/// Arrays that lie in one element of a map each, so that the loader can write their addresses into
/// programs: looking an element up would take eight instructions more, each time.
pub const TABLES: [&str; 12] = [
    "CONTROL", "COUNTS", "DRIVERS", "GLOBS", "KINDS", "PLACES", "RULES", "SCOPES", "SETS",
    "SET_OF", "TARGETS", "WHOSE",
];

/// Byte offsets of kernel structures, read from the running kernel's BTF at start.
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
    pub files_fdtab: u32,
    pub files_fd_array: u32,
    pub fdt_max_fds: u32,
    pub fdt_fd: u32,
    pub fs_root: u32,
    pub fs_pwd: u32,
    pub file_f_inode: u32,
    pub file_f_path: u32,
    /// The dentry in it.
    pub file_f_dentry: u32,
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
    /// Its second half.
    pub sock_v6_daddr_low: u32,
    pub sock_dport: u32,
    pub unix_addr: u32,
    pub unix_peer: u32,
    pub regs_ip: u32,
    pub regs_sp: u32,
    pub task_flags: u32,
    pub task_thread_pid: u32,
    pub pid_level: u32,
    pub pid_numbers: u32,
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
}

/// Switches that user space writes into mapped memory while programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Another number after each change of `levels` or the table of targets: see
    /// [`Whose`].
    pub epoch: u64,
    /// Depths of the cgroups that are targets (the root is 0), each plus one; 0 ends the list.
    pub levels: [u32; LEVELS],
    /// Thread whose `getpgid(2)` the probe program fails; 0: nobody's.
    pub probe_tid: u32,
    /// Process id of the tracer that parks threads; 0: there is none.
    pub tracer: u32,
    /// Non-zero while threads may be parked or about to be: calls are looked up in the table of
    /// parked threads.
    pub parks: u32,
    /// Address of `rename_lock.seqcount`, which changes with every rename; 0: unknown.
    pub rename_sequence: u64,
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
    /// Index of the target.
    pub index: u32,
    /// Non-zero where somebody else starts the processes, as in a container: until one begins its
    /// program it is that somebody's. See [`Whose::FOREIGN`].
    pub foreign: u32,
}

/// Places in the table of remembered answers, a power of two.
pub const WHOSE_SLOTS: usize = 1 << 12;

/// Whose the processes of one cgroup are, as remembered in one word: the upper bits tell which
/// cgroup's and as of which [`Control::epoch`], the lower [`Self::BITS`] are the answer.
///
/// Ids of cgroups are never given twice and a cgroup never moves below another one, so an answer
/// is right for as long as the epoch is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose(u64);

impl Whose {
    /// Of the lower part.
    pub const BITS: u32 = 16;
    /// Added to the index of a target whose processes somebody else starts.
    pub const FOREIGN: u64 = MAX_TARGETS as u64;
    /// An answer: no target's. Others are indices of targets, or [`Self::FOREIGN`] and an index.
    pub const NOBODY: u64 = 2 * MAX_TARGETS as u64;

    /// Of a cgroup.
    ///
    /// While the epoch is the same, no two cgroups whose ids differ by less than 2⁴⁶ have upper
    /// bits in common: multiples of the golden ratio lie that far apart.
    #[inline(always)]
    pub fn of(cgroup: u64, epoch: u64) -> Self {
        Self(cgroup.wrapping_add(epoch).wrapping_mul(SPREAD))
    }

    /// Where its word is.
    #[inline(always)]
    pub fn slot(self) -> u64 {
        self.0 >> (u64::BITS - WHOSE_SLOTS.trailing_zeros())
    }

    /// The answer in a word; more than [`Self::NOBODY`] if the word is another's, or nobody's
    /// yet: zero is no answer.
    #[inline(always)]
    pub fn answer(self, word: u64) -> u64 {
        (word ^ self.0 >> Self::BITS << Self::BITS).wrapping_sub(1)
    }

    /// The word for an answer.
    #[inline(always)]
    pub fn word(self, answer: u64) -> u64 {
        self.0 >> Self::BITS << Self::BITS | (answer + 1)
    }
}

/// 2⁶⁴ divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// By how much an epoch differs from the next: so much that what is remembered of an old one is
/// not taken for an answer of a new one.
pub const EPOCH: u64 = 0xd1b5_4a32_d192_ed03;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_of_one_cgroup_and_one_epoch() {
        for answer in [0, 1, Whose::NOBODY - 1, Whose::NOBODY] {
            let whose = Whose::of(4711, EPOCH);
            assert_eq!(whose.answer(whose.word(answer)), answer);
            assert!(Whose::of(4712, EPOCH).answer(whose.word(answer)) > Whose::NOBODY);
            assert!(
                Whose::of(4711, EPOCH.wrapping_mul(2)).answer(whose.word(answer)) > Whose::NOBODY
            );
        }
        assert!(Whose::of(1, EPOCH).answer(0) > Whose::NOBODY, "nothing is known yet");
        assert!(Whose::of(1, EPOCH).slot() < WHOSE_SLOTS as u64);
    }

    #[test]
    fn ids_that_are_near_each_other_are_told_apart() {
        let upper = |difference: u64| difference.wrapping_mul(SPREAD) >> Whose::BITS;
        // The nearest that multiples come to zero are at the denominators of the convergents.
        let (mut a, mut b) = (1_u64, 1_u64);
        while b < 1 << 46 {
            assert!(upper(b) != 0 && upper(b.wrapping_neg()) != 0, "{b}");
            assert!(upper(b) != u64::MAX >> Whose::BITS, "{b}");
            (a, b) = (b, a + b);
        }
    }
}
