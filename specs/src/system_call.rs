//! The return value of a system call as a `Result`.

use std::io;

/// Turns -1 into the error that the call left in `errno`. To be asked at once: the next call may
/// leave another.
pub(crate) fn checked(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
