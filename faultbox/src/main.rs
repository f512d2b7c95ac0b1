//! The binary: nothing but the door to [`faultbox::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    faultbox::cli::main()
}
