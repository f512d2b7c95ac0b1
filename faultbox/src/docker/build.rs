//! Building images.

use std::{
    collections::VecDeque,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bollard::{
    body_try_stream, errors::Error, models::BuildInfo, query_parameters::BuildImageOptions,
};
use futures_util::{StreamExt as _, stream::poll_fn};
use tokio::sync::mpsc::{self, Sender};

use super::{Docker, DockerError, context::Context, error::one_line, image::is_reference};

/// How long a build may take.
const BUILDING: Duration = Duration::from_secs(30 * 60);
/// How much of a failed build's output is shown, in lines.
const SHOWN: usize = 20;
/// The archive is sent in pieces of this many bytes,
const PIECE: usize = 64 * 1024;
/// of which so many may wait for Docker to take them.
const WAITING: usize = 8;

impl Docker {
    /// Builds a directory's Dockerfile. Docker goes through it each time, and takes from its cache
    /// what has not changed. It is Docker's own builder that does it, not `BuildKit`.
    pub(crate) fn build(
        &self,
        directory: &Path,
        tag: &str,
        say: &dyn Fn(&str),
    ) -> Result<(), DockerError> {
        if !is_reference(tag) {
            return Err(DockerError::NoImage(tag.to_owned()));
        }
        let context = Context::open(directory)?;
        let (pieces, mut sent) = mpsc::channel(WAITING);
        let unreadable = Arc::new(OnceLock::new());
        let noted = Arc::clone(&unreadable);
        self.spawn_blocking(move || {
            let archive = BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
            if let Err(error) = context.pack(archive) {
                let _ = noted.set(error.to_string());
                // Without this, Docker would build what it has got until here.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        let archive = body_try_stream(poll_fn(move |context| {
            sent.poll_recv(context).map(|piece| piece.map(|it| it.map(Into::into)))
        }));
        let mut output = Output::default();
        let work = async {
            let options = BuildImageOptions {
                t: Some(tag.to_owned()),
                forcerm: true,
                ..BuildImageOptions::default()
            };
            let mut news = Box::pin(self.api.build_image(options, None, Some(archive)));
            while let Some(one) = news.next().await {
                if let Some(step) = output.note(one?) {
                    say(&format!("building {tag}: {step}"));
                }
            }
            Ok(())
        };
        let failed = |why: &str, output: Output| DockerError::NotBuilt {
            directory: directory.to_owned(),
            why: advised(one_line(why), directory, tag),
            output: output.end(),
        };
        match self.block_within(BUILDING, work) {
            Ok(Ok(())) => Ok(()),
            Err(late) => Err(failed(&late.to_string(), output)),
            // Docker's own reason is then that the archive broke off.
            Ok(Err(error)) => Err(match (unreadable.get(), error) {
                (Some(why), _) => DockerError::NoContext {
                    directory: directory.to_owned(),
                    why: why.clone(),
                },
                (
                    None,
                    Error::DockerStreamError { error: why }
                    // What is wrong with the Dockerfile's text is told in this way.
                    | Error::DockerResponseServerError { message: why, .. },
                ) => failed(&why, output),
                (None, error) => {
                    let what = format!("build {}", directory.display());
                    DockerError::from_api(error, &self.host, what)
                }
            }),
        }
    }
}

/// What the build has said, as far as it may be shown.
#[derive(Default)]
struct Output {
    lines: VecDeque<String>,
    /// A line whose end has not come yet.
    begun: String,
}

impl Output {
    /// Takes note of what is said; returns the step that begins with it.
    fn note(&mut self, news: BuildInfo) -> Option<String> {
        self.begun.push_str(&news.stream?);
        let mut step = None;
        while let Some((line, rest)) = self.begun.split_once('\n') {
            let line = line.trim_end().to_owned();
            self.begun = rest.to_owned();
            // Podman shouts.
            if line.get(..5).is_some_and(|it| it.eq_ignore_ascii_case("step ")) {
                step = Some(line.clone());
            }
            self.add(line);
        }
        step
    }

    fn add(&mut self, line: String) {
        if line.is_empty() {
            return;
        }
        if self.lines.len() == SHOWN {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn end(mut self) -> Vec<String> {
        let begun = std::mem::take(&mut self.begun);
        self.add(begun);
        self.lines.into()
    }
}

/// What Docker says, and what to do if it wants another builder.
fn advised(why: String, directory: &Path, tag: &str) -> String {
    if !why.contains("BuildKit") {
        return why;
    }
    let directory = directory.display();
    format!("{why}; build it by docker build -t {tag} {directory}, and use image={tag:?}")
}

/// Sends what is written to it.
struct Pieces(Sender<io::Result<Vec<u8>>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Docker has given up before the end.
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(bytes.to_vec())).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
