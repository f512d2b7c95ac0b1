//! Which system calls a spec could mean.

use std::collections::BTreeSet;

use crate::engine::{Syscall, expand_keyword};

use super::scan::{Scan, Token};

/// Every call whose name, or whose family's name, is a word of the source, be it an identifier, a
/// keyword argument or within a string. Comments do not count.
pub(super) fn mentioned_syscalls(source: &str) -> Vec<Syscall> {
    let mut found = BTreeSet::new();
    for (_, token) in Scan::new(source) {
        let text = match token {
            Token::Word(word) => word,
            Token::Text(text) => text,
            _ => continue,
        };
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '_') {
            found.extend(expand_keyword(word).unwrap_or_default());
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_strings_and_families_are_found_and_comments_are_not() {
        let source = "fault(db, fsync = deny('EIO'))\nop(syscalls = ['msync'])  # statfs\n";
        let mut names: Vec<_> = mentioned_syscalls(source).iter().map(|it| it.name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["fdatasync", "fsync", "msync"]);
    }
}
