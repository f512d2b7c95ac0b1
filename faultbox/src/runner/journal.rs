//! A file of results that grows as runs end, so that a night which dies in the middle keeps what
//! it has, and goes on from there (`--journal`, `--resume`).
//!
//! JSON lines (<https://jsonlines.org>): what was to be run, then a line for each run, in the
//! order in which they ended. A last line that was cut short is ignored and written over.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::report::FinishedRun;

/// Of the lines' form.
const VERSION: u32 = 1;
const NO_JOURNAL: &str = "it is no journal of faultbox's; name another file";
/// The longest line, in bytes.
const LONGEST: u64 = 256 << 20;
/// How much of a night a machine that loses power may lose.
const SYNCED_EVERY: Duration = Duration::from_secs(1);

/// What was to be run: results of something else are not taken for its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    version: u32,
    /// The specs, each with a digest of it and of all that it loads.
    pub(crate) files: Vec<(String, String)>,
    /// Flags that results depend on, by name.
    pub(crate) flags: Vec<(String, String)>,
}

impl Header {
    pub(crate) fn new(files: Vec<(String, String)>, flags: Vec<(String, String)>) -> Self {
        Self { version: VERSION, files, flags }
    }

    /// What is different in another one, for an error.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.version != other.version {
            return Some("it was written by another version of faultbox".to_owned());
        }
        for (path, digest) in &self.files {
            match other.files.iter().find(|(other, _)| other == path) {
                None => return Some(format!("it is not of {path}")),
                Some((_, other)) if other != digest => {
                    return Some(format!("{path}, or what it loads, has changed since"));
                }
                Some(_) => {}
            }
        }
        let mut flags = self.flags.iter().zip(&other.flags).filter(|(own, other)| own != other);
        flags.next().map(|((name, now), (_, then))| {
            format!("it was written with {name} {then}, and now it is {now}")
        })
    }
}

/// A line: a run, and the same as in the JSON document.
#[derive(Serialize, Deserialize)]
struct Line<R> {
    #[serde(flatten)]
    run: R,
    result: Value,
}

/// Which run it is: the file, the test and the seed.
type Key = (String, String, u64);

/// The file, open and locked.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    writer: Mutex<Writer>,
    /// Runs of before that nobody has asked for yet.
    known: Mutex<HashMap<Key, FinishedRun>>,
}

#[derive(Debug)]
struct Writer {
    file: Flock<File>,
    synced: Instant,
    /// Why nothing can be written any more.
    failure: Option<String>,
}

impl Journal {
    /// Begins a new journal, or with `resume` goes on with one, if it is there. The error is the
    /// whole message.
    pub(crate) fn open(path: &Path, resume: bool, header: &Header) -> Result<Self, String> {
        let fail = |what: String| format!("--journal {}: {what}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(resume).create_new(!resume).truncate(false);
        let file = options.open(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                fail("it exists; add --resume to go on with it, or remove it".to_owned())
            }
            _ => fail(error.to_string()),
        })?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| fail("another faultbox is writing it".to_owned()))?;
        // What has no end, such as /dev/zero, could be read for ever.
        if !file.metadata().is_ok_and(|it| it.is_file()) {
            return Err(fail("it is no file".to_owned()));
        }
        let (known, end) = read(&file, header).map_err(fail)?;
        let ready = file.set_len(end).and_then(|()| file.seek(SeekFrom::End(0)));
        ready.map_err(|error| fail(error.to_string()))?;
        let writer = Writer { file, synced: Instant::now(), failure: None };
        let journal =
            Self { path: path.to_owned(), writer: Mutex::new(writer), known: Mutex::new(known) };
        if end == 0 {
            let line = serde_json::to_string(header).map_err(|error| fail(error.to_string()))?;
            journal.append(line);
            journal.failure().map_or(Ok(()), Err)?;
        }
        Ok(journal)
    }

    /// How many runs are in it that nobody has asked for.
    pub(crate) fn known(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The result of a run of before, once.
    pub(crate) fn take(&self, file: &str, test: &str, seed: u64) -> Option<FinishedRun> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(file.to_owned(), test.to_owned(), seed))
    }

    /// Adds a run, which must have its part of the JSON document.
    pub(crate) fn add(&self, run: &FinishedRun) {
        let result = run.document.as_deref().map_or(Ok(Value::Null), serde_json::from_str);
        let line = result.and_then(|result| serde_json::to_string(&Line { run, result }));
        match line {
            Ok(line) => self.append(line),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Why nothing more can be written, if so: the whole message.
    pub(crate) fn failure(&self) -> Option<String> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }

    fn append(&self, mut line: String) {
        line.push('\n');
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.failure.is_some() {
            return;
        }
        // In one write, so that only the last line can be cut short.
        let mut written = writer.file.write_all(line.as_bytes());
        if writer.synced.elapsed() >= SYNCED_EVERY {
            written = written.and_then(|()| writer.file.sync_data());
            writer.synced = Instant::now();
        }
        drop(writer);
        if let Err(error) = written {
            self.fail(&error.to_string());
        }
    }

    fn fail(&self, why: &str) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let text = format!("--journal {}: {why}", self.path.display());
        writer.failure.get_or_insert(text);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        // What is lost by an error here has been written all the same.
        let _ = writer.file.sync_data();
    }
}

