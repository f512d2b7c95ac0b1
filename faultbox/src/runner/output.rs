//! What services print: read by one thread per run, however fast it comes, and the last lines
//! kept.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, Read},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::{EfdFlags, EventFd},
    },
    unistd::pipe2,
};

use super::message::{message, speak_for, voice};

/// How many lines of a service are kept.
const LINES: usize = 20;
/// How much of a line is kept, in bytes.
const LINE: usize = 1024;
/// How much is read at a time, in bytes; others get their turn in between.
const CHUNK: usize = 64 * 1024;
/// How much is still read of a stream at the end, should a stray process go on printing.
const REST: usize = 16 * CHUNK;
/// How long the last output of a container may be on its way.
const PATIENCE: Duration = Duration::from_millis(500);
/// What tells the thread to finish; streams count from 0.
const STOP: u64 = u64::MAX;

/// The output of all services of a run.
#[derive(Debug)]
pub(crate) struct Outputs {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    stop: EventFd,
    echo: bool,
    state: Mutex<State>,
    /// Told when a stream has ended.
    closed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    services: Vec<Service>,
    streams: Vec<Option<Stream>>,
}

/// The kept lines of one service, of standard output and error as they came.
#[derive(Debug)]
struct Service {
    name: String,
    lines: VecDeque<String>,
}

#[derive(Debug)]
struct Stream {
    pipe: File,
    service: usize,
    /// The beginning of a line whose end has not been read.
    partial: Vec<u8>,
}

impl Outputs {
    /// Starts the thread. With `echo`, every line is also printed on standard error.
    pub(crate) fn start(echo: bool) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let shared =
            Arc::new(Shared { epoll, stop, echo, state: Mutex::default(), closed: Condvar::new() });
        let reader = Arc::clone(&shared);
        let voice = voice();
        let read = move || {
            speak_for(voice);
            reader.run();
        };
        let thread = thread::Builder::new().name("output".to_owned()).spawn(read)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Two pipe ends to be the standard output and error of a service.
    pub(crate) fn capture(&self, name: &str) -> io::Result<(OwnedFd, OwnedFd)> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let service = state.services.len();
        state.services.push(Service { name: name.to_owned(), lines: VecDeque::new() });
        let mut pipe = || -> io::Result<OwnedFd> {
            let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
            // Ours alone: the service must see an ordinary blocking pipe.
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, state.streams.len() as u64);
            self.shared.epoll.add(&reader, event)?;
            let pipe = File::from(reader);
            state.streams.push(Some(Stream { pipe, service, partial: Vec::new() }));
            Ok(writer)
        };
        Ok((pipe()?, pipe()?))
    }

    /// Waits until whoever writes for these services has closed their pipes, but not for long.
    pub(crate) fn await_ends(&self, services: &[String]) {
        let is_open = |state: &mut State| {
            let streams = state.streams.iter().flatten();
            let mut names = streams.map(|it| &state.services[it.service].name);
            names.any(|name| services.contains(name))
        };
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it was long enough makes no difference to what follows.
        let _ = self.shared.closed.wait_timeout_while(state, PATIENCE, is_open);
    }

    /// Reads what is left in the pipes and returns each service's name and last lines. To be
    /// called when the services have ended.
    pub(crate) fn finish(mut self) -> Vec<(String, Vec<String>)> {
        self.stop();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.services.drain(..).map(|it| (it.name, it.lines.into())).collect()
    }

    fn stop(&mut self) {
        // A write to an eventfd can only fail when its counter is full.
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        let mut events = [EpollEvent::empty(); 32];
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(_) => return,
            };
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for event in &events[..count] {
                if event.data() == STOP {
                    self.read_rest(&mut state, &mut buffer);
                    return;
                }
                self.read_once(&mut state, event.data() as usize, &mut buffer);
            }
        }
    }

    /// Reads once from a stream; `None`: there is nothing more at present.
    fn read_once(&self, state: &mut State, index: usize, buffer: &mut [u8]) -> Option<usize> {
        let stream = state.streams.get_mut(index)?.as_mut()?;
        match stream.pipe.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Ok(count) if count > 0 => {
                stream.keep(&buffer[..count], &mut state.services[stream.service], self.echo);
                Some(count)
            }
            _ => {
                let _ = self.epoll.delete(stream.pipe.as_fd());
                stream.end(&mut state.services[stream.service], self.echo);
                state.streams[index] = None;
                self.closed.notify_all();
                None
            }
        }
    }

    fn read_rest(&self, state: &mut State, buffer: &mut [u8]) {
        for index in 0..state.streams.len() {
            let mut total = 0;
            while let Some(count) = self.read_once(state, index, buffer) {
                total += count;
                if total > REST {
                    break;
                }
            }
            if let Some(mut stream) = state.streams[index].take() {
                stream.end(&mut state.services[stream.service], self.echo);
            }
        }
    }
}

