//! Whether this machine lets us build a sandbox, for `faultbox doctor`.

use std::{fs, path::PathBuf, process, thread};

use super::{cgroup, files, netns};

/// The cgroup below which services would run, if cgroups can be made there.
pub(crate) fn sandbox_cgroup() -> Result<PathBuf, String> {
    let own = cgroup::own().ok_or("cgroup v2 is not mounted")?;
    let trial = own.join(format!("faultbox-doctor-{}", process::id()));
    fs::create_dir(&trial)
        .and_then(|()| fs::remove_dir(&trial))
        .map_err(|error| format!("cannot make a cgroup in {}: {error}", own.display()))?;
    Ok(own)
}

/// Whether a run can have a network namespace of its own. Tried on a thread that then ends.
pub(crate) fn try_namespace() -> Result<(), String> {
    let tried = thread::spawn(|| netns::enter().map(drop).map_err(|error| error.to_string()));
    tried.join().map_err(|_| "the trial panicked".to_owned())?
}

/// Whether the services of a run can have files of their own. Tried on a thread that then ends.
pub(crate) fn try_files() -> Result<(), String> {
    let make = || files::Maker::new(true)?.make().map(drop);
    let tried = thread::spawn(move || make().map_err(|error: std::io::Error| error.to_string()));
    tried.join().map_err(|_| "the trial panicked".to_owned())?
}
