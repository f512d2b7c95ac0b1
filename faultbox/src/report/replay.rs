//! How to have a run once more.

use super::{
    TestReport,
    plain::{one_line, shell_word},
};

/// The command, for a shell.
pub(super) fn replay_command(report: &TestReport) -> String {
    let name = report.name.strip_prefix("test_").unwrap_or(&report.name);
    let strict = if report.strict_faults { " --strict-faults" } else { "" };
    let shared = if report.shared_tmp { " --shared-tmp" } else { "" };
    format!(
        "faultbox test {} --test {} --seed {}{strict}{shared}",
        one_line(&shell_word(&report.file)),
        one_line(&shell_word(name)),
        report.seed
    )
}
