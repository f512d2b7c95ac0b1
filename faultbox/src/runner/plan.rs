//! Which tests of a file are to run, and with which seeds.

use crate::spec::TestDeclaration;

/// Which tests, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// `--test`: a name, with or without `test_`; `None`: all.
    pub(crate) test: Option<String>,
    /// `--runs`: how often each test runs.
    pub(crate) runs: u32,
    /// `--seed`: the first run's; each further run has the next.
    pub(crate) seed: u64,
    /// `--until-fail`: that often at most, and no more once one has failed.
    pub(crate) until_fail: bool,
}

impl Selection {
    /// The tests to run, of these.
    pub(crate) fn choose(&self, tests: &[TestDeclaration]) -> Vec<TestDeclaration> {
        let is_chosen = |test: &&TestDeclaration| match &self.test {
            None => true,
            Some(name) => test.name == *name || test.name.strip_prefix("test_") == Some(name),
        };
        tests.iter().filter(is_chosen).cloned().collect()
    }

    /// Whether a test may have several runs.
    pub(crate) fn is_repeated(&self) -> bool {
        self.runs > 1
    }

    /// The seed of a test's `run`th run, from 0.
    pub(crate) fn seed_of(&self, run: usize) -> u64 {
        self.seed.wrapping_add(run as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TestKind;

    fn choose(name: Option<&str>) -> Vec<String> {
        let tests = ["test_a", "test_ab", "test_test_a"].map(|name| TestDeclaration {
            name: name.to_owned(),
            kind: TestKind::Function,
            timeout: None,
            must_fire: false,
        });
        let test = name.map(str::to_owned);
        let chosen = Selection { test, runs: 1, seed: 0, until_fail: false }.choose(&tests);
        chosen.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn a_test_is_chosen_by_its_exact_name_with_or_without_prefix() {
        assert_eq!(choose(None).len(), 3);
        assert_eq!(choose(Some("a")), ["test_a"]);
        assert_eq!(choose(Some("test_ab")), ["test_ab"]);
        assert_eq!(choose(Some("test_a")), ["test_a", "test_test_a"]);
        assert!(choose(Some("b")).is_empty());
        assert!(choose(Some("")).is_empty());
    }

    #[test]
    fn runs_count_seeds_upwards() {
        let all = Selection { test: None, runs: 3, seed: u64::MAX - 1, until_fail: false };
        assert_eq!([0, 1, 2].map(|run| all.seed_of(run)), [u64::MAX - 1, u64::MAX, 0]);
    }
}
