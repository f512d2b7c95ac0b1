//! One `faultbox test`: a random id, and under that id everything it leaves on the machine, so
//! that whoever comes after a `kill -9` removes exactly that.
//!
//! On disk it is the directory `faultbox-UID/ID` in the temporary directory, with a `lock` that
//! is held for as long as the process lives, a file `cgroup` that names the session's cgroup, and
//! a file `docker` that names where its containers are, if it has any.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};

use super::{cgroup, mark, message::message};
use crate::docker::Docker;

/// How long the processes of a dead session may take to die.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sixteen hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionId(String);

impl SessionId {
    fn random() -> io::Result<Self> {
        let mut bytes = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(format!("{:016x}", u64::from_ne_bytes(bytes))))
    }

    fn parse(text: &str) -> Option<Self> {
        let digit = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
        (text.len() == 16 && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    fn cgroup_name(&self) -> String {
        format!("faultbox-{self}")
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a session keeps its things. Choosing the places creates nothing.
#[derive(Clone, Debug)]
pub(crate) struct SessionPaths {
    id: SessionId,
    base: PathBuf,
    directory: PathBuf,
    cgroup: Option<PathBuf>,
}

impl SessionPaths {
    /// New places, under an id that nobody else has.
    pub(crate) fn choose() -> io::Result<Self> {
        let temporary = std::path::absolute(std::env::temp_dir())?;
        let base = temporary.join(format!("faultbox-{}", geteuid()));
        Self::below(base, cgroup::own())
    }

    fn below(base: PathBuf, own_cgroup: Option<PathBuf>) -> io::Result<Self> {
        let id = SessionId::random()?;
        let directory = base.join(&id.0);
        let cgroup = own_cgroup.map(|own| own.join(id.cgroup_name()));
        Ok(Self { id, base, directory, cgroup })
    }

    /// Removes what this session has left. Nothing is left when its directory is gone, because
    /// that is created first and removed last.
    pub(crate) fn clean(&self) -> io::Result<()> {
        clean(&self.directory, &self.id)?;
        remove_base(&self.base);
        Ok(())
    }
}

/// A session that is under way; dropping it removes everything it has on the machine.
#[derive(Debug)]
pub(crate) struct Session {
    paths: SessionPaths,
    cgroup: Option<PathBuf>,
    // Held until the end, by this process alone: a free lock is how others know it has died.
    _lock: Flock<File>,
}

impl Session {
    /// Sweeps what dead sessions have left, then creates the directory and the cgroup of this
    /// one. Without the right to create a cgroup there is none.
    pub(crate) fn open(paths: SessionPaths) -> io::Result<Self> {
        let base = lock_base(&paths.base)?;
        DirBuilder::new().mode(0o700).create(&paths.directory)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(paths.directory.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, it)| it)?;
        drop(base);
        let cgroup = paths.cgroup.clone().filter(|path| {
            let record =
                fs::write(paths.directory.join("cgroup"), path.as_os_str().as_encoded_bytes());
            record.is_ok() && fs::create_dir(path).is_ok()
        });
        if cgroup.is_none() {
            // What the file names does not exist, so descendants have to be found by their mark.
            let _ = fs::remove_file(paths.directory.join("cgroup"));
        }
        Ok(Self { paths, cgroup, _lock: lock })
    }

    /// Its id.
    pub(crate) fn id(&self) -> &SessionId {
        &self.paths.id
    }

    /// Notes that containers of this session may be at this Docker.
    pub(crate) fn note_docker(&self, host: &str) -> io::Result<()> {
        fs::write(self.paths.directory.join("docker"), host)
    }

    /// Its cgroup, if it has one.
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_deref()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = self.paths.clean() {
            message(format_args!(
                "warning: session {} is not fully removed: {error}",
                self.paths.id
            ));
        }
    }
}

/// Opens and locks the directory that holds the sessions of this user, after sweeping it if
/// nobody else is about to create a session there.
///
/// Sweepers hold this lock alone and creators share it, so nobody takes a session whose own lock
/// is about to be taken for a dead one.
fn lock_base(base: &Path) -> io::Result<Flock<File>> {
    for _ in 0..100 {
        let file = match open_base(base) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            result => result?,
        };
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                sweep(base);
                lock
            }
            Err((file, _)) => {
                Flock::lock(file, FlockArg::LockShared).map_err(|(_, error)| error)?
            }
        };
        // Whoever ended last may have removed the directory meanwhile.
        let is_there =
            |found: fs::Metadata| found.ino() == lock.metadata().map_or(0, |it| it.ino());
        if fs::symlink_metadata(base).is_ok_and(is_there) {
            return Ok(lock);
        }
    }
    Err(io::Error::other(format!("{} keeps vanishing", base.display())))
}

