//! Opening a file with one `openat(2)`.

use crate::system_call::checked;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Opens `path` with `flags` (`O_CLOEXEC` is added); a file that is created gets mode 0644.
///
/// std repeats `open` for as long as it returns `EINTR`, which under an injected `EINTR` is for
/// ever, so the call is made here, once.
///
/// # Errors
/// Whatever `openat(2)` returned.
pub fn open(path: &CStr, flags: libc::c_int) -> io::Result<File> {
    let mode: libc::c_uint = 0o644;
    // SAFETY: the path ends with NUL and outlives the call, and a mode is given in case that
    // `flags` has O_CREAT.
    let fd = unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    checked(fd)?;
    // SAFETY: `openat` returned this descriptor, and nothing else holds it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
