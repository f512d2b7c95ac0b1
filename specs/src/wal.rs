//! A write-ahead log that is only ever appended to.

use crate::file;
use crate::system_call::checked;
use std::ffi::CStr;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsRawFd;

/// Appends `record` to the file at `path`: `openat`, one `write`, `fsync`, `close`.
///
/// `fsync` is called bare because std repeats it for as long as it returns `EINTR`. The result
/// of `close` is not looked at: after a successful `fsync` it has nothing to say of the record.
///
/// # Errors
/// [`WalError`], naming the call that failed. A short `write` counts as failed; the part that
/// was written stays in the file, as it would in a real log before recovery.
pub fn append(path: &CStr, record: &[u8]) -> Result<(), WalError> {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_APPEND;
    let mut log = file::open(path, flags).map_err(|source| WalError::new("open", &source))?;
    let taken = log.write(record).map_err(|source| WalError::new("write", &source))?;
    if taken != record.len() {
        return Err(WalError {
            call: "write",
            reason: format!("only {taken} of {} bytes were taken", record.len()),
        });
    }
    // SAFETY: no pointers; the descriptor is open.
    checked(unsafe { libc::fsync(log.as_raw_fd()) })
        .map_err(|source| WalError::new("fsync", &source))
}

/// Which call of an [`append`] failed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalError {
    call: &'static str,
    reason: String,
}

impl WalError {
    fn new(call: &'static str, source: &io::Error) -> Self {
        // io::Error prints the text of strerror(3) and then the number; clients of this service
        // get the text alone.
        let text = source.to_string();
        let reason = match text.rfind(" (os error ") {
            Some(at) => text[..at].to_owned(),
            None => text,
        };
        Self { call, reason }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.reason)
    }
}

impl std::error::Error for WalError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn path(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    #[test]
    fn records_are_appended_to_a_file_of_mode_0644() {
        let name = std::env::temp_dir().join(format!("faultbox-wal-{}.test", std::process::id()));
        let name = name.to_str().unwrap().to_owned();
        let _ = fs::remove_file(&name);
        append(&path(&name), b"one\n").unwrap();
        append(&path(&name), b"two\n").unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"one\ntwo\n");
        let mode = fs::metadata(&name).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0);
        assert_eq!(mode & 0o600, 0o600);
        fs::remove_file(&name).unwrap();
    }

    #[test]
    fn the_failed_call_is_named_with_the_plain_text_of_its_error() {
        let error = append(&path("/no/such/directory/x.wal"), b"one\n").unwrap_err();
        assert_eq!(error.to_string(), "open: No such file or directory");
        let error = append(&path("/dev/full"), b"one\n").unwrap_err();
        assert_eq!(error.to_string(), "write: No space left on device");
        let error = append(&path("/dev/null"), b"one\n").unwrap_err();
        assert_eq!(error.to_string(), "fsync: Invalid argument");
    }
}
