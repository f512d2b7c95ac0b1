//! Splits a spec into coarse tokens without parsing it: what is needed before the parser may see
//! the file (how deep it nests) and beside it (which words it uses).

/// A token, as coarse as its two readers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'s> {
    /// An identifier, a keyword or a number.
    Word(&'s str),
    /// What is between the quotes, escapes untouched.
    Text(&'s str),
    /// `(`, `[` or `{`.
    Open,
    /// `)`, `]` or `}`.
    Close,
    /// `,` or `;`.
    Separator,
    /// The end of a line, with the indentation of the next in characters.
    Line(usize),
    /// Anything else that is not blank.
    Sign,
}

/// Goes through a source token by token, with the byte offset of each. Comments are left out.
pub(super) struct Scan<'s> {
    source: &'s str,
    offset: usize,
}

impl<'s> Scan<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, offset: 0 }
    }

    /// Takes as long as the test holds.
    fn take_while(&mut self, test: impl Fn(char) -> bool) -> &'s str {
        let rest = &self.source[self.offset..];
        let length = rest.find(|c| !test(c)).unwrap_or(rest.len());
        self.offset += length;
        &rest[..length]
    }

    /// Takes a string whose opening quote is next. One quote ends at the line's end, too: the
    /// parser will say that the closing one is missing.
    fn take_text(&mut self, quote: char) -> &'s str {
        let rest = &self.source[self.offset..];
        let (one, three) = (&rest[..1], rest.get(..3));
        let triple = three.is_some_and(|it| it.chars().all(|c| c == quote));
        let end = if triple { &rest[..3] } else { one };
        let body = &rest[end.len()..];
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if body[at..].starts_with(end) {
                self.offset += end.len() + at + end.len();
                return &body[..at];
            } else if c == '\n' && !triple {
                self.offset += end.len() + at;
                return &body[..at];
            }
        }
        self.offset = self.source.len();
        body
    }
}

impl<'s> Iterator for Scan<'s> {
    type Item = (usize, Token<'s>);

    fn next(&mut self) -> Option<Self::Item> {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r'));
        if self.source[self.offset..].starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        let at = self.offset;
        let next = self.source[at..].chars().next()?;
        let token = match next {
            '"' | '\'' => Token::Text(self.take_text(next)),
            c if is_word(c) => Token::Word(self.take_while(is_word)),
            _ => {
                self.offset += next.len_utf8();
                match next {
                    '(' | '[' | '{' => Token::Open,
                    ')' | ']' | '}' => Token::Close,
                    ',' | ';' => Token::Separator,
                    '\n' => {
                        let indent = self.take_while(|c| matches!(c, ' ' | '\t'));
                        Token::Line(indent.len())
                    }
                    _ => Token::Sign,
                }
            }
        };
        Some((at, token))
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(source: &str) -> Vec<Token<'_>> {
        Scan::new(source).map(|(_, token)| token).collect()
    }

    #[test]
    fn words_strings_and_brackets_are_told_apart() {
        assert_eq!(
            tokens("f(a1, 'x') # fsync(\n  b"),
            [
                Token::Word("f"),
                Token::Open,
                Token::Word("a1"),
                Token::Separator,
                Token::Text("x"),
                Token::Close,
                Token::Line(2),
                Token::Word("b"),
            ]
        );
    }

    #[test]
    fn strings_keep_brackets_and_comments_to_themselves() {
        assert_eq!(tokens(r"'(\'#' x"), [Token::Text(r"(\'#"), Token::Word("x")]);
        assert_eq!(tokens("'''a\n('b'''"), [Token::Text("a\n('b")]);
        assert_eq!(tokens("''"), [Token::Text("")]);
        assert_eq!(tokens("'open\nx"), [Token::Text("open"), Token::Line(0), Token::Word("x")]);
    }

    #[test]
    fn no_text_makes_it_stumble() {
        for source in ["'", "\"\"\"", "'\\", "é", "'é", "#", "\u{feff}", "\"\"\"\\"] {
            tokens(source);
        }
    }
}
