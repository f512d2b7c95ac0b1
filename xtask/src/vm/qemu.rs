//! One run of QEMU: starts it, passes the guest's output on while it comes, and says how it ended.
//!
//! Nothing of a run is on disk: the guest's files are in a memfd, its output, exit status and console come through
//! pipes. QEMU dies with us, however we die. So there is nothing to clean up.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// How long QEMU may take to end after the guest has reported its exit status.
const GRACE: Duration = Duration::from_secs(10);
/// How much of the kernel's console is kept, from its end.
const CONSOLE_BYTES: usize = 1 << 20;

/// The machine to start.
pub(super) struct Machine<'a> {
    /// The kernel's bzImage.
    pub(super) kernel: &'a Path,
    /// The initramfs, positioned anywhere.
    pub(super) initramfs: &'a File,
    /// Whether the host's files are offered over 9p.
    pub(super) host_root: bool,
    /// RAM as QEMU takes it, such as `3G`.
    pub(super) memory: &'a str,
    /// One CPU whose clock counts instructions, instead of two in real time.
    pub(super) icount: bool,
    /// The whole run's limit.
    pub(super) timeout: Duration,
}

/// How a run ended.
pub(super) struct Ended {
    /// The command's exit status; `None` if the guest did not live to tell.
    pub(super) status: Option<u8>,
    /// Whether the limit passed first.
    pub(super) timed_out: bool,
    /// The end of what the kernel printed on its console, and QEMU on its stderr.
    pub(super) console: String,
}

enum Event {
    Output(Vec<u8>),
    Console(Vec<u8>),
    Status(Vec<u8>),
    /// One of the four pipes has ended.
    End,
}

/// Runs the machine until it turns itself off; `lines` gets the command's output while it comes, in whole lines.
pub(super) fn run(machine: &Machine, mut lines: impl FnMut(&[u8])) -> Result<Ended> {
    let deadline = Instant::now() + machine.timeout;
    let pipes = [io::pipe()?, io::pipe()?, io::pipe()?];
    let [(output, to_output), (status, to_status), (console, to_console)] = pipes;
    let mut child = start(machine, [&to_output, &to_status, &to_console])?;
    drop((to_output, to_status, to_console));

    let (sender, events) = mpsc::channel();
    forward(output, &sender, Event::Output);
    forward(status, &sender, Event::Status);
    forward(console, &sender, Event::Console);
    forward_errors(child.stderr.take(), &sender);
    drop(sender);

    let mut guest = Guest::default();
    let mut deadline = deadline;
    let mut open = 4;
    while open > 0 {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Output(bytes)) => guest.output(&bytes, &mut lines),
            Ok(Event::Console(bytes)) => guest.console(&bytes),
            Ok(Event::Status(bytes)) => {
                guest.status.extend(bytes);
                deadline = deadline.min(Instant::now() + GRACE);
            }
            Ok(Event::End) => open -= 1,
            Err(RecvTimeoutError::Timeout) => {
                guest.timed_out = guest.exit_status().is_none();
                child.kill().context("cannot kill QEMU")?;
                // Its end closes the pipes, and what they still hold comes first.
                deadline = Instant::now() + GRACE;
                ensure!(!guest.killed, "QEMU does not die");
                guest.killed = true;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    child.wait().context("cannot wait for QEMU")?;
    guest.finish(&mut lines);
    Ok(Ended {
        status: guest.exit_status(),
        timed_out: guest.timed_out,
        console: String::from_utf8_lossy(&guest.console).into_owned(),
    })
}

fn start(machine: &Machine, pipes: [&PipeWriter; 3]) -> Result<Child> {
    let initramfs = machine.initramfs.as_raw_fd();
    let descriptors = pipes.map(PipeWriter::as_raw_fd);
    let mut qemu = Command::new("qemu-system-x86_64");
    // Software emulation always: /dev/kvm may exist and hang all the same.
    qemu.args([
        "-accel",
        if machine.icount { "tcg" } else { "tcg,thread=multi" },
        "-cpu",
        "max",
        "-m",
        machine.memory,
    ]);
    if machine.icount {
        qemu.args(["-icount", "shift=0,sleep=off", "-smp", "1"]);
    } else {
        qemu.args(["-smp", "2"]);
    }
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.arg("-kernel")
        .arg(machine.kernel)
        .args(["-initrd", &format!("/proc/self/fd/{initramfs}")]);
    // A panic or an oops ends the guest at once instead of leaving it half alive.
    // Without `no_timer_check` a guest on a busy host panics when its timer is late at boot.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 oops=panic no_timer_check"]);
    for (name, fd) in ["output", "status", "console"].into_iter().zip(descriptors) {
        qemu.args(["-chardev", &format!("file,id={name},path=/proc/self/fd/{fd}")]);
    }
    qemu.args(["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
    qemu.args([
        "-device",
        "virtserialport,chardev=output,nr=1",
        "-device",
        "virtserialport,chardev=status,nr=2",
    ]);
    if machine.host_root {
        qemu.args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ]);
    }
    qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let ours = std::process::id();
    // SAFETY: the closure only makes system calls that are safe between fork and exec, and allocates nothing.
    unsafe {
        qemu.pre_exec(move || {
            descriptors.into_iter().chain([initramfs]).try_for_each(keep_over_exec)?;
            die_with(ours)
        });
    }
    qemu.spawn().context("cannot start qemu-system-x86_64; `cargo xtask setup --vm` installs it")
}

fn keep_over_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: fcntl with F_SETFD touches no memory.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Has the kernel kill this process when the thread that forked it ends (prctl(2), `PR_SET_PDEATHSIG`).
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a number, and getppid nothing.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before the line above.
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
    }
    Ok(())
}

