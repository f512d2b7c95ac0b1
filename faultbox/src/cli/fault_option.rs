//! What `--fault` and `--fs-fault` say: which calls to break, and how.
//!
//! Two forms: the spec's, `write=deny(EIO, probability=10%)`, whose keyword may be a family, and
//! the one with colons, `write=EIO:10%:/data/**:nth=3`, which means exactly the call it names.

mod colons;
mod expression;

use std::{fmt, fmt::Write as _, num::NonZeroU64};

use faultbox_common::Operand;

use crate::{
    engine::{
        Action, FAMILIES, PathGlob, Probability, Rule, RuleId, Site, Syscall, TargetId,
        expand_keyword,
    },
    runner::chance,
    spec::{did_you_mean, quoted},
};

/// Calls that `eof()` can stand in for.
const READS: &[&str] = &["read", "readv", "pread64", "preadv", "preadv2", "recvfrom", "recvmsg"];

/// The calls of each op of `--fs-fault`.
const FILE_OPS: &[(&str, &[&str])] = &[
    ("open", &["open", "openat", "openat2", "creat"]),
    ("read", &["read", "readv", "pread64", "preadv", "preadv2"]),
    ("write", &["write", "writev", "pwrite64", "pwritev", "pwritev2"]),
    ("sync", &["fsync", "fdatasync", "sync_file_range", "syncfs"]),
    ("fsync", &["fsync", "fdatasync"]),
    ("mkdir", &["mkdir", "mkdirat"]),
    ("delete", &["unlink", "unlinkat", "rmdir"]),
    ("stat", &["stat", "lstat", "fstat", "newfstatat", "statx"]),
];

/// What an option may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// `--fault` of `faultbox run`: either form.
    Either,
    /// `--fault` of `faultbox attach`: the spec's form.
    Expression,
    /// `--fs-fault`: with colons, on files.
    Files,
}

impl Grammar {
    fn option(self) -> &'static str {
        match self {
            Self::Either | Self::Expression => "--fault",
            Self::Files => "--fs-fault",
        }
    }
}

/// One rule, as an option asks for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FaultOption {
    /// The keyword, as it was written.
    keyword: String,
    /// Which calls.
    pub(super) syscalls: Vec<Syscall>,
    effect: Effect,
}

/// What happens to the calls, and when.
#[derive(Clone, Debug, PartialEq)]
struct Effect {
    action: Action,
    is_eof: bool,
    probability: Probability,
    path: Option<PathGlob>,
    nth: Option<NonZeroU64>,
    after: u64,
    max_hits: Option<NonZeroU64>,
    label: Option<String>,
}

impl Effect {
    fn always(action: Action) -> Self {
        Self {
            action,
            is_eof: false,
            probability: Probability::ALWAYS,
            path: None,
            nth: None,
            after: 0,
            max_hits: None,
            label: None,
        }
    }
}

/// Something that cannot be understood, at a byte of the text.
#[derive(Debug)]
struct Wrong {
    at: usize,
    what: String,
}

impl Wrong {
    fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }
}

/// What is wrong with an option: its name, what to do about it, and where.
#[derive(Debug)]
pub(super) struct OptionError {
    option: &'static str,
    text: String,
    wrong: Wrong,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.wrong.at).unwrap_or(&self.text).chars().count();
        // Anything else would move the caret, or the terminal.
        let visible = |it: char| if it.is_control() { ' ' } else { it };
        let shown: String = self.text.chars().map(visible).collect();
        write!(f, "{}: {} (column {})", self.option, self.wrong.what, before + 1)?;
        write!(f, "\n  {shown}\n  {}^", " ".repeat(before))
    }
}

impl FaultOption {
    /// Reads what an option says.
    pub(super) fn parse(grammar: Grammar, text: &str) -> Result<Self, OptionError> {
        read(grammar, text).map_err(|wrong| OptionError {
            option: grammar.option(),
            text: text.to_owned(),
            wrong,
        })
    }

    /// Reads all texts of an option.
    pub(super) fn parse_all(grammar: Grammar, texts: &[String]) -> Result<Vec<Self>, OptionError> {
        texts.iter().map(|text| Self::parse(grammar, text)).collect()
    }

    /// The engine's rule, the `index`th of all options, on one target. Seed, command, keyword and
    /// index decide about its chance, as in a spec.
    pub(super) fn rule(&self, target: TargetId, command: &str, seed: u64, index: usize) -> Rule {
        let index = index as u32;
        let site = Site::of(target);
        Rule {
            path: self.effect.path.clone(),
            probability: self.effect.probability,
            nth: self.effect.nth,
            after: self.effect.after,
            max_hits: self.effect.max_hits,
            stream: chance::stream(seed, command, &self.keyword, index, 0),
            ..Rule::new(RuleId(index), site, self.syscalls.clone(), self.effect.action)
        }
    }

    /// Whether it is to break something.
    pub(super) fn breaks(&self) -> bool {
        self.effect.action != Action::Allow
    }

    /// Why it may not have fired although this many calls matched.
    pub(super) fn why_never_fired(&self, matched: u64) -> String {
        let calls = if matched == 1 { "1 call".to_owned() } else { format!("{matched} calls") };
        let effect = &self.effect;
        match (effect.nth, effect.probability) {
            _ if matched == 0 => "no call matched; the program may use another call for the same \
                                  work (e.g. pwrite64 instead of write)"
                .to_owned(),
            (Some(nth), _) if nth.get() > matched => {
                format!("only {calls} matched, fewer than nth={nth}")
            }
            _ if effect.after >= matched => {
                format!("only {calls} matched, and after={} spares them", effect.after)
            }
            (_, probability) if !probability.is_certain() => format!(
                "{calls} matched, but probability={probability} spared each; try another --seed \
                 or a higher probability"
            ),
            _ => format!("{calls} matched, but another rule had decided already"),
        }
    }
}

