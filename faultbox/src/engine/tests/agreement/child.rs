//! The process inside the cgroup, which makes the calls that it is told to.

use std::{
    ffi::CString,
    io::{PipeReader, PipeWriter, Read as _, Write as _},
    num::NonZeroUsize,
    os::fd::{AsRawFd as _, RawFd},
    path::Path,
    ptr::NonNull,
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::{
    super::subject::result,
    world::{World, address},
};

/// Calls that can be ordered at once.
pub(super) const BATCH: usize = 32;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Deed {
    /// One byte to the descriptor.
    Write,
    /// One byte from the start.
    Read,
    PositionedWrite,
    PositionedRead,
    Sync,
    /// The path, relative to the descriptor, to read.
    Open,
    /// The same to write, and made if it is missing.
    Create,
    /// A new stream socket to the address.
    Connect,
    Send,
    Receive,
}

/// An order: a deed with the numbers of what it works on.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Order {
    pub(super) deed: Deed,
    /// Index into the world's descriptors.
    pub(super) descriptor: usize,
    /// Index into the world's spellings of paths, or of addresses.
    pub(super) which: usize,
}

#[repr(C)]
struct Page {
    count: usize,
    orders: [Order; BATCH],
    results: [i64; BATCH],
}

pub(super) struct Child {
    pid: i32,
    page: NonNull<Page>,
    go: Option<PipeWriter>,
    done: PipeReader,
}

fn size() -> NonZeroUsize {
    NonZeroUsize::new(size_of::<Page>()).unwrap()
}

impl Child {
    pub(super) fn start(cgroup: &Path, world: &World) -> Self {
        let procs = cgroup.join("cgroup.procs");
        let procs = CString::new(procs.as_os_str().as_encoded_bytes()).unwrap();
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping, shared with the child only.
        let page = unsafe { mmap_anonymous(None, size(), prot, MapFlags::MAP_SHARED) }.unwrap();
        let page = page.cast::<Page>();
        let (wait, go) = std::io::pipe().unwrap();
        let (done, tell) = std::io::pipe().unwrap();
        // SAFETY: the child makes plain system calls and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(go);
            // SAFETY: plain calls on our own buffers and descriptors; nothing here allocates.
            unsafe {
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY);
                let entered = libc::write(fd, c"0".as_ptr().cast(), 1) == 1;
                libc::close(fd);
                if entered && world.settle() {
                    serve(page.as_ptr(), world, wait.as_raw_fd(), tell.as_raw_fd());
                }
                libc::_exit(1)
            }
        }
        let mut child = Self { pid, page, go: Some(go), done };
        drop((wait, tell));
        child.done.read_exact(&mut [0]).expect("the child is ready");
        child
    }

    /// Has the calls made and returns what each one returned.
    pub(super) fn make(&self, orders: &[Order]) -> Vec<i64> {
        // SAFETY: the child looks at the page only between our byte and its own.
        let page = unsafe { &mut *self.page.as_ptr() };
        page.count = orders.len();
        page.orders[..orders.len()].copy_from_slice(orders);
        self.go.as_ref().unwrap().write_all(b"x").unwrap();
        (&self.done).read_exact(&mut [0]).expect("the child has died");
        page.results[..orders.len()].to_vec()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.go = None;
        let mut status = 0;
        // SAFETY: our own child and mapping.
        unsafe {
            libc::waitpid(self.pid, &raw mut status, 0);
            let _ = munmap(self.page.cast(), size().get());
        }
    }
}

/// Serves orders until there are no more. Both pipes are unnamed, so no rule can hit them.
unsafe fn serve(page: *mut Page, world: &World, wait: RawFd, tell: RawFd) -> ! {
    // SAFETY: as above.
    unsafe {
        let mut byte = 0u8;
        libc::write(tell, (&raw const byte).cast(), 1);
        // What is opened from here on is closed again.
        let first = libc::dup(tell);
        libc::close(first);
        while libc::read(wait, (&raw mut byte).cast(), 1) == 1 {
            let page = &mut *page;
            for i in 0..page.count.min(BATCH) {
                page.results[i] = obey(&page.orders[i], world, first);
            }
            libc::write(tell, (&raw const byte).cast(), 1);
        }
        libc::_exit(0)
    }
}

unsafe fn obey(order: &Order, world: &World, first: RawFd) -> i64 {
    let fd = world.descriptor(order.descriptor);
    let mut byte = *b"x";
    let buffer = byte.as_mut_ptr().cast::<libc::c_void>();
    // SAFETY: as above.
    unsafe {
        match order.deed {
            Deed::Write => result(libc::write(fd, buffer, 1) as i64),
            Deed::Read => {
                libc::lseek(fd, 0, libc::SEEK_SET);
                result(libc::read(fd, buffer, 1) as i64)
            }
            Deed::PositionedWrite => result(libc::pwrite(fd, buffer, 1, 0) as i64),
            Deed::PositionedRead => result(libc::pread(fd, buffer, 1, 0) as i64),
            Deed::Sync => result(libc::fsync(fd).into()),
            Deed::Open | Deed::Create => {
                let flags = match order.deed {
                    Deed::Open => libc::O_RDONLY,
                    _ => libc::O_WRONLY | libc::O_CREAT,
                };
                // A copy on the stack: what was never touched may not be in memory.
                let mut path = [0u8; 512];
                let from = world.spelling(order.which);
                path[..from.len()].copy_from_slice(from);
                let opened = libc::syscall(
                    libc::SYS_openat,
                    i64::from(fd),
                    path.as_ptr(),
                    i64::from(flags),
                    0o600i64,
                );
                let opened = result(opened);
                if (i64::from(first)..900).contains(&opened) {
                    libc::close(opened as i32);
                }
                opened
            }
            Deed::Connect => {
                let (address, length) = address(world.address(order.which));
                let family = i32::from(address.ss_family);
                let socket = libc::socket(family, libc::SOCK_STREAM, 0);
                let connected =
                    result(libc::connect(socket, (&raw const address).cast(), length).into());
                libc::close(socket);
                connected
            }
            Deed::Send => result(libc::send(fd, buffer, 1, libc::MSG_DONTWAIT) as i64),
            Deed::Receive => result(libc::recv(fd, buffer, 1, libc::MSG_DONTWAIT) as i64),
        }
    }
}