impl Stream {
    fn keep(&mut self, mut bytes: &[u8], service: &mut Service, echo: bool) {
        if !echo && let Some(start) = last_lines(bytes) {
            // A flood: all these lines would be pushed out again by those behind them.
            self.partial.clear();
            bytes = &bytes[start..];
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end]);
            self.end_line(service, echo);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = LINE - self.partial.len();
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end(&mut self, service: &mut Service, echo: bool) {
        if !self.partial.is_empty() {
            self.end_line(service, echo);
        }
    }

    fn end_line(&mut self, service: &mut Service, echo: bool) {
        let line = String::from_utf8_lossy(&self.partial);
        let line = line.trim_end_matches('\r').to_owned();
        self.partial.clear();
        if echo {
            message(format_args!("[{}] {line}", service.name));
        }
        if service.lines.len() == LINES {
            service.lines.pop_front();
        }
        service.lines.push_back(line);
    }
}

/// Where the last lines begin that will be kept; `None`: all will.
fn last_lines(bytes: &[u8]) -> Option<usize> {
    let newlines = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    newlines.map(|(at, _)| at + 1).nth(LINES)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_of_both_streams_are_kept() {
        let outputs = Outputs::start(false).unwrap();
        let (out, err) = outputs.capture("db").unwrap();
        let (mut out, mut err) = (File::from(out), File::from(err));
        for number in 0..100 {
            writeln!(out, "line {number}").unwrap();
        }
        drop(out);
        err.write_all(b"no end of line, and \xff").unwrap();
        drop(err);
        let (name, lines) = outputs.finish().remove(0);
        assert_eq!((name.as_str(), lines.len()), ("db", LINES));
        assert_eq!(lines[LINES - 2], "line 99");
        assert_eq!(lines[LINES - 1], "no end of line, and \u{fffd}");
    }

    #[test]
    fn an_endless_line_takes_a_bounded_place() {
        let outputs = Outputs::start(false).unwrap();
        let (out, _err) = outputs.capture("db").unwrap();
        let mut out = File::from(out);
        for _ in 0..64 {
            out.write_all(&vec![b'x'; CHUNK]).unwrap();
        }
        drop(out);
        assert_eq!(outputs.finish()[0].1[0].len(), LINE);
    }

    #[test]
    fn a_stray_writer_does_not_hold_up_the_end() {
        let outputs = Outputs::start(false).unwrap();
        let (out, _err) = outputs.capture("db").unwrap();
        let mut out = File::from(out);
        out.write_all(b"a\nb").unwrap();
        assert_eq!(outputs.finish()[0].1, ["a", "b"]);
    }

    #[test]
    fn a_chunk_of_many_lines_is_cut_to_the_last() {
        let numbers: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        let text = numbers.join("\n") + "\n";
        let start = last_lines(text.as_bytes()).unwrap();
        assert_eq!(text[start..].lines().count(), LINES);
        assert_eq!(text[start..].lines().next(), Some("30"));
        assert_eq!(last_lines(b"a\nb\n"), None);
    }
}
