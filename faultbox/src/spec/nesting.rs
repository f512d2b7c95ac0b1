//! How deep a spec nests. Parser and compiler recurse once per level, so that a file of a hundred
//! thousand parentheses would overflow the stack; here it is refused before they see it.

use super::scan::{Scan, Token};

/// How many tokens deep an expression may be. A parenthesis is a level, and so is every operator
/// of a chain: `1 + 1 + 1` leans to the left and is two deep. Elements of a list are not.
const DEEPEST_EXPRESSION: usize = 1000;

/// How many blocks may be inside each other.
const DEEPEST_BLOCK: usize = 100;

/// How many `elif` a file may have: each is one level below the one before.
const MOST_ELIF: usize = 500;

/// What is open at one level of brackets.
#[derive(Clone, Copy, Default)]
struct Level {
    /// Tokens since the last separator.
    chain: usize,
    /// The height of the highest bracket that was closed since then.
    inner: usize,
    /// The greatest sum of the two before the last separator.
    highest: usize,
}

impl Level {
    fn height(self) -> usize {
        self.highest.max(self.chain + self.inner)
    }

    fn separate(&mut self) {
        *self = Self { highest: self.height(), ..Self::default() };
    }
}

/// The byte offset where the source nests too deep, and in what; `None` when it does not.
pub(super) fn too_deep(source: &str) -> Option<(usize, &'static str)> {
    let mut open = vec![Level::default()];
    // Tokens of the chains of all levels that are open.
    let mut chains = 0;
    let mut blocks: Vec<usize> = Vec::new();
    let mut elifs = 0;
    for (at, token) in Scan::new(source) {
        let last = open.len() - 1;
        match token {
            Token::Open => {
                open[last].chain += 1;
                chains += 1;
                open.push(Level::default());
            }
            // One bracket too many is the parser's to report.
            Token::Close if last == 0 => {}
            Token::Close => {
                chains -= open[last].chain;
                let height = open[last].height();
                open.pop();
                let outer = &mut open[last - 1];
                outer.inner = outer.inner.max(height);
            }
            Token::Separator => {
                chains -= open[last].chain;
                open[last].separate();
            }
            // Within brackets a line's end means nothing.
            Token::Line(indent) if last == 0 => {
                chains = 0;
                open[0] = Level::default();
                while blocks.last().is_some_and(|it| *it >= indent) {
                    blocks.pop();
                }
                if indent > 0 {
                    blocks.push(indent);
                }
            }
            Token::Line(_) => {}
            Token::Word(word) => {
                elifs += usize::from(word == "elif");
                open[last].chain += 1;
                chains += 1;
            }
            Token::Text(_) | Token::Sign => {
                open[last].chain += 1;
                chains += 1;
            }
        }
        let here = open[open.len() - 1];
        if chains + here.inner.max(here.highest) > DEEPEST_EXPRESSION {
            return Some((at, "expression nests too deep"));
        }
        if blocks.len() > DEEPEST_BLOCK {
            return Some((at, "block nests too deep"));
        }
        if elifs > MOST_ELIF {
            return Some((at, "too many elif"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_nest_is_bounded() {
        let n = 100_000;
        for (name, source) in [
            ("parentheses", "(".repeat(n)),
            ("brackets", format!("x = {}{}", "[".repeat(n), "]".repeat(n))),
            ("calls", format!("f{}", "()".repeat(n))),
            ("calls with arguments", format!("f{}", "(1, 2)".repeat(n))),
            ("operators", format!("x = 1{}", " + 1".repeat(n))),
            ("signs", format!("x = {}1", "-".repeat(n))),
            ("not", format!("x = {}1", "not ".repeat(n))),
            ("lambda", format!("x = {}1", "lambda: ".repeat(n))),
            ("attributes", format!("x{}", ".y".repeat(n))),
            ("conditions", format!("x = {}1", "1 if 1 else ".repeat(n))),
            ("over lines", format!("x = {}", "(\n".repeat(n))),
            ("elif", format!("if 1:\n pass\n{}", "elif 1:\n pass\n".repeat(n))),
            ("behind each other", format!("x = {}", "(1 + 1 + 1 + 1) + ".repeat(n))),
            ("leaning", format!("x = {}1{}", "(".repeat(1500), " + 1)".repeat(1500))),
        ] {
            assert!(too_deep(&source).is_some(), "{name}");
        }
        let blocks = (0..500).fold(String::new(), |blocks, i| blocks + &" ".repeat(i) + "if 1:\n");
        assert!(too_deep(&blocks).is_some());
    }

    #[test]
    fn long_is_not_deep() {
        let n = 10_000;
        for source in [
            format!("x = [{}]", "(1, 'a'), ".repeat(n)),
            format!("x = {{{}}}", "'k': f(x, y = 2),\n".repeat(n)),
            "x = 1 + 1\n".repeat(n),
            "def f():\n    if x:\n        pass\n".repeat(n),
            format!("'''{}'''", "(".repeat(n)),
            format!("#{}", "(".repeat(n)),
        ] {
            assert_eq!(too_deep(&source), None);
        }
    }
}
