//! Lines on standard error.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt::Display,
    io::{Write, stderr},
    sync::{Arc, Mutex, PoisonError},
};

thread_local! {
    /// Of the run that the thread belongs to, if runs go side by side.
    static VOICE: RefCell<Option<Voice>> = const { RefCell::new(None) };
}

/// Prints a line on standard error, in one write so that lines of several threads do not mix: at
/// once, or, in a thread of a run, when it is that run's turn.
///
/// Unlike `eprintln!`, which panics, this goes on when nobody reads: `2>&1 | head` is a choice of
/// the user's and no reason to leave services running.
pub(crate) fn message(text: impl Display) {
    let line = format!("{text}\n");
    match VOICE.try_with(|voice| voice.borrow().clone()) {
        Ok(Some(voice)) => voice.say(&line),
        _ => write(line.as_bytes()),
    }
}

/// The line at the bottom of the terminal, if there is one.
static STATUS: Mutex<Option<String>> = Mutex::new(None);

/// Erases the line that the cursor is in (`console_codes(4)`).
const ERASE: &str = "\r\x1b[K";

fn write(bytes: &[u8]) {
    let status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = match &*status {
        Some(line) => {
            let text = [ERASE.as_bytes(), bytes, line.as_bytes()].concat();
            stderr().write_all(&text)
        }
        None => stderr().write_all(bytes),
    };
}

/// Shows a line at the bottom of the terminal, until the next one or `None`. Other lines on
/// standard error go above it.
pub(crate) fn show_status(line: Option<String>) {
    let mut status = STATUS.lock().unwrap_or_else(PoisonError::into_inner);
    let text = match (&*status, &line) {
        (None, None) => return,
        (_, line) => format!("{ERASE}{}", line.as_deref().unwrap_or_default()),
    };
    let _ = stderr().write_all(text.as_bytes());
    *status = line;
}

/// Lets the calling thread speak for a run from now on.
pub(crate) fn speak_for(voice: Option<Voice>) {
    VOICE.set(voice);
}

/// What the calling thread speaks for: for threads that it starts.
pub(crate) fn voice() -> Option<Voice> {
    VOICE.with_borrow(Clone::clone)
}

/// Whose turn it is to be heard, of runs that go side by side: each in order and as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    current: usize,
    /// What the others have said.
    held: BTreeMap<usize, Vec<u8>>,
}

/// Of one run.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    turns: Turns,
    number: usize,
}

impl Turns {
    /// Of the run with this number, from 0.
    pub(crate) fn voice(&self, number: usize) -> Voice {
        Voice { turns: self.clone(), number }
    }

    /// The next run is heard: first with what it has said so far.
    pub(crate) fn next(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.current += 1;
        let current = state.current;
        if let Some(said) = state.held.remove(&current) {
            write(&said);
        }
    }
}

impl Voice {
    fn say(&self, line: &str) {
        let mut state = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.number <= state.current {
            // Under the lock, so that it cannot come between what the next has said before.
            write(line.as_bytes());
        } else {
            state.held.entry(self.number).or_default().extend(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_held_back_until_its_turn() {
        let turns = Turns::default();
        let held = |turns: &Turns| turns.0.lock().unwrap().held.len();
        turns.voice(0).say("");
        assert_eq!(held(&turns), 0);
        turns.voice(2).say("");
        turns.voice(1).say("");
        assert_eq!(held(&turns), 2);
        turns.next();
        assert_eq!(held(&turns), 1);
        turns.next();
        assert_eq!(held(&turns), 0);
    }

    #[test]
    fn a_thread_speaks_for_a_run_once_it_was_told_to() {
        std::thread::spawn(|| {
            assert!(voice().is_none());
            let turns = Turns::default();
            speak_for(Some(turns.voice(1)));
            message("held back for good");
            assert_eq!(turns.0.lock().unwrap().held[&1], b"held back for good\n");
            speak_for(None);
            assert!(voice().is_none());
        })
        .join()
        .unwrap();
    }
}
