//! `.dockerignore`: what of a directory is not sent to Docker.
//!
//! Each line is a pattern from the directory's root; `*` and `?` stay within one component, `**`
//! is any number of components, `!` takes back what an earlier line has excluded; the last line
//! that a path, or a directory above it, matches is decisive (docs.docker.com, "Build context").

use std::path::Path;

use regex::Regex;

/// The lines of a `.dockerignore`.
#[derive(Debug, Default)]
pub(super) struct IgnoreFile {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    pattern: Regex,
    takes_back: bool,
}

impl IgnoreFile {
    /// Understands the text of the file. An error says which line makes no sense.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = Vec::new();
        for line in text.lines().filter(|it| !it.starts_with('#')) {
            let (takes_back, pattern) = match line.trim().strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line.trim()),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            let pattern = Regex::new(&expression(&pattern))
                .map_err(|_| format!("{line:?} in .dockerignore is no pattern"))?;
            lines.push(Line { pattern, takes_back });
        }
        Ok(Self { lines })
    }

    /// Whether a path, relative to the directory, is left out.
    pub(super) fn excludes(&self, path: &Path) -> bool {
        let parts: Vec<_> =
            path.ancestors().map(Path::to_string_lossy).filter(|it| !it.is_empty()).collect();
        let is_hit = |line: &&Line| parts.iter().any(|it| line.pattern.is_match(it));
        self.lines.iter().rev().find(is_hit).is_some_and(|it| !it.takes_back)
    }

    /// Whether something below an excluded directory may be wanted all the same.
    pub(super) fn takes_back(&self) -> bool {
        self.lines.iter().any(|it| it.takes_back)
    }
}

/// The pattern without `.`, `..` and slashes that change nothing.
fn clean(pattern: &str) -> String {
    let mut parts = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The regular expression that means the same.
fn expression(pattern: &str) -> String {
    let mut text = String::from("^");
    let mut rest = pattern.chars().peekable();
    while let Some(it) = rest.next() {
        match it {
            '*' if rest.next_if_eq(&'*').is_some() => {
                rest.next_if_eq(&'/');
                text.push_str(if rest.peek().is_none() { ".*" } else { "(.*/)?" });
            }
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' => {
                text.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    text.push('^');
                }
                while let Some(it) = rest.next() {
                    match it {
                        ']' => break,
                        '-' => text.push('-'),
                        '\\' => text.extend(rest.next().map(literal)),
                        it => text.push_str(&literal(it)),
                    }
                }
                text.push(']');
            }
            '\\' => text.extend(rest.next().map(literal)),
            it => text.push_str(&literal(it)),
        }
    }
    text.push('$');
    text
}

fn literal(it: char) -> String {
    regex::escape(it.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded<'p>(text: &str, paths: &[&'p str]) -> Vec<&'p str> {
        let file = IgnoreFile::parse(text).unwrap();
        paths.iter().copied().filter(|it| file.excludes(Path::new(it))).collect()
    }

    #[test]
    fn patterns_start_at_the_root_and_stars_stay_in_their_component() {
        let paths = ["a.log", "x/a.log", "x/y/a.log", "log", "x/log"];
        assert_eq!(excluded("*.log", &paths), ["a.log"]);
        assert_eq!(excluded("*/*.log", &paths), ["x/a.log"]);
        assert_eq!(excluded("**/*.log", &paths), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(excluded("/log/", &paths), ["log"]);
        assert_eq!(excluded("x/**", &paths), ["x/a.log", "x/y/a.log", "x/log"]);
        assert_eq!(excluded("**", &paths), paths);
        assert_eq!(excluded("[a-b].lo?", &paths), ["a.log"]);
        assert_eq!(excluded("[^a].log", &paths), [""; 0]);
    }

    #[test]
    fn a_directory_takes_along_what_is_below_it_unless_taken_back() {
        let paths = ["node_modules/a/b.js", "node_modules/keep.js", "src/b.js"];
        assert_eq!(excluded("node_modules", &paths), paths[..2]);
        assert_eq!(excluded("node_modules\n!node_modules/keep.js", &paths), paths[..1]);
        // The last line counts.
        assert_eq!(excluded("!node_modules/keep.js\nnode_modules", &paths), paths[..2]);
        assert_eq!(excluded("*\n!src", &paths), paths[..2]);
    }

    #[test]
    fn comments_spaces_and_special_characters_mean_what_docker_takes_them_for() {
        assert_eq!(excluded("# a\n\n  a+b (c)  \n", &["a+b (c)", "aab (c)", "# a"]), ["a+b (c)"]);
        assert_eq!(excluded("./x/../y", &["x", "y"]), ["y"]);
        assert_eq!(excluded("\\*", &["*", "a"]), ["*"]);
        assert_eq!(excluded(".", &["a"]), [""; 0]);
        assert!(IgnoreFile::parse("[]").unwrap_err().contains("is no pattern"));
    }
}
