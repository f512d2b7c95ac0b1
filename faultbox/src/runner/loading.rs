//! Evaluating a spec for what it declares, without running anything.

use std::{path::Path, thread, time::Duration};

use super::{running_test::Loading, test_run::STACK};
use crate::spec::{Loaded, SpecError, SpecFile, evaluate};

/// Reads and evaluates a file on a thread with stack enough, and hands what it declares to `then`.
/// What the file prints goes to standard error; it may take this long.
pub(crate) fn load<R: Send>(
    path: &Path,
    timeout: Duration,
    then: impl FnOnce(&SpecFile, &Loaded<'_, '_, '_>) -> R + Send,
) -> Result<(SpecFile, R), SpecError> {
    let work = || {
        let file = SpecFile::read(path)?;
        let host = Loading::within(timeout);
        let result = evaluate(&file, &host, |loaded| then(&file, loaded))?;
        Ok((file, result))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("load".to_owned()).stack_size(STACK);
        let result = thread.spawn_scoped(scope, work).map(thread::ScopedJoinHandle::join);
        let broken = |text: String| SpecError { text, location: None, line: None };
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(broken(format!("{}: a bug in faultbox", path.display()))),
            Err(error) => Err(broken(format!("cannot start a thread: {error}"))),
        }
    })
}
