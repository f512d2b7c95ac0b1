//! Where the results of a session go: to who reads them, and to a file.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
};

use serde_json::Value;

use crate::report::{Document, Terminal};

/// Where results go, whether or not somebody reads them to the end. `head` and `grep -q` close
/// what they read from when they have seen enough; the exit code still says how the tests ended.
pub(super) struct Patient<W> {
    pub(super) out: W,
    pub(super) is_gone: bool,
}

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_gone {
            return Ok(bytes.len());
        }
        match self.out.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.is_gone = true;
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.out.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}

/// Where results go.
pub(super) struct Results<'a> {
    pub(super) terminal: Terminal<&'a mut dyn Write>,
    pub(super) document: Option<Document>,
}

/// Writes the JSON document where it is wanted. A file is there as a whole, or as it was before.
pub(super) fn write_document(
    document: &Value,
    out: Option<&mut dyn Write>,
    file: Option<&Path>,
) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    if let Some(out) = out {
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    let Some(path) = file else { return Ok(()) };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })
}
