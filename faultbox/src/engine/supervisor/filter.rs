//! Which calls stop: a classic BPF program for `seccomp(2)`.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF, sock_filter, sock_fprog,
};

use crate::engine::Syscall;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// `AUDIT_ARCH_*` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;

/// Calls that are never trapped. A new process stops itself with `tgkill` before anyone answers
/// its calls, and `futex` is how the C library's locks wait: programs that cannot take a lock say
/// nothing about their code.
const NEVER: &[&str] = &["futex", "tgkill"];

/// Calls by which a process may come to see the file system from another root than ours. They
/// are always trapped and never denied: without one, no path needs to be translated.
const ROOT_CHANGES: &[libc::c_long] = &[libc::SYS_chroot, libc::SYS_pivot_root, libc::SYS_setns];

/// Whether the call with this number is one of those.
pub(super) fn changes_root(number: u32) -> bool {
    ROOT_CHANGES.contains(&number.into())
}

/// Traps a set of calls of this architecture. Calls by a foreign entry (i386, x32) have other
/// numbers and go untouched.
///
/// Other calls cost nothing on Linux 5.11 and later: the kernel runs the program once per number
/// when it is installed, and remembers which ones it always lets go (`seccomp_cache_prepare`).
/// Before, they cost a binary search.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Filter {
    program: Vec<sock_filter>,
}

impl Filter {
    /// A filter that traps these calls, less those that [`Filter::can_trap`] refuses.
    pub(in crate::engine) fn new(syscalls: &[Syscall]) -> Self {
        let trapped = syscalls.iter().filter(|syscall| Self::can_trap(**syscall));
        let mut numbers: Vec<u32> = trapped.map(|syscall| syscall.number()).collect();
        numbers.extend(ROOT_CHANGES.iter().map(|number| *number as u32));
        numbers.sort_unstable();
        numbers.dedup();
        let mut program = vec![
            load(ARCHITECTURE),
            jump(BPF_JEQ, OURS, 1, 0),
            ret(SECCOMP_RET_ALLOW),
            load(NUMBER),
        ];
        program.append(&mut search(&borders(&numbers), false));
        Self { program }
    }

    /// Whether the supervisor can serve rules on a call.
    pub(in crate::engine) fn can_trap(syscall: Syscall) -> bool {
        !NEVER.contains(&syscall.name())
    }

    /// The program as `seccomp(2)` takes it; valid while `self` is.
    pub(in crate::engine) fn program(&self) -> sock_fprog {
        sock_fprog { len: self.program.len() as u16, filter: self.program.as_ptr().cast_mut() }
    }
}

/// The numbers at which "trapped" begins or ends to hold, in turns.
fn borders(sorted: &[u32]) -> Vec<u32> {
    let mut borders = Vec::new();
    for &number in sorted {
        if borders.last() == Some(&number) {
            borders.pop();
        } else {
            borders.push(number);
        }
        borders.push(number + 1);
    }
    borders
}

/// Searches for the loaded number between the borders; below the first, `trapped` holds.
fn search(borders: &[u32], trapped: bool) -> Vec<sock_filter> {
    if borders.is_empty() {
        return vec![ret(if trapped { SECCOMP_RET_USER_NOTIF } else { SECCOMP_RET_ALLOW })];
    }
    let middle = borders.len() / 2;
    let (below, above) = (&borders[..middle], &borders[middle + 1..]);
    let mut low = search(below, trapped);
    // Each border flips the answer.
    let mut high = search(above, trapped ^ (middle.is_multiple_of(2)));
    let skip = u8::try_from(low.len()).expect("jumps reach over half of all calls' borders");
    let mut program = vec![jump(BPF_JGE, borders[middle], skip, 0)];
    program.append(&mut low);
    program.append(&mut high);
    program
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn ret(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, action)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(condition: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | condition | BPF_K) as u16, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would. Returns the action and the number of steps.
    fn run(filter: &Filter, architecture: u32, number: u32) -> (u32, usize) {
        let (mut at, mut accumulator) = (0, 0);
        for step in 1..=filter.program.len() {
            let instruction = filter.program[at];
            let k = instruction.k;
            at += 1;
            let holds = match u32::from(instruction.code) & !BPF_K {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    accumulator = if k == NUMBER { number } else { architecture };
                    continue;
                }
                code if code == BPF_RET => return (k, step),
                code if code == BPF_JMP | BPF_JEQ => accumulator == k,
                code if code == BPF_JMP | BPF_JGE => accumulator >= k,
                code => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if holds { instruction.jt } else { instruction.jf });
        }
        panic!("the program does not end");
    }

    fn calls(names: &[&str]) -> Vec<Syscall> {
        names.iter().map(|name| Syscall::from_name(name).unwrap()).collect()
    }

    #[test]
    fn exactly_the_named_calls_are_trapped() {
        let every_second = Syscall::all().filter(|s| s.number() % 2 == 0).collect();
        let sets = [
            vec![],
            calls(&["read"]),
            calls(&["write", "fsync", "connect"]),
            Syscall::all().filter(|s| s.is_observed()).collect(),
            every_second,
            Syscall::all().collect(),
        ];
        for set in sets {
            let filter = Filter::new(&set);
            for number in 0..1024 {
                let named = Syscall::from_number(number)
                    .is_some_and(|s| set.contains(&s) && Filter::can_trap(s));
                let expected = named || changes_root(number);
                let (action, steps) = run(&filter, OURS, number);
                assert_eq!(action == SECCOMP_RET_USER_NOTIF, expected, "{number} of {set:?}");
                assert!(expected || action == SECCOMP_RET_ALLOW);
                assert!(steps <= 12, "{steps} steps for {number}");
            }
        }
    }

    const I386: u32 = 0x4000_0003;
    const X32: u32 = 0x4000_0000;

    #[test]
    fn calls_by_a_foreign_entry_go_untouched() {
        let filter = Filter::new(&Syscall::all().collect::<Vec<_>>());
        for number in 0..512 {
            assert_eq!(run(&filter, I386, number).0, SECCOMP_RET_ALLOW);
            assert_eq!(run(&filter, OURS, X32 | number).0, SECCOMP_RET_ALLOW);
        }
    }

    #[test]
    fn what_a_process_needs_before_anyone_answers_is_never_trapped() {
        let filter = Filter::new(&calls(&["futex", "tgkill", "write"]));
        for call in calls(&["futex", "tgkill"]) {
            assert!(!Filter::can_trap(call));
            assert_eq!(run(&filter, OURS, call.number()).0, SECCOMP_RET_ALLOW);
        }
        for number in [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn] {
            assert_eq!(run(&filter, OURS, number as u32).0, SECCOMP_RET_ALLOW);
        }
    }
}
