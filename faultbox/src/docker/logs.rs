//! What a container says, copied as it comes.

use std::{io, os::fd::OwnedFd, pin::Pin};

use bollard::{
    container::LogOutput,
    errors::Error,
    models::ContainerStateStatusEnum as Status,
    query_parameters::{AttachContainerOptions, LogsOptions},
};
use futures_util::{Stream, StreamExt as _};
use tokio::{io::AsyncWriteExt as _, net::unix::pipe::Sender};

use super::{Docker, DockerError};

/// What a line may have, in bytes, before it is passed on without its end.
const LONGEST: usize = 64 * 1024;

/// Pieces of what a container says.
type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

impl Docker {
    /// Copies a container's standard output and standard error, from its beginning to its end,
    /// into a pipe, in the background, line by line. The pipe is closed at the end; if its reader
    /// is closed, the copying ends.
    ///
    /// Best between creation and start: then every byte comes as the container writes it. Of one
    /// that was started before, Docker's log is read from its beginning, and followed; what that
    /// holds depends on the logging driver, and the usual one keeps bytes that are no UTF-8 as
    /// replacement characters.
    pub(crate) fn follow(&self, id: &str, out: OwnedFd) -> Result<(), DockerError> {
        let details = self.block(self.details(id))?;
        let status = details.state.and_then(|it| it.status);
        let driver = details.host_config.and_then(|it| it.log_config?.typ);
        let system = |error| DockerError::System {
            what: format!("copy the output of container {id}"),
            error,
        };
        let output = if status == Some(Status::CREATED) {
            self.block(self.attach(id))?
        } else if driver.as_deref() == Some("none") {
            let why = "its logging driver is none, so Docker keeps nothing of it";
            return Err(system(io::Error::other(why)));
        } else {
            self.log(id)
        };
        // Its readiness is waited for by the runtime, so it is registered there.
        let out = self.block(async { Sender::from_owned_fd(out) }).map_err(system)?;
        self.spawn(copy(output, out));
        Ok(())
    }

    /// Everything from now on.
    async fn attach(&self, id: &str) -> Result<Output, DockerError> {
        let options = AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = self.api.attach_container(id, Some(options));
        let attached = self.answer(|| format!("attach to container {id}"), attached).await?;
        let mut output = attached.output;
        // Both directions are one connection, which is closed with either.
        let input = attached.input;
        Ok(Box::pin(futures_util::stream::poll_fn(move |context| {
            let _ = &input;
            output.as_mut().poll_next(context)
        })))
    }

    /// Everything that was said, and from now on.
    fn log(&self, id: &str) -> Output {
        let options =
            LogsOptions { follow: true, stdout: true, stderr: true, ..LogsOptions::default() };
        Box::pin(self.api.logs(id, Some(options)))
    }
}

async fn copy(mut output: Output, mut out: Sender) {
    let mut lines = Lines::default();
    while let Some(piece) = output.next().await {
        let piece = match piece {
            Ok(piece) => lines.add(piece),
            Err(error) => {
                // Whoever reads it has to know that this is not all.
                let text = format!("[faultbox: the rest of the output is lost: {error}]\n");
                [lines.end(), text.into()].concat()
            }
        };
        // The reader is gone.
        if out.write_all(&piece).await.is_err() {
            return;
        }
    }
    // At the end nobody is told that it could not be written.
    let _ = out.write_all(&lines.end()).await;
}

/// Makes one stream of two. They come in pieces of any length, so what is no whole line yet waits
/// for its end: else the other stream's would come in between.
#[derive(Default)]
struct Lines {
    /// Of standard output and of standard error.
    begun: [Vec<u8>; 2],
}

impl Lines {
    /// Takes a piece; returns what can be passed on.
    fn add(&mut self, piece: LogOutput) -> Vec<u8> {
        let stream = usize::from(matches!(piece, LogOutput::StdErr { .. }));
        let begun = &mut self.begun[stream];
        begun.extend_from_slice(&piece.into_bytes());
        let whole = match begun.iter().rposition(|it| *it == b'\n') {
            Some(end) => end + 1,
            None if begun.len() > LONGEST => begun.len(),
            None => 0,
        };
        begun.drain(..whole).collect()
    }

    /// What is left without an end.
    fn end(&mut self) -> Vec<u8> {
        let [mut one, two] = std::mem::take(&mut self.begun);
        if !one.is_empty() && !two.is_empty() {
            one.push(b'\n');
        }
        [one, two].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    fn err(text: &str) -> LogOutput {
        LogOutput::StdErr { message: text.to_owned().into() }
    }

    #[test]
    fn lines_of_two_streams_are_not_mixed_wherever_they_are_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(out("one\ntw")), b"one\n");
        assert_eq!(lines.add(err("err")), b"");
        assert_eq!(lines.add(err("or\n")), b"error\n");
        assert_eq!(lines.add(out("o\nthr")), b"two\n");
        assert_eq!(lines.add(err("last")), b"");
        assert_eq!(lines.end(), b"thr\nlast");
        assert_eq!(lines.end(), b"");
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(out(&"x".repeat(LONGEST))), b"");
        assert_eq!(lines.add(out("y")).len(), LONGEST + 1);
    }
}
