//! Programs to start in tests: this test binary itself, in a role that an environment variable
//! names. It plays before `main`, so that neither the test harness's threads nor its output mix
//! with the calls that a test is about.

use std::{env, ffi::CString, panic::catch_unwind};

use crate::engine::Launch;

pub(in crate::engine) const ROLE: &str = "FAULTBOX_TEST_ROLE";

/// What a role does with its arguments. Returns its exit code; [`PANICKED`] when it panics.
pub(in crate::engine) type Role = fn(&[String]) -> i32;

/// Exit code of a role that panicked.
pub(in crate::engine) const PANICKED: i32 = 101;

/// All roles, by name.
const ROLES: &[&[(&str, Role)]] = &[
    crate::engine::launch::tests::ROLES,
    crate::engine::parking::tests::roles::ROLES,
    crate::engine::supervisor::tests::roles::ROLES,
    crate::engine::tests::partitions::ROLES,
    crate::engine::tests::stress::roles::ROLES,
    crate::engine::supervisor::tests::roles::delayed::ROLES,
];

#[used]
#[unsafe(link_section = ".init_array")]
static PLAY: extern "C" fn() = play;

extern "C" fn play() {
    let Ok(name) = env::var(ROLE) else { return };
    let role = ROLES.iter().flat_map(|roles| *roles).find(|(it, _)| *it == name);
    let (_, role) = role.unwrap_or_else(|| panic!("no role {name}"));
    // Arguments are not known to Rust yet, but the environment is.
    let arguments = env::var("FAULTBOX_TEST_ARGUMENTS").unwrap_or_default();
    let arguments: Vec<String> =
        arguments.split(' ').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let code = catch_unwind(|| role(&arguments)).unwrap_or(PANICKED);
    // SAFETY: ends the process; there is nothing to clean up.
    unsafe { libc::_exit(code) }
}

/// This binary in a role.
pub(in crate::engine) fn in_role(name: &str, arguments: &[&str]) -> Launch {
    let variable = |name: &str, value: &str| CString::new(format!("{name}={value}")).unwrap();
    Launch {
        program: env::current_exe().unwrap(),
        arguments: vec![CString::new(name).unwrap()],
        environment: vec![
            variable(ROLE, name),
            variable("FAULTBOX_TEST_ARGUMENTS", &arguments.join(" ")),
            variable("RUST_BACKTRACE", "0"),
        ],
        mounts: None,
        output: None,
    }
}

/// A program of the system.
pub(in crate::engine) fn program(path: &str, arguments: &[&str]) -> Launch {
    Launch {
        program: path.into(),
        arguments: [path].iter().chain(arguments).map(|it| CString::new(*it).unwrap()).collect(),
        environment: vec![c"PATH=/usr/bin:/bin".to_owned()],
        mounts: None,
        output: None,
    }
}
