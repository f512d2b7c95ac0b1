//! Children that make system calls inside a cgroup and report what came back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A cgroup of the test's own, removed at the end.
pub(super) struct TestCgroup(PathBuf);

impl TestCgroup {
    pub(super) fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let root = mount.split(' ').nth(4).unwrap();
        let path = Path::new(root).join(format!("faultbox-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn child(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // Children are reaped by then; the kernel may need a moment to notice.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// What a child reports: results of calls, `-errno` for failures.
pub(super) type Results = [i64; 64];

/// The result of a call as the kernel gave it.
pub(super) fn result(value: i64) -> i64 {
    if value >= 0 {
        value
    } else {
        -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

/// Runs `calls` in a child inside the cgroup, and returns what it wrote to the results.
///
/// The child is forked from a process with threads, so `calls` must not allocate or lock.
pub(super) fn inside(cgroup: &Path, calls: impl FnOnce(&mut Results)) -> Results {
    let procs = cgroup.join("cgroup.procs");
    let procs = std::ffi::CString::new(procs.as_os_str().as_encoded_bytes()).unwrap();
    let size = std::num::NonZeroUsize::new(size_of::<Results>()).unwrap();
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh mapping, shared with the child only.
    let page = unsafe { mmap_anonymous(None, size, prot, MapFlags::MAP_SHARED) }.unwrap();
    // SAFETY: the child makes plain system calls and exits.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: the mapping is large enough, zeroed and the child's alone for now.
            let results = unsafe { page.cast::<Results>().as_mut() };
            // SAFETY: plain calls on our own buffers.
            let entered = unsafe {
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY);
                let entered = libc::write(fd, c"0".as_ptr().cast(), 1);
                libc::close(fd);
                entered
            };
            if entered == 1 {
                calls(results);
            }
            // SAFETY: no destructors or handlers of the parent must run here.
            unsafe { libc::_exit(i32::from(entered != 1)) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: our own child.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            assert_eq!(status, 0, "the child could not enter its cgroup or died");
            // SAFETY: the child has ended and the mapping is ours again.
            let results = unsafe { *page.cast::<Results>().as_ref() };
            // SAFETY: mapped above, and no longer referred to.
            unsafe { munmap(page, size.get()) }.unwrap();
            results
        }
    }
}
