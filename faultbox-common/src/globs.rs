//! Path globs, compiled to a form that an eBPF program can run.
//!
//! A glob becomes a list of elements, one for each character or wildcard, and a set of positions
//! in that list becomes a bit set: reading a byte is two ANDs, a shift and two ORs, whatever the
//! byte and whatever the glob. All globs that one call of one service is faulted with share the
//! bits, so that one walk along the path answers for all of them. The lists are in reverse, and
//! so are the bytes: the kernel finds a path from its last name to its first.

use crate::is_same;

/// Sets of globs that are in use at the same time.
pub const MAX_GLOB_SETS: u32 = 64;
/// Globs of one set.
pub const MAX_GLOBS: usize = 8;
/// Characters and wildcards of one set, with one more for each glob.
pub const GLOB_POSITIONS: usize = 128;

/// 128 bits as two words, which is how eBPF can shift them.
pub type Bits = [u64; 2];

/// What one byte does to the positions.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Positions that move on to the next.
    pub advance: Bits,
    /// Positions that stay.
    pub stay: Bits,
}

/// Compiled globs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Globs {
    /// By byte.
    pub steps: [Step; 256],
    /// Positions before a `*` or `**`, which may match nothing.
    pub stars: Bits,
    /// Positions before a `**` that may vanish together with the `/` in front of it.
    pub skips: Bits,
    /// The first position of each glob.
    pub starts: Bits,
    /// The last position of each glob; the first, which is nobody's, where there is none.
    pub ends: [Bits; MAX_GLOBS],
    /// Differs from that of every set that was in the same place of the table.
    pub epoch: u64,
}

/// The positions that a match has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matcher(pub Bits);

#[inline(always)]
fn and(a: Bits, b: Bits) -> Bits {
    [a[0] & b[0], a[1] & b[1]]
}

#[inline(always)]
fn or(a: Bits, b: Bits) -> Bits {
    [a[0] | b[0], a[1] | b[1]]
}

#[inline(always)]
fn shift<const N: u32>(a: Bits) -> Bits {
    [a[0] << N, a[1] << N | a[0] >> (64 - N)]
}

impl Matcher {
    /// Before the last byte of a path.
    #[inline(always)]
    pub fn start(globs: &Globs) -> Self {
        Self(close(globs.starts, [0, 0], globs))
    }

    /// Takes the byte in front of those taken before.
    #[inline(always)]
    #[must_use]
    pub fn step(self, globs: &Globs, byte: u8) -> Self {
        let step = &globs.steps[byte as usize];
        let entered = shift::<1>(and(self.0, step.advance));
        Self(close(entered, and(self.0, step.stay), globs))
    }

    /// The globs that the bytes so far match, a bit for each.
    #[inline(always)]
    pub fn matched(self, globs: &Globs) -> u64 {
        let mut matched = 0;
        let mut i = 0;
        while i < MAX_GLOBS {
            let [low, high] = and(self.0, globs.ends[i]);
            matched |= (is_same(low | high, 0) ^ 1) << i;
            i += 1;
        }
        matched
    }
}

/// Adds the positions that are reached without a byte: past a star, from wherever, and past a `**`
/// and its `/`, unless it has taken a byte already. Compilation sees to it that one round is
/// enough: no two stars are neighbours.
#[inline(always)]
fn close(entered: Bits, stayed: Bits, globs: &Globs) -> Bits {
    let skipped = shift::<2>(and(entered, globs.skips));
    let all = or(or(entered, skipped), stayed);
    or(all, shift::<1>(and(all, globs.stars)))
}

#[cfg(not(target_arch = "bpf"))]
pub use compile::GlobError;

#[cfg(not(target_arch = "bpf"))]
mod compile {
    use core::fmt;

    use super::{Bits, GLOB_POSITIONS, Globs, MAX_GLOBS, Matcher, Step};

