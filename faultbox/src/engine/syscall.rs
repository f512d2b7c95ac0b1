//! System calls: names, numbers, and what each one works on. Data, not code: a call that is
//! missing here is added by one line.

use std::fmt;

use faultbox_common::Operand;

/// A system call of this architecture that faultbox can observe and fault.
///
/// Left out on purpose are the calls that no program can survive failing or that are not calls
/// in the ordinary sense: `exit`, `exit_group`, `rt_sigreturn`, `restart_syscall`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall(u16);

/// One line of the table.
struct Entry {
    name: &'static str,
    number: u32,
    operand: Operand,
    argument: u32,
    observed: bool,
    security: &'static [&'static str],
}

impl Syscall {
    /// The call of that name, as in `syscalls(2)`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().position(|entry| entry.name == name).map(|i| Self(i as u16))
    }

    /// The call with that number on this architecture.
    pub fn from_number(number: u32) -> Option<Self> {
        TABLE.iter().position(|entry| entry.number == number).map(|i| Self(i as u16))
    }

    /// Every call there is, in the table's order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TABLE.len()).map(|i| Self(i as u16))
    }

    fn entry(self) -> &'static Entry {
        &TABLE[usize::from(self.0)]
    }

    /// The name, as in `syscalls(2)`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The number on this architecture (`unistd.h`).
    pub fn number(self) -> u32 {
        self.entry().number
    }

    /// What kind of thing the call works on, and which argument names it, from 0.
    pub fn operand(self) -> (Operand, u32) {
        (self.entry().operand, self.entry().argument)
    }

    /// Whether calls of every service are recorded, faulted or not (language.md 1.9.6).
    pub fn is_observed(self) -> bool {
        self.entry().observed
    }

    /// The `security_*` functions that the call passes through before it has any effect, as
    /// found in the kernel's `security/security.c` and its callers. Some exist only in some
    /// versions; a call passes through one at least of those that exist.
    pub fn security_functions(self) -> &'static [&'static str] {
        self.entry().security
    }

    /// The function in the kernel that serves the call: `arch/*/include/asm/syscall_wrapper.h`.
    pub fn entry_function(self) -> String {
        let prefix = if cfg!(target_arch = "aarch64") { "__arm64_sys_" } else { "__x64_sys_" };
        // Three calls are served by a function of an older or newer name.
        let name = match self.name() {
            "sendfile" => "sendfile64",
            "stat" => "newstat",
            "lstat" => "newlstat",
            "fstat" => "newfstat",
            "uname" => "newuname",
            name => name,
        };
        format!("{prefix}{name}")
    }
}

impl fmt::Debug for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Syscall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Keywords that cover several calls, with exactly the calls they cover (language.md 1.9.3).
pub const FAMILIES: &[(&str, &[&str])] = &[
    ("write", &["write", "writev", "pwrite64"]),
    ("read", &["read", "readv", "pread64"]),
    ("fsync", &["fsync", "fdatasync"]),
    ("sendto", &["sendto", "sendmsg"]),
    ("recvfrom", &["recvfrom", "recvmsg"]),
    ("open", &["open", "openat"]),
];

/// The calls that a keyword covers: those of the family of that name that this architecture
/// has, else the call itself; `None` when there is neither.
pub fn expand_keyword(keyword: &str) -> Option<Vec<Syscall>> {
    if let Some((_, members)) = FAMILIES.iter().find(|(name, _)| *name == keyword) {
        return Some(members.iter().filter_map(|name| Syscall::from_name(name)).collect());
    }
    Syscall::from_name(keyword).map(|syscall| vec![syscall])
}