/// Removes the directory that holds the sessions, unless there are any or will be soon.
fn remove_base(base: &Path) {
    if let Ok(file) = File::open(base)
        && let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
    {
        // Fails while there are sessions, as it should.
        let _ = fs::remove_dir(base);
    }
}

/// Opens the directory that holds the sessions, and makes sure that nobody else can put anything
/// there.
fn open_base(base: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(base) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(base)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        let text = format!(
            "{} is not a directory of this user alone; remove it or set TMPDIR",
            base.display()
        );
        return Err(io::Error::new(ErrorKind::PermissionDenied, text));
    }
    File::open(base)
}

/// Removes what sessions have left whose lock is free. What cannot be removed stays recorded and
/// is tried again by the next start.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(SessionId::parse) else {
            continue;
        };
        let directory = entry.path();
        let is_dead = match File::open(directory.join("lock")) {
            Ok(lock) => Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        if is_dead && let Err(error) = clean(&directory, &id) {
            message(format_args!("warning: session {id} is not fully removed: {error}"));
        }
    }
}

/// Kills the processes of a session and removes its containers, its cgroup and its directory.
fn clean(directory: &Path, id: &SessionId) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let recorded = fs::read_to_string(directory.join("cgroup")).map(PathBuf::from);
    // Whatever the file says: only a cgroup that carries the session's own id is its own.
    let own_name = id.cgroup_name();
    match recorded {
        Ok(path) if path.file_name().is_some_and(|name| name == own_name.as_str()) => {
            if cgroup::is_cgroup(&path) {
                cgroup::remove(&path, Instant::now() + PATIENCE)?;
            }
        }
        _ => mark::kill_session(id),
    }
    if let Ok(host) = fs::read_to_string(directory.join("docker")) {
        let swept = Docker::connect_to(&host).and_then(|docker| docker.sweep(&id.to_string()));
        swept.map_err(|error| io::Error::other(error.to_string()))?;
    }
    match fs::remove_dir_all(directory) {
        // The janitor and a sweep may both be at it.
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: &str) -> PathBuf {
        let base = std::env::temp_dir().join(format!("fb-unit-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        base
    }

    #[test]
    fn a_session_leaves_nothing() {
        let base = base("leaves");
        let paths = SessionPaths::below(base.clone(), cgroup::own()).unwrap();
        let (directory, cgroup) = (paths.directory.clone(), paths.cgroup.clone());
        let session = Session::open(paths).unwrap();
        assert!(directory.join("lock").exists());
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        drop(session);
        assert!(!directory.exists());
        assert!(cgroup.is_none_or(|it| !it.exists()));
        assert!(!base.exists());
    }

    #[test]
    fn the_dead_are_swept_and_the_living_are_not() {
        let base = base("sweep");
        let living = SessionPaths::below(base.clone(), None).unwrap();
        let dead = SessionPaths::below(base.clone(), None).unwrap();
        let living_session = Session::open(living.clone()).unwrap();
        fs::create_dir(&dead.directory).unwrap();
        fs::write(dead.directory.join("lock"), "").unwrap();
        // A name that is no id is none of our business, a foreign cgroup even less.
        fs::create_dir(base.join("faultbox-thing")).unwrap();
        fs::write(dead.directory.join("cgroup"), "/sys/fs/cgroup/system.slice").unwrap();
        let third = Session::open(SessionPaths::below(base.clone(), None).unwrap()).unwrap();
        assert!(!dead.directory.exists());
        assert!(living.directory.exists());
        assert!(base.join("faultbox-thing").exists());
        drop((third, living_session));
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let base = base("open");
        fs::create_dir(&base).unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Session::open(SessionPaths::below(base.clone(), None).unwrap()).unwrap_err();
        assert!(error.to_string().contains("remove it or set TMPDIR"), "{error}");
        fs::remove_dir(&base).unwrap();
        std::os::unix::fs::symlink("/tmp", &base).unwrap();
        assert!(Session::open(SessionPaths::below(base.clone(), None).unwrap()).is_err());
        fs::remove_file(&base).unwrap();
    }
}