fn forward(mut pipe: PipeReader, sender: &Sender<Event>, event: fn(Vec<u8>) -> Event) {
    let sender = sender.clone();
    thread::spawn(move || pass(|buffer| pipe.read(buffer), &sender, event));
}

fn forward_errors(stderr: Option<ChildStderr>, sender: &Sender<Event>) {
    let sender = sender.clone();
    thread::spawn(move || match stderr {
        Some(mut stderr) => pass(|buffer| stderr.read(buffer), &sender, Event::Console),
        None => drop(sender.send(Event::End)),
    });
}

fn pass(
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    sender: &Sender<Event>,
    event: fn(Vec<u8>) -> Event,
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            // The receiver lives until all four pipes have ended.
            Ok(count) => drop(sender.send(event(buffer[..count].to_vec()))),
        }
    }
    let _ = sender.send(Event::End);
}

/// What has come from the guest so far.
#[derive(Default)]
struct Guest {
    unfinished: Vec<u8>,
    console: Vec<u8>,
    status: Vec<u8>,
    timed_out: bool,
    killed: bool,
}

impl Guest {
    fn output(&mut self, bytes: &[u8], lines: &mut impl FnMut(&[u8])) {
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            self.unfinished.extend(bytes);
            return;
        };
        self.unfinished.extend(&bytes[..=end]);
        lines(&self.unfinished);
        self.unfinished.clear();
        self.unfinished.extend(&bytes[end + 1..]);
    }

    fn console(&mut self, bytes: &[u8]) {
        self.console.extend(bytes);
        let excess = self.console.len().saturating_sub(CONSOLE_BYTES);
        self.console.drain(..excess);
    }

    fn finish(&mut self, lines: &mut impl FnMut(&[u8])) {
        if !self.unfinished.is_empty() {
            lines(&std::mem::take(&mut self.unfinished));
        }
    }

    /// The number that the guest has written, with a newline behind it, on its port for the exit status.
    fn exit_status(&self) -> Option<u8> {
        std::str::from_utf8(&self.status).ok()?.strip_suffix('\n')?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_passed_on_wherever_the_pipe_cuts_them() {
        let (mut guest, mut seen) = (Guest::default(), Vec::new());
        let mut lines = |bytes: &[u8]| seen.push(String::from_utf8(bytes.to_vec()).unwrap());
        for part in ["on", "e\ntwo\nth", "", "ree\n\nend"] {
            guest.output(part.as_bytes(), &mut lines);
        }
        guest.finish(&mut lines);
        assert_eq!(seen, ["one\ntwo\n", "three\n\n", "end"]);
    }

    #[test]
    fn half_an_exit_status_is_none() {
        let mut guest = Guest::default();
        guest.status.extend(b"12");
        assert_eq!(guest.exit_status(), None);
        guest.status.extend(b"5\n");
        assert_eq!(guest.exit_status(), Some(125));
    }

    #[test]
    fn the_console_keeps_its_end() {
        let mut guest = Guest::default();
        guest.console(&vec![b'a'; CONSOLE_BYTES]);
        guest.console(b"panic");
        assert_eq!(guest.console.len(), CONSOLE_BYTES);
        assert!(guest.console.ends_with(b"panic"));
    }
}