    /// Why a glob cannot be compiled.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum GlobError {
        /// It does not start with `/` or `**`.
        Relative,
        /// It has too many characters and wildcards, alone or together with the others.
        TooLong,
        /// More than [`MAX_GLOBS`].
        TooMany,
        /// A `[` without its `]`.
        UnclosedClass,
        /// `[]`, or a range that ends before it starts.
        EmptyClass,
        /// A `\` with nothing behind it.
        TrailingBackslash,
    }

    impl fmt::Display for GlobError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Relative => f.write_str("must be absolute: start it with / or **/"),
                Self::TooLong => write!(
                    f,
                    "has more than {} characters, alone or with the other paths in faults on the \
                     same call; use ** for a part",
                    GLOB_POSITIONS - 1
                ),
                Self::TooMany => {
                    write!(f, "is one of more than {MAX_GLOBS} in faults on the same call")
                }
                Self::UnclosedClass => {
                    f.write_str("has a [ without ]; write \\[ to mean the character")
                }
                Self::EmptyClass => f.write_str("has a [] that matches nothing"),
                Self::TrailingBackslash => f.write_str("ends in a \\ with nothing behind it"),
            }
        }
    }

    impl core::error::Error for GlobError {}

    /// 256 bits: which bytes are meant.
    type Set = [u64; 4];

    fn has(set: &Set, byte: u8) -> bool {
        set[byte as usize / 64] >> (byte % 64) & 1 == 1
    }

    fn add(set: &mut Set, byte: u8) {
        set[byte as usize / 64] |= 1 << (byte % 64);
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Element {
        /// One byte of these.
        Byte(Set),
        /// `?`: one character other than `/`, however many bytes UTF-8 makes of it.
        Any,
        /// `*`.
        Star,
        /// `**`.
        Stars,
    }

    const SLASH: Element = {
        let mut set = [0; 4];
        set[0] = 1 << b'/';
        Element::Byte(set)
    };

    struct Elements {
        list: [Element; GLOB_POSITIONS],
        len: usize,
    }

    impl Elements {
        fn push(&mut self, element: Element) -> Result<(), GlobError> {
            let last = self.len.checked_sub(1).map(|at| self.list[at]);
            match (last, element) {
                // Neighbours mean what the stronger of them means.
                (Some(Element::Stars), Element::Star | Element::Stars)
                | (Some(Element::Star), Element::Star) => return Ok(()),
                (Some(Element::Star), Element::Stars) => self.len -= 1,
                // `**/**` likewise: the slash is taken back.
                (Some(SLASH), Element::Stars)
                    if self.len >= 2 && self.list[self.len - 2] == Element::Stars =>
                {
                    self.len -= 1;
                    return Ok(());
                }
                _ => {}
            }
            *self.list.get_mut(self.len).ok_or(GlobError::TooLong)? = element;
            self.len += 1;
            Ok(())
        }
    }

    impl Globs {
        /// Matches nothing.
        pub const EMPTY: Self = Self {
            steps: [Step { advance: [0; 2], stay: [0; 2] }; 256],
            stars: [0; 2],
            skips: [0; 2],
            starts: [0; 2],
            ends: [[0; 2]; MAX_GLOBS],
            epoch: 0,
        };

        /// Compiles globs (language.md 1.10): `*` is any run of characters but `/`, `**` any run
        /// at all, `?` one character but `/`, `[a-z]` and `[!a-z]` one byte of a class but `/`.
        /// `/dir/**` matches `/dir` as well, and `/a/**/b` matches `/a/b`. A `\` takes the meaning
        /// from the character behind it.
        ///
        /// # Errors
        ///
        /// When one is relative or malformed, or all together are too long or too many.
        pub fn compile<'a>(
            &mut self,
            globs: impl IntoIterator<Item = &'a [u8]>,
        ) -> Result<(), GlobError> {
            *self = Self::EMPTY;
            // The first position is nobody's, so that an unused end matches nothing.
            let mut first = 1;
            for (i, glob) in globs.into_iter().enumerate() {
                let end = self.ends.get_mut(i).ok_or(GlobError::TooMany)?;
                let mut elements = parse(glob)?;
                let last = first + elements.len;
                if last >= GLOB_POSITIONS {
                    return Err(GlobError::TooLong);
                }
                set(end, last);
                set(&mut self.starts, first);
                self.fill(first, &mut elements.list[..elements.len]);
                first = last + 1;
            }
            Ok(())
        }

        fn fill(&mut self, first: usize, elements: &mut [Element]) {
            elements.reverse();
            for (i, element) in elements.iter().enumerate() {
                let at = first + i;
                for byte in 0..=255u8 {
                    let Step { advance, stay } = &mut self.steps[byte as usize];
                    // In reverse, the continuation bytes of UTF-8 come before the first.
                    let continues = byte & 0xc0 == 0x80;
                    let (advances, stays) = match element {
                        Element::Byte(set) => (has(set, byte), false),
                        Element::Any => (byte != b'/' && !continues, continues),
                        Element::Star => (false, byte != b'/'),
                        Element::Stars => (false, true),
                    };
                    if advances {
                        set(advance, at);
                    }
                    if stays {
                        set(stay, at);
                    }
                }
                if matches!(element, Element::Star | Element::Stars) {
                    set(&mut self.stars, at);
                }
                // Reversed: what is behind it in the glob is in front of it here.
                let behind = i == 0 || elements[i - 1] == SLASH;
                let before = elements.get(i + 1) == Some(&SLASH);
                if *element == Element::Stars && behind && before {
                    set(&mut self.skips, at);
                }
            }
        }

        /// The globs that a path, as the process sees it, matches: a bit for each.
        pub fn matches(&self, path: &[u8]) -> u64 {
            let step = |matcher: Matcher, byte: &u8| matcher.step(self, *byte);
            path.iter().rev().fold(Matcher::start(self), step).matched(self)
        }
    }

    fn parse(glob: &[u8]) -> Result<Elements, GlobError> {
        if !glob.starts_with(b"/") && !glob.starts_with(b"**") {
            return Err(GlobError::Relative);
        }
        let mut elements = Elements { list: [SLASH; GLOB_POSITIONS], len: 0 };
        let mut rest = glob;
        while let [first, behind @ ..] = rest {
            rest = behind;
            let element = match first {
                b'*' => match rest {
                    [b'*', behind @ ..] => {
                        rest = behind;
                        Element::Stars
                    }
                    _ => Element::Star,
                },
                b'?' => Element::Any,
                b'[' => {
                    let (set, behind) = class(rest)?;
                    rest = behind;
                    Element::Byte(set)
                }
                b'\\' => {
                    let [escaped, behind @ ..] = rest else {
                        return Err(GlobError::TrailingBackslash);
                    };
                    rest = behind;
                    literal(*escaped)
                }
                other => literal(*other),
            };
            elements.push(element)?;
        }
        Ok(elements)
    }

    fn set(bits: &mut Bits, at: usize) {
        bits[at / 64] |= 1 << (at % 64);
    }

    fn literal(byte: u8) -> Element {
        let mut set = [0; 4];
        add(&mut set, byte);
        Element::Byte(set)
    }

    /// What follows a `[`: the class, and what is left behind its `]`.
    fn class(text: &[u8]) -> Result<(Set, &[u8]), GlobError> {
        let (negated, mut rest) = match text {
            [b'!' | b'^', behind @ ..] => (true, behind),
            _ => (false, text),
        };
        let mut set = [0; 4];
        let mut is_first = true;
        loop {
            let (low, behind) = match rest {
                [] => return Err(GlobError::UnclosedClass),
                // As in `[]a]`: in the first place it is a member.
                [b']', behind @ ..] if !is_first => {
                    rest = behind;
                    break;
                }
                [b'\\', byte, behind @ ..] | [byte, behind @ ..] => (*byte, behind),
            };
            is_first = false;
            rest = behind;
            let mut high = low;
            if let [b'-', end, behind @ ..] = rest
                && *end != b']'
            {
                (high, rest) = (*end, behind);
            }
            for byte in low..=high {
                add(&mut set, byte);
            }
        }
        if negated {
            set = set.map(|word| !word);
        }
        set[0] &= !(1 << b'/');
        if set == [0; 4] { Err(GlobError::EmptyClass) } else { Ok((set, rest)) }
    }
}

#[cfg(test)]
mod tests;
