//! Text of services and specs, made harmless: it must neither garble a terminal nor fake a line
//! of the report.

use std::fmt::Write;

/// Longer texts lose their end.
const MAX_CHARS: usize = 4000;

/// The text on one line: control characters and those that change the direction of writing are
/// shown by their code, and a text beyond 4000 characters says how much is missing.
pub(super) fn one_line(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(4 * MAX_CHARS));
    for char in text.chars().take(MAX_CHARS) {
        match char {
            '\t' => plain.push(char),
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            _ if char.is_ascii_control() => {
                // Writing to a string cannot fail.
                let _ = write!(plain, "\\x{:02x}", char as u32);
            }
            _ if char.is_control() || is_invisible(char) => {
                plain.extend(char.escape_unicode());
            }
            _ => plain.push(char),
        }
    }
    let missing = text.chars().skip(MAX_CHARS).count();
    if missing > 0 {
        let _ = write!(plain, "… ({missing} more characters)");
    }
    plain
}

/// A text that may have several lines, each of them as in [`one_line`], no more than 100.
pub(super) fn lines(text: &str) -> Vec<String> {
    const MAX_LINES: usize = 100;
    let mut plain: Vec<_> = text.lines().take(MAX_LINES).map(one_line).collect();
    let missing = text.lines().skip(MAX_LINES).count();
    if missing > 0 {
        plain.push(format!("… ({missing} more lines)"));
    }
    if plain.is_empty() {
        plain.push(String::new());
    }
    plain
}

/// A word for a POSIX shell: quoted unless every character is harmless there.
pub(super) fn shell_word(word: &str) -> String {
    let harmless = |it: char| it.is_ascii_alphanumeric() || "_./-+=:@%,".contains(it);
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `1 call`, `2 calls`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Line separators, marks and overrides of direction, the byte order mark.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_cannot_garble_the_terminal() {
        assert_eq!(one_line("\x1b[2J\x07a\tb\r\n"), "\\x1b[2J\\x07a\tb\\r\\n");
        assert_eq!(one_line("\u{9b}31m \u{202e}ssap"), "\\u{9b}31m \\u{202e}ssap");
        assert_eq!(one_line("grüße →"), "grüße →");
    }

    #[test]
    fn long_texts_say_what_is_missing() {
        let text = one_line(&"x".repeat(5000));
        assert!(text.ends_with("x… (1000 more characters)"), "{}", &text[3990..]);
        let text = lines(&"x\n".repeat(105));
        assert_eq!((text.len(), &*text[100]), (101, "… (5 more lines)"));
        assert_eq!(lines(""), [""]);
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("specs/a-b.star"), "specs/a-b.star");
        assert_eq!(shell_word("my spec's.star"), r"'my spec'\''s.star'");
        assert_eq!(shell_word(""), "''");
    }
}