macro_rules! table {
    ($($(#[$cfg:meta])* $name:ident = $number:ident, $operand:ident($argument:literal), $observed:ident, [$($hook:literal),*];)*) => {
        static TABLE: &[Entry] = &[$(
            $(#[$cfg])*
            Entry {
                name: stringify!($name),
                number: libc::$number as u32,
                operand: Operand::$operand,
                argument: $argument,
                observed: table!(@$observed),
                security: &[$($hook),*],
            },
        )*];
    };
    (@observed) => { true };
    (@unobserved) => { false };
}

table! {
    // Reading and writing.
    read = SYS_read, Fd(0), observed, ["security_file_permission"];
    readv = SYS_readv, Fd(0), observed, ["security_file_permission"];
    pread64 = SYS_pread64, Fd(0), observed, ["security_file_permission"];
    preadv = SYS_preadv, Fd(0), observed, ["security_file_permission"];
    preadv2 = SYS_preadv2, Fd(0), observed, ["security_file_permission"];
    write = SYS_write, Fd(0), observed, ["security_file_permission"];
    writev = SYS_writev, Fd(0), observed, ["security_file_permission"];
    pwrite64 = SYS_pwrite64, Fd(0), observed, ["security_file_permission"];
    pwritev = SYS_pwritev, Fd(0), observed, ["security_file_permission"];
    pwritev2 = SYS_pwritev2, Fd(0), observed, ["security_file_permission"];
    sendfile = SYS_sendfile, Fd(0), observed, ["security_file_permission"];
    splice = SYS_splice, Fd(2), observed, ["security_file_permission"];
    copy_file_range = SYS_copy_file_range, Fd(2), observed, ["security_file_permission"];
    lseek = SYS_lseek, Fd(0), unobserved, [];
    getdents64 = SYS_getdents64, Fd(0), unobserved, ["security_file_permission"];
    readahead = SYS_readahead, Fd(0), unobserved, [];
    vmsplice = SYS_vmsplice, Fd(0), unobserved, [];
    tee = SYS_tee, Fd(0), unobserved, [];
    // Keeping what was written.
    fsync = SYS_fsync, Fd(0), observed, [];
    fdatasync = SYS_fdatasync, Fd(0), observed, [];
    #[cfg(target_arch = "x86_64")] sync_file_range = SYS_sync_file_range, Fd(0), observed, [];
    syncfs = SYS_syncfs, Fd(0), unobserved, [];
    sync = SYS_sync, None(0), unobserved, [];
    msync = SYS_msync, None(0), unobserved, [];
    fallocate = SYS_fallocate, Fd(0), unobserved, ["security_file_permission"];
    ftruncate = SYS_ftruncate, Fd(0), observed, ["security_path_truncate", "security_file_truncate"];
    truncate = SYS_truncate, Path(0), unobserved, ["security_path_truncate"];
    fadvise64 = SYS_fadvise64, Fd(0), unobserved, [];
    // Files by name.
    #[cfg(target_arch = "x86_64")] open = SYS_open, Path(0), observed, ["security_inode_create", "security_file_open"];
    openat = SYS_openat, PathAt(1), observed, ["security_inode_create", "security_file_open"];
    openat2 = SYS_openat2, PathAt(1), observed, ["security_inode_create", "security_file_open"];
    #[cfg(target_arch = "x86_64")] creat = SYS_creat, Path(0), unobserved, ["security_inode_create", "security_file_open"];
    close = SYS_close, Fd(0), unobserved, [];
    #[cfg(target_arch = "x86_64")] stat = SYS_stat, Path(0), unobserved, ["security_inode_getattr"];
    #[cfg(target_arch = "x86_64")] lstat = SYS_lstat, Path(0), unobserved, ["security_inode_getattr"];
    fstat = SYS_fstat, Fd(0), unobserved, ["security_inode_getattr"];
    newfstatat = SYS_newfstatat, PathAt(1), unobserved, ["security_inode_getattr"];
    statx = SYS_statx, PathAt(1), unobserved, ["security_inode_getattr"];
    statfs = SYS_statfs, Path(0), unobserved, ["security_sb_statfs"];
    fstatfs = SYS_fstatfs, Fd(0), unobserved, ["security_sb_statfs"];
    #[cfg(target_arch = "x86_64")] access = SYS_access, Path(0), unobserved, ["security_inode_permission"];
    faccessat = SYS_faccessat, PathAt(1), unobserved, ["security_inode_permission"];
    faccessat2 = SYS_faccessat2, PathAt(1), unobserved, ["security_inode_permission"];
    #[cfg(target_arch = "x86_64")] readlink = SYS_readlink, Path(0), unobserved, ["security_inode_readlink"];
    readlinkat = SYS_readlinkat, PathAt(1), unobserved, ["security_inode_readlink"];
    #[cfg(target_arch = "x86_64")] unlink = SYS_unlink, Path(0), observed, ["security_inode_unlink"];
    unlinkat = SYS_unlinkat, PathAt(1), observed, ["security_inode_unlink", "security_inode_rmdir"];
    #[cfg(target_arch = "x86_64")] rmdir = SYS_rmdir, Path(0), unobserved, ["security_inode_rmdir"];
    #[cfg(target_arch = "x86_64")] rename = SYS_rename, Path(0), observed, ["security_inode_rename"];
    #[cfg(target_arch = "x86_64")] renameat = SYS_renameat, PathAt(1), observed, ["security_inode_rename"];
    renameat2 = SYS_renameat2, PathAt(1), observed, ["security_inode_rename"];
    #[cfg(target_arch = "x86_64")] mkdir = SYS_mkdir, Path(0), observed, ["security_inode_mkdir"];
    mkdirat = SYS_mkdirat, PathAt(1), observed, ["security_inode_mkdir"];
    #[cfg(target_arch = "x86_64")] link = SYS_link, Path(0), unobserved, ["security_inode_link"];
    linkat = SYS_linkat, PathAt(1), unobserved, ["security_inode_link"];
    #[cfg(target_arch = "x86_64")] symlink = SYS_symlink, Path(1), unobserved, ["security_inode_symlink"];
    symlinkat = SYS_symlinkat, PathAt(2), unobserved, ["security_inode_symlink"];
    #[cfg(target_arch = "x86_64")] mknod = SYS_mknod, Path(0), unobserved, ["security_inode_mknod"];
    mknodat = SYS_mknodat, PathAt(1), unobserved, ["security_inode_mknod"];
    #[cfg(target_arch = "x86_64")] chmod = SYS_chmod, Path(0), unobserved, ["security_inode_setattr"];
    fchmod = SYS_fchmod, Fd(0), unobserved, ["security_inode_setattr"];
    fchmodat = SYS_fchmodat, PathAt(1), unobserved, ["security_inode_setattr"];
    #[cfg(target_arch = "x86_64")] chown = SYS_chown, Path(0), unobserved, ["security_inode_setattr"];
    #[cfg(target_arch = "x86_64")] lchown = SYS_lchown, Path(0), unobserved, ["security_inode_setattr"];
    fchown = SYS_fchown, Fd(0), unobserved, ["security_inode_setattr"];
    fchownat = SYS_fchownat, PathAt(1), unobserved, ["security_inode_setattr"];
    utimensat = SYS_utimensat, PathAt(1), unobserved, ["security_inode_setattr"];
    chdir = SYS_chdir, Path(0), unobserved, ["security_inode_permission"];
    fchdir = SYS_fchdir, Fd(0), unobserved, ["security_inode_permission"];
    flock = SYS_flock, Fd(0), unobserved, ["security_file_lock"];
    fcntl = SYS_fcntl, Fd(0), unobserved, ["security_file_fcntl"];
    ioctl = SYS_ioctl, Fd(0), unobserved, ["security_file_ioctl"];
    // Sockets.
    connect = SYS_connect, Address(1), observed, ["security_socket_connect"];
    accept = SYS_accept, Fd(0), observed, ["security_socket_accept"];
    accept4 = SYS_accept4, Fd(0), observed, ["security_socket_accept"];
    sendto = SYS_sendto, Fd(0), observed, ["security_socket_sendmsg"];
    sendmsg = SYS_sendmsg, Fd(0), observed, ["security_socket_sendmsg"];
    sendmmsg = SYS_sendmmsg, Fd(0), observed, ["security_socket_sendmsg"];
    recvfrom = SYS_recvfrom, Fd(0), observed, ["security_socket_recvmsg"];
    recvmsg = SYS_recvmsg, Fd(0), observed, ["security_socket_recvmsg"];
    recvmmsg = SYS_recvmmsg, Fd(0), observed, ["security_socket_recvmsg"];
    socket = SYS_socket, None(0), unobserved, ["security_socket_create"];
    socketpair = SYS_socketpair, None(0), unobserved, ["security_socket_create"];
    bind = SYS_bind, Fd(0), unobserved, ["security_socket_bind"];
    listen = SYS_listen, Fd(0), observed, ["security_socket_listen"];
    shutdown = SYS_shutdown, Fd(0), unobserved, ["security_socket_shutdown"];
    getsockopt = SYS_getsockopt, Fd(0), unobserved, ["security_socket_getsockopt"];
    setsockopt = SYS_setsockopt, Fd(0), unobserved, ["security_socket_setsockopt"];
    getsockname = SYS_getsockname, Fd(0), unobserved, ["security_socket_getsockname"];
    getpeername = SYS_getpeername, Fd(0), unobserved, ["security_socket_getpeername"];
    // Waiting.
    #[cfg(target_arch = "x86_64")] poll = SYS_poll, None(0), unobserved, [];
    ppoll = SYS_ppoll, None(0), unobserved, [];
    #[cfg(target_arch = "x86_64")] select = SYS_select, None(0), unobserved, [];
    pselect6 = SYS_pselect6, None(0), unobserved, [];
    epoll_create1 = SYS_epoll_create1, None(0), unobserved, [];
    epoll_ctl = SYS_epoll_ctl, None(0), unobserved, [];
    #[cfg(target_arch = "x86_64")] epoll_wait = SYS_epoll_wait, None(0), unobserved, [];
    epoll_pwait = SYS_epoll_pwait, None(0), unobserved, [];
    epoll_pwait2 = SYS_epoll_pwait2, None(0), unobserved, [];
    nanosleep = SYS_nanosleep, None(0), unobserved, [];
    clock_nanosleep = SYS_clock_nanosleep, None(0), unobserved, [];
    futex = SYS_futex, None(0), unobserved, [];
    io_uring_setup = SYS_io_uring_setup, None(0), unobserved, [];
    io_uring_enter = SYS_io_uring_enter, None(0), observed, [];
    io_uring_register = SYS_io_uring_register, None(0), unobserved, [];
    eventfd2 = SYS_eventfd2, None(0), unobserved, [];
    #[cfg(target_arch = "x86_64")] pipe = SYS_pipe, None(0), unobserved, [];
    pipe2 = SYS_pipe2, None(0), unobserved, [];
    // Memory.
    mmap = SYS_mmap, Fd(4), unobserved, ["security_mmap_file"];
    munmap = SYS_munmap, None(0), unobserved, [];
    mprotect = SYS_mprotect, None(0), unobserved, ["security_file_mprotect"];
    mremap = SYS_mremap, None(0), unobserved, [];
    madvise = SYS_madvise, None(0), unobserved, [];
    brk = SYS_brk, None(0), unobserved, [];
    mlock = SYS_mlock, None(0), unobserved, [];
    memfd_create = SYS_memfd_create, None(0), unobserved, [];
    // Processes.
    clone = SYS_clone, None(0), unobserved, ["security_task_alloc"];
    clone3 = SYS_clone3, None(0), unobserved, ["security_task_alloc"];
    #[cfg(target_arch = "x86_64")] fork = SYS_fork, None(0), unobserved, ["security_task_alloc"];
    #[cfg(target_arch = "x86_64")] vfork = SYS_vfork, None(0), unobserved, ["security_task_alloc"];
    execve = SYS_execve, Path(0), unobserved, ["security_bprm_check"];
    execveat = SYS_execveat, PathAt(1), unobserved, ["security_bprm_check"];
    wait4 = SYS_wait4, None(0), unobserved, [];
    waitid = SYS_waitid, None(0), unobserved, [];
    kill = SYS_kill, None(0), unobserved, ["security_task_kill"];
    tkill = SYS_tkill, None(0), unobserved, ["security_task_kill"];
    tgkill = SYS_tgkill, None(0), unobserved, ["security_task_kill"];
    getpid = SYS_getpid, None(0), unobserved, [];
    getppid = SYS_getppid, None(0), unobserved, [];
    getrandom = SYS_getrandom, None(0), unobserved, [];
    getrusage = SYS_getrusage, None(0), unobserved, [];
    #[cfg(target_arch = "x86_64")] setrlimit = SYS_setrlimit, None(0), unobserved, ["security_task_setrlimit"];
    prlimit64 = SYS_prlimit64, None(0), unobserved, ["security_task_prlimit", "security_task_setrlimit"];
    uname = SYS_uname, None(0), unobserved, [];
    sysinfo = SYS_sysinfo, None(0), unobserved, [];
    clock_gettime = SYS_clock_gettime, None(0), unobserved, [];
    gettimeofday = SYS_gettimeofday, None(0), unobserved, [];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_the_same_call() {
        for syscall in Syscall::all() {
            assert_eq!(Syscall::from_name(syscall.name()), Some(syscall));
            assert_eq!(Syscall::from_number(syscall.number()), Some(syscall));
            assert!((syscall.number() as usize) < faultbox_common::MAX_SYSCALLS);
            assert!(syscall.operand().1 < 6);
        }
    }

    #[test]
    fn numbers_are_the_kernels() {
        assert_eq!(i64::from(Syscall::from_name("write").unwrap().number()), libc::SYS_write);
        assert_eq!(i64::from(Syscall::from_name("openat").unwrap().number()), libc::SYS_openat);
    }

    #[test]
    fn families_cover_what_the_contract_lists() {
        let names = |keyword| -> Vec<_> {
            expand_keyword(keyword).unwrap().into_iter().map(Syscall::name).collect()
        };
        assert_eq!(names("write"), ["write", "writev", "pwrite64"]);
        assert_eq!(names("fsync"), ["fsync", "fdatasync"]);
        assert_eq!(names("pwritev2"), ["pwritev2"]);
        assert_eq!(expand_keyword("wirte"), None);
    }
}
