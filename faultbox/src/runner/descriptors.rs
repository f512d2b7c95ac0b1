//! Room for the descriptors of many services.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a service takes at most: two pipes, its pidfd, its cgroup, the supervisor's listener, and
/// as many again while it starts.
const PER_SERVICE: u64 = 12;
/// What the runner and the engine take themselves.
const OWN: u64 = 200;

/// Raises the soft limit (`RLIMIT_NOFILE`, `getrlimit(2)`) if this many services need it.
///
/// Services inherit it, and programs that use `select(2)` rely on the usual 1024. So it stays as
/// it is for the usual number of services.
pub(crate) fn make_room(services: usize) {
    let wanted = OWN + PER_SERVICE * services as u64;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        // Where the hard limit is too low, the first service that gets no descriptor says so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_services_change_nothing_and_many_get_room() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        make_room(3);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), before);
        let many = before.0 / PER_SERVICE + 1;
        make_room(many as usize);
        let after = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert!(after.0 > before.0 || after.0 == before.1, "{before:?} {after:?}");
    }
}
