//! How results are to look.

/// What to show, and whether in colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// `--debug`: every call, hit counts, the summary of every test.
    pub debug: bool,
    /// `--show fail`: blocks of passing tests are left out.
    pub only_failures: bool,
    /// Whether to colour verdicts and warnings: for terminals, unless `NO_COLOR` is set.
    pub color: bool,
}

impl Style {
    pub(super) fn pass(self) -> &'static str {
        self.pick("PASS", "\x1b[32mPASS\x1b[0m")
    }

    pub(super) fn fail(self) -> &'static str {
        self.pick("FAIL", "\x1b[31mFAIL\x1b[0m")
    }

    pub(super) fn warning(self) -> &'static str {
        self.pick("WARNING", "\x1b[33mWARNING\x1b[0m")
    }

    fn pick(self, plain: &'static str, colored: &'static str) -> &'static str {
        if self.color { colored } else { plain }
    }
}
