//! Tests that drive the real `faultbox` binary against the demo services, as a user would.
//!
//! `FAULTBOX_TEST_ENGINE` is given to `--engine` (default: auto). `FAULTBOX_TEST_ROOT` and
//! `FAULTBOX_TEST_BINARY` name the project's root, which must have the demo services in `bin/`,
//! and the binary, where they are not where cargo has built them. `FAULTBOX_TEST_KILLS` says how
//! often the runner is killed (default: 50). `FAULTBOX_TEST_SLOW=1` leaves out what measures time
//! on a machine where time means nothing.

mod attach;
mod bad_specs;
mod check;
mod command_line;
mod containers;
mod docker;
mod domain;
mod events;
mod evidence;
mod files;
mod generate;
mod init;
mod interruption;
mod json;
mod kill;
mod lifecycle;
mod litter;
mod load;
mod neighbours;
mod nightly;
mod output;
mod parallel;
mod partition;
mod project;
mod run;
mod scopes;
mod servers;
mod side_by_side;
mod speed;
mod tutorial;
mod unprivileged;
