//! A connection as clients of others get it: it bounds what arrives, and remembers what went wrong
//! in the system's words, which clients put into words of their own or drop.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The most that an answer may have, in bytes, with what is sent around it.
const MAX_ANSWER: usize = 16 << 20;

/// The first thing that went wrong with a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// What it was, if anything.
    pub(super) fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, text: impl FnOnce() -> String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(text);
    }
}

type Tap = Box<dyn FnMut(&[u8]) + Send>;

/// An open connection.
pub(super) struct ClientStream {
    stream: TcpStream,
    /// How much may still arrive.
    left: usize,
    trouble: Trouble,
    /// Shown everything that arrives.
    tap: Option<Tap>,
}

impl ClientStream {
    /// A stream that nothing has been read from.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, left: MAX_ANSWER, trouble: Trouble::default(), tap: None }
    }

    /// What will have gone wrong.
    pub(super) fn trouble(&self) -> Trouble {
        self.trouble.clone()
    }

    /// The same, with everything that arrives shown to `tap`.
    pub(super) fn with_tap(self, tap: impl FnMut(&[u8]) + Send + 'static) -> Self {
        Self { tap: Some(Box::new(tap)), ..self }
    }

    /// Remembers the error of a call.
    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| self.trouble.note(|| error.to_string()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let done = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.noted(done)?;
        let arrived = &buffer.filled()[before..];
        if arrived.is_empty() && room > 0 {
            self.trouble.note(|| "the server closed the connection".to_owned());
        }
        let Some(left) = self.left.checked_sub(arrived.len()) else {
            let text = format!("the answer is larger than {} MiB", MAX_ANSWER >> 20);
            let error = io::Error::new(io::ErrorKind::InvalidData, text);
            return Poll::Ready(self.noted(Err(error)));
        };
        self.left = left;
        if let Some(tap) = &mut self.tap {
            tap(arrived);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        Poll::Ready(self.noted(done))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
