//! Where the results of a session go: to who reads them, and to a file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
};

use super::{message::show_status, progress::Progress};
use crate::report::{AllTimings, Document, Failures, FinishedRun, Junit, MatrixReport, Terminal};

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
        // Both may be the same terminal.
        show_status(None);
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
    pub(super) junit: Option<Junit>,
    pub(super) timings: Option<AllTimings>,
    pub(super) failures: Failures,
    pub(super) progress: Option<Progress>,
    pub(super) tally: Tally,
}

/// How many runs have come to which end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Results<'_> {
    /// A run has ended; the next one in order.
    pub(super) fn add(&mut self, run: &FinishedRun) {
        *if run.has_passed() { &mut self.tally.passed } else { &mut self.tally.failed } += 1;
        self.failures.add(run);
        if let Some(document) = &mut self.document {
            document.test(run);
        }
        if let Some(junit) = &mut self.junit {
            junit.add(run);
        }
        if let Some(timings) = &mut self.timings {
            timings.add(run.timings);
        }
        if let Some(progress) = &mut self.progress {
            progress.add(run);
        }
    }

    /// A matrix, of which all has been run that will be.
    pub(super) fn matrix(&mut self, matrix: &MatrixReport) -> io::Result<()> {
        if let Some(document) = &mut self.document {
            document.matrix(matrix);
        }
        self.terminal.matrix(matrix)
    }
}

/// Writes a file by `write`. It is there as a whole afterwards, or as it was before. What is no
/// file, such as a pipe or `/dev/stderr`, is written to as it is.
pub(super) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|it| !it.is_file()) {
        return File::options().write(true).open(path).and_then(|mut file| write(&mut file));
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let written = File::create(&unfinished).and_then(|file| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.into_inner()?.sync_data()
    });
    let written = written.and_then(|()| fs::rename(&unfinished, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })
}