/// As in reports: `write=deny(EIO) → filter:[write,writev,pwrite64] probability=10%`.
impl fmt::Display for FaultOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = &self.effect;
        write!(f, "{}=", self.keyword)?;
        match effect.action {
            Action::Return(_) if effect.is_eof => f.write_str("eof()")?,
            Action::Deny(errno) => write!(f, "deny({errno})")?,
            Action::Delay(time) => write!(f, "delay({time:?})")?,
            Action::Return(value) => write!(f, "returns({value})")?,
            Action::Crash(signal) => write!(f, "crash({signal})")?,
            Action::Allow => f.write_str("allow()")?,
        }
        let calls: Vec<_> = self.syscalls.iter().map(|it| it.name()).collect();
        write!(f, " → filter:[{}]", calls.join(","))?;
        if let Some(path) = &effect.path {
            write!(f, " path={}", plain(path.as_str()))?;
        }
        if !effect.probability.is_certain() {
            write!(f, " probability={}", effect.probability)?;
        }
        if let Some(nth) = effect.nth {
            write!(f, " nth={nth}")?;
        }
        if effect.after > 0 {
            write!(f, " after={}", effect.after)?;
        }
        if let Some(max_hits) = effect.max_hits {
            write!(f, " max_hits={max_hits}")?;
        }
        if let Some(label) = &effect.label {
            write!(f, " label=\"{}\"", plain(label))?;
        }
        Ok(())
    }
}

/// A user's text on one line of a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for char in text.chars() {
        if char.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(plain, "{}", char.escape_unicode());
        } else {
            plain.push(char);
        }
    }
    plain
}

fn read(grammar: Grammar, text: &str) -> Result<FaultOption, Wrong> {
    let example = match grammar {
        Grammar::Either => "write=deny(EIO) or write=EIO:10%",
        Grammar::Expression => "write=deny(EIO, probability=10%)",
        Grammar::Files => "write=EIO:10%:/data/**",
    };
    let Some((keyword, rest)) = text.split_once('=') else {
        let what = format!("expected KEYWORD=ACTION, as in {example}");
        return Err(Wrong::new(text.len(), what));
    };
    let start = keyword.len() + 1;
    let keyword = keyword.trim();
    if keyword.is_empty() {
        return Err(Wrong::new(0, format!("expected a keyword before =, as in {example}")));
    }
    let is_expression = expression::is_one(rest);
    let option = match grammar {
        Grammar::Files if is_expression => {
            let what = format!("this option takes the form with colons, as in {example}");
            return Err(Wrong::new(start, what));
        }
        Grammar::Files => {
            let effect = colons::read(text, start)?;
            FaultOption { keyword: keyword.to_owned(), syscalls: file_op(keyword)?, effect }
        }
        Grammar::Expression if !is_expression => {
            let what = format!("expected an action with parentheses, as in {example}");
            return Err(Wrong::new(start, what));
        }
        _ if is_expression => {
            let syscalls = expand_keyword(keyword).filter(|it| !it.is_empty());
            let syscalls = syscalls.ok_or_else(|| unknown_call(keyword, true))?;
            let effect = expression::read(text, start)?;
            FaultOption { keyword: keyword.to_owned(), syscalls, effect }
        }
        _ => {
            let syscall =
                Syscall::from_name(keyword).ok_or_else(|| unknown_call(keyword, false))?;
            let effect = colons::read(text, start)?;
            FaultOption { keyword: keyword.to_owned(), syscalls: vec![syscall], effect }
        }
    };
    check(&option, grammar, start)?;
    Ok(option)
}

fn unknown_call(keyword: &str, has_families: bool) -> Wrong {
    let families = FAMILIES.iter().map(|(name, _)| *name).filter(|_| has_families);
    let near = did_you_mean(keyword, families.chain(Syscall::all().map(Syscall::name)));
    Wrong::new(0, format!("unknown system call {}{near}", quoted(keyword)))
}

fn file_op(keyword: &str) -> Result<Vec<Syscall>, Wrong> {
    let Some((_, calls)) = FILE_OPS.iter().find(|(name, _)| *name == keyword) else {
        let names: Vec<_> = FILE_OPS.iter().map(|(name, _)| *name).collect();
        let what = format!("unknown op {}; there are {}", quoted(keyword), names.join(", "));
        return Err(Wrong::new(0, what));
    };
    // Each architecture lacks some.
    Ok(calls.iter().filter_map(|name| Syscall::from_name(name)).collect())
}

/// What only keyword and effect together show.
fn check(option: &FaultOption, grammar: Grammar, start: usize) -> Result<(), Wrong> {
    let FaultOption { keyword, syscalls, effect } = option;
    if effect.is_eof
        && let Some(other) = syscalls.iter().find(|it| !READS.contains(&it.name()))
    {
        let what = format!(
            "eof() is for calls that read ({}), and {other} does not; to skip a call and report \
             a value use returns()",
            READS.join(", ")
        );
        return Err(Wrong::new(start, what));
    }
    let has_no_file = |it: &Syscall| matches!(it.operand().0, Operand::None | Operand::Address);
    if effect.path.is_some() && syscalls.iter().all(has_no_file) {
        let what = format!("{keyword} works on no file: leave out the path");
        return Err(Wrong::new(start, what));
    }
    let goes_elsewhere = matches!(keyword.as_str(), "read" | "write");
    if grammar == Grammar::Files && effect.path.is_none() && goes_elsewhere {
        let what = format!(
            "{keyword} works on sockets and terminals, too: say which files, as in \
             {keyword}=EIO:10%:/data/**"
        );
        return Err(Wrong::new(start, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