/// Reads the runs of a journal, and where its last whole line ends.
fn read(file: &File, header: &Header) -> Result<(HashMap<Key, FinishedRun>, u64), String> {
    let mut lines = BufReader::new(file);
    let (mut known, mut end) = (HashMap::new(), 0);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let line = lines.by_ref().take(LONGEST).read_until(b'\n', &mut text);
        let length = line.map_err(|error| error.to_string())?;
        if text.pop() != Some(b'\n') {
            if length as u64 == LONGEST {
                return Err(format!("line {number} is too long"));
            }
            let first = serde_json::to_vec(header).unwrap_or_default();
            // What is written over must be ours. (`pop` has taken the last byte.)
            if number == 1 && !first.starts_with(&text) {
                return Err(NO_JOURNAL.to_owned());
            }
            return Ok((known, end));
        }
        if number == 1 {
            let first =
                serde_json::from_slice::<Header>(&text).map_err(|_| NO_JOURNAL.to_owned())?;
            if let Some(why) = header.difference(&first) {
                return Err(format!("{why}; remove it to start anew"));
            }
        } else {
            let line: Line<FinishedRun> = serde_json::from_slice(&text)
                .map_err(|error| format!("line {number} cannot be read: {error}"))?;
            let run = FinishedRun { document: Some(line.result.to_string()), ..line.run };
            known.insert((run.file.clone(), run.name.clone(), run.seed), run);
        }
        end += length as u64;
    }
    Ok((known, end))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::Timings;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("fb-unit-journal-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_file(&path);
            Self(path)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn header(digest: &str, engine: &str) -> Header {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        Header::new(pair("a.star", digest), pair("--engine", engine))
    }

    fn run(seed: u64) -> FinishedRun {
        FinishedRun {
            name: "test_a".to_owned(),
            file: "a.star".to_owned(),
            seed,
            duration: Duration::from_micros(1234),
            failure: None,
            details: vec!["  a line".to_owned()],
            is_telling: false,
            by_chance: true,
            is_idle: false,
            fired: vec!["db write=deny(EIO)".to_owned()],
            timings: Timings::default(),
            document: Some("{\"name\":\"test_a\"}".to_owned()),
        }
    }

    #[test]
    fn what_was_written_is_there_once_when_it_goes_on() {
        let place = Place::new("goes-on");
        let header = header("1", "auto");
        let journal = Journal::open(&place.0, false, &header).unwrap();
        (0..3).for_each(|seed| journal.add(&run(seed)));
        let error = Journal::open(&place.0, true, &header).unwrap_err();
        assert!(error.ends_with("another faultbox is writing it"), "{error}");
        drop(journal);
        // Died in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&place.0).unwrap();
        file.write_all(b"{\"name\":\"test_a\",\"se").unwrap();
        drop(file);

        let journal = Journal::open(&place.0, true, &header).unwrap();
        assert_eq!(journal.known(), 3);
        assert_eq!(journal.take("a.star", "test_a", 1), Some(run(1)));
        assert_eq!(journal.take("a.star", "test_a", 1), None);
        assert_eq!(journal.take("b.star", "test_a", 2), None);
        journal.add(&run(3));
        assert_eq!(journal.failure(), None);
        drop(journal);
        assert_eq!(Journal::open(&place.0, true, &header).unwrap().known(), 4);
        assert_eq!(fs::read_to_string(&place.0).unwrap().lines().count(), 5);
    }

    #[test]
    fn results_of_something_else_are_refused() {
        let place = Place::new("refused");
        let open = |resume, header| Journal::open(&place.0, resume, &header);
        drop(open(true, header("1", "auto")).unwrap());
        for (resume, other, why) in [
            (false, header("1", "auto"), "it exists; add --resume"),
            (true, header("2", "auto"), "a.star, or what it loads, has changed"),
            (true, header("1", "seccomp"), "with --engine auto, and now it is seccomp"),
            (true, Header::new(vec![("b.star".into(), "1".into())], vec![]), "not of b.star"),
        ] {
            let error = open(resume, other).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        fs::write(&place.0, "my diary\n").unwrap();
        let error = open(true, header("1", "auto")).unwrap_err();
        assert!(error.contains("no journal of faultbox's"), "{error}");
        assert_eq!(fs::read_to_string(&place.0).unwrap(), "my diary\n");
        fs::write(&place.0, "my secret").unwrap();
        assert!(open(true, header("1", "auto")).is_err());
        assert_eq!(fs::read_to_string(&place.0).unwrap(), "my secret");
        // Its own first line, cut short.
        fs::write(&place.0, "{\"version\":1,\"fil").unwrap();
        assert_eq!(open(true, header("1", "auto")).unwrap().known(), 0);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_not_a_shorter_night() {
        let place = Place::new("read-only");
        let header = header("1", "auto");
        let journal = Journal::open(&place.0, false, &header).unwrap();
        let read_only = Flock::lock(File::open("/dev/null").unwrap(), FlockArg::LockShared);
        journal.writer.lock().unwrap().file = read_only.unwrap();
        journal.add(&run(0));
        let error = journal.failure().unwrap();
        assert!(error.contains("read-only"), "{error}");

        let error = Journal::open(Path::new("/dev/zero"), true, &header).unwrap_err();
        assert_eq!(error, "--journal /dev/zero: it is no file");
    }
}
