//! Results for continuous integration: JUnit's XML, as Jenkins, GitLab and others read it.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{FinishedRun, plain::one_line};

/// The report, while runs are still being added: a suite per spec, a case per run.
#[derive(Debug)]
pub struct Junit {
    repeated: bool,
    suites: Vec<TestSuite>,
}

impl Junit {
    /// Nothing has run. With `repeated`, cases are told apart by their seed.
    pub fn new(repeated: bool) -> Self {
        Self { repeated, suites: Vec::new() }
    }

    /// Adds a run.
    pub fn add(&mut self, run: &FinishedRun) {
        let mut status = TestCaseStatus::success();
        if let Some(failure) = &run.failure {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(one_line(&failure.reason));
            status.set_type(failure.kind.name());
            status.set_description(run.details.join("\n"));
        }
        let seed = if self.repeated { format!(" seed={}", run.seed) } else { String::new() };
        let mut case = TestCase::new(format!("{}{seed}", one_line(&run.name)), status);
        case.set_classname(one_line(&run.file));
        case.set_time(run.duration);
        let name = one_line(&run.file);
        if let Some(suite) = self.suites.iter_mut().find(|it| it.name.as_str() == name) {
            suite.add_test_case(case);
        } else {
            let mut suite = TestSuite::new(name);
            suite.add_test_case(case);
            self.suites.push(suite);
        }
    }

    /// Writes the whole report.
    pub fn write(self, out: &mut dyn Write) -> io::Result<()> {
        let mut report = Report::new("faultbox");
        report.add_test_suites(self.suites);
        report.serialize(out).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Keep, TestReport,
            sample::{failed, passed},
        },
        *,
    };

    #[test]
    fn a_run_is_a_case_of_its_file() {
        let mut junit = Junit::new(true);
        let keep = Keep { repeated: true, ..Keep::default() };
        for report in [
            TestReport { seed: 7, ..passed("test_a") },
            failed("test_a", "assert_eq: \"<a>\"\n\x1b != 1"),
            TestReport { file: "other.star".to_owned(), ..passed("test_b") },
        ] {
            junit.add(&FinishedRun::of(&report, keep).unwrap());
        }
        let mut text = Vec::new();
        junit.write(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for expected in [
            "<testsuites name=\"faultbox\" tests=\"3\" failures=\"1\" errors=\"0\">",
            "<testsuite name=\"fault-test.star\" tests=\"2\" disabled=\"0\" errors=\"0\" failures=\"1\">",
            "<testcase name=\"test_a seed=7\" classname=\"fault-test.star\" time=\"0.201\">",
            "message=\"assert_eq: &quot;&lt;a&gt;&quot;\\n\\x1b != 1\" type=\"assertion\"",
            "replay: faultbox test fault-test.star --test a --seed 0",
            "<testsuite name=\"other.star\" tests=\"1\"",
        ] {
            assert!(text.contains(expected), "{expected} is not in:\n{text}");
        }
    }
}
