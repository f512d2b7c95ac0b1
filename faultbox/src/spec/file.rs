//! A spec file: read, checked to be Starlark, not yet evaluated.

use std::{fs::File, io::Read, path::Path};

use starlark::{
    codemap::FileSpan,
    syntax::{AstModule, Dialect, DialectTypes},
};

use crate::engine::Syscall;

use super::{Location, SpecError, mentions, nesting};

/// No spec is that long; a device or a data file given by mistake is.
const LARGEST: u64 = 8 << 20;

/// What specs may use of the language: everything but types and f-strings (language.md 1.1).
const DIALECT: Dialect = Dialect {
    enable_def: true,
    enable_lambda: true,
    enable_load: true,
    enable_keyword_only_arguments: true,
    enable_positional_only_arguments: false,
    enable_types: DialectTypes::Disable,
    enable_load_reexport: true,
    enable_top_level_stmt: true,
    enable_f_strings: false,
    _non_exhaustive: (),
};

/// A spec file, read and found to be well-formed Starlark. Cheap to evaluate any number of times,
/// on any number of threads.
#[derive(Clone, Debug)]
pub struct SpecFile {
    path: String,
    source: String,
}

impl SpecFile {
    /// Reads and parses a file. Errors: it cannot be read, is a directory, is larger than 8 MiB,
    /// is not UTF-8, nests too deep for the parser, has a syntax error, or uses `load()`.
    ///
    /// The parser recurses: call it where 4 MiB of stack are left.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let name = path.display().to_string();
        let cannot = |error: std::io::Error| {
            // "No such file or directory (os error 2)": the number says nothing to the user.
            let reason = error.to_string();
            let reason = reason.split(" (os error").next().unwrap_or(&reason).to_owned();
            SpecError::whole(format!("{name}: cannot read the spec: {reason}"))
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(cannot)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > LARGEST {
            let limit = LARGEST >> 20;
            return Err(SpecError::whole(format!(
                "{name}: larger than {limit} MiB; is it a spec?"
            )));
        }
        Self::new(name, bytes)
    }

    /// A file of that name and content.
    pub(super) fn new(path: String, bytes: Vec<u8>) -> Result<Self, SpecError> {
        let source = match String::from_utf8(bytes) {
            Ok(source) => source,
            Err(error) => {
                let (valid, byte) = (
                    error.utf8_error().valid_up_to(),
                    error.as_bytes()[error.utf8_error().valid_up_to()],
                );
                let source = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let text = format!("not UTF-8: byte 0x{byte:02x}");
                return Err(SpecError::at(place(&path, &source, valid), &source, text));
            }
        };
        // Editors on other systems begin files with a byte order mark.
        let source = source.strip_prefix('\u{feff}').map_or_else(|| source.clone(), str::to_owned);
        if let Some((at, what)) = nesting::too_deep(&source) {
            return Err(SpecError::at(place(&path, &source, at), &source, what));
        }
        let file = Self { path, source };
        let module = file.parse()?;
        if let Some(load) = module.loads().first() {
            let text = "load() is not supported by this version; put everything into one file";
            return Err(file.error_at(location(&load.span), text));
        }
        Ok(file)
    }

    /// The path as the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Every system call whose name, or whose family's name, is a word of the file outside of
    /// comments, in the table's order. Good for sizing the supervisor's filter, which must know
    /// the calls before a service starts; a name that the spec puts together at run time is not
    /// found.
    pub fn mentioned_syscalls(&self) -> Vec<Syscall> {
        mentions::mentioned_syscalls(&self.source)
    }

    /// The syntax tree; a new one each time, since evaluating uses it up.
    pub(super) fn parse(&self) -> Result<AstModule, SpecError> {
        AstModule::parse(&self.path, self.source.clone(), &DIALECT).map_err(|error| {
            let text = error.kind().to_string();
            let text = text.strip_prefix("Parse error: ").unwrap_or(&text);
            match error.span() {
                Some(span) => self.error_at(location(span), text),
                None => SpecError::whole(format!("{}: {text}", self.path)),
            }
        })
    }

    /// An error at a place of this file.
    pub(super) fn error_at(&self, location: Location, text: impl Into<String>) -> SpecError {
        SpecError::at(location, &self.source, text)
    }
}

/// Where a span of the evaluator begins.
pub(super) fn location(span: &FileSpan) -> Location {
    let begin = span.resolve_span().begin;
    Location { file: span.filename().to_owned(), line: begin.line + 1, column: begin.column + 1 }
}

/// Where a byte of a source is.
fn place(file: &str, source: &str, offset: usize) -> Location {
    let before = String::from_utf8_lossy(&source.as_bytes()[..offset.min(source.len())]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Location { file: file.to_owned(), line, column }
}
