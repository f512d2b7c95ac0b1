//! A spec file: read, checked to be Starlark, not yet evaluated.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use starlark::{
    codemap::FileSpan,
    syntax::{AstModule, Dialect, DialectTypes},
};

use crate::engine::Syscall;

use super::{
    Location, SpecError, layout,
    library::{self, Library, Root},
    mentions, nesting,
};

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

/// A spec file with all that it loads, read and found to be well-formed Starlark. Cheap to
/// evaluate any number of times, on any number of threads.
#[derive(Clone, Debug)]
pub struct SpecFile {
    path: String,
    source: String,
    /// What is evaluated: the source with `load()` made a call.
    text: String,
    imports: BTreeSet<String>,
    library: Arc<Library>,
}

impl SpecFile {
    /// Reads and parses a file and what it loads. Errors: a file cannot be read, is a directory,
    /// is larger than 8 MiB, is not UTF-8, nests too deep for the parser, or has a syntax error;
    /// files load each other in a circle, or what another one does not have.
    ///
    /// The parser recurses: call it where 4 MiB of stack are left.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let name = path.display().to_string();
        let bytes = read_bytes(path).map_err(SpecError::whole)?;
        Self::new(name, bytes)
    }

    /// A file of that name and content.
    pub(super) fn new(path: String, bytes: Vec<u8>) -> Result<Self, SpecError> {
        let source = decode(&path, bytes)?;
        let module = parse(&path, &source, &source)?;
        let (Root { text, imports }, library) = library::gather(&path, &source, &module)?;
        Ok(Self { path, source, text, imports, library: Arc::new(library) })
    }

    /// The path as the user named it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The paths of the file and of all that it loads.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let loaded = self.library.files.iter().map(|it| Path::new(&it.path));
        [Path::new(&self.path)].into_iter().chain(loaded)
    }

    /// Of the text of the file and of all that it loads: another one if any of it has changed. Not
    /// for use against malice.
    pub fn digest(&self) -> String {
        let loaded = self.library.files.iter().flat_map(|it| [&*it.path, &*it.source]);
        let bytes = [&*self.source].into_iter().chain(loaded).flat_map(|it| it.bytes().chain([0]));
        // FNV-1a.
        let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
    }

    /// Every system call whose name, or whose family's name, is a word of the file or of one that
    /// it loads, outside of comments, in the table's order. Good for sizing the supervisor's
    /// filter, which must know the calls before a service starts; a name that the spec puts
    /// together at run time is not found.
    pub fn mentioned_syscalls(&self) -> Vec<Syscall> {
        let loaded = self.library.files.iter().map(|it| &*it.source);
        let all: BTreeSet<_> =
            loaded.chain([&*self.source]).flat_map(mentions::mentioned_syscalls).collect();
        all.into_iter().collect()
    }

    /// What it loads.
    pub(super) fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Whether a global of this name is bound by a `load()`.
    pub(super) fn imports(&self, name: &str) -> bool {
        self.imports.contains(name)
    }

    /// The syntax tree; a new one each time, since evaluating uses it up.
    pub(super) fn parse(&self) -> Result<AstModule, SpecError> {
        parse(&self.path, &self.text, &self.source)
    }

    /// An error at a place of this file or of one that it loads.
    pub(super) fn error_at(&self, location: Location, text: impl Into<String>) -> SpecError {
        let loaded = self.library.files.iter().find(|it| it.path == location.file);
        let source = loaded.map_or(&self.source, |it| &it.source);
        SpecError::at(location, source, text)
    }
}

/// The content of a file, or why it cannot be had.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let cannot = |error: io::Error| format!("{name}: cannot read the spec: {}", io_reason(&error));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        let limit = LARGEST >> 20;
        return Err(format!("{name}: larger than {limit} MiB; is it a spec?"));
    }
    Ok(bytes)
}

/// An error of the system in words: "No such file or directory (os error 2)" has a number that
/// says nothing to the user.
pub(super) fn io_reason(error: &io::Error) -> String {
    let reason = error.to_string();
    reason.split(" (os error").next().unwrap_or(&reason).to_owned()
}

/// The text of a file, known to be safe to parse.
pub(super) fn decode(path: &str, bytes: Vec<u8>) -> Result<String, SpecError> {
    let source = match String::from_utf8(bytes) {
        Ok(source) => source,
        Err(error) => {
            let (valid, byte) = (
                error.utf8_error().valid_up_to(),
                error.as_bytes()[error.utf8_error().valid_up_to()],
            );
            let source = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let text = format!("not UTF-8: byte 0x{byte:02x}");
            return Err(SpecError::at(place(path, &source, valid), &source, text));
        }
    };
    // Editors on other systems begin files with a byte order mark.
    let source = source.strip_prefix('\u{feff}').map_or_else(|| source.clone(), str::to_owned);
    if let Some((at, what)) = nesting::too_deep(&source) {
        return Err(SpecError::at(place(path, &source, at), &source, what));
    }
    Ok(source)
}

/// The syntax tree of a text under this name; errors show lines of the source, which has the same.
pub(super) fn parse(path: &str, text: &str, source: &str) -> Result<AstModule, SpecError> {
    AstModule::parse(path, text.to_owned(), &DIALECT).map_err(|error| {
        let text = error.kind().to_string();
        let text = text.strip_prefix("Parse error: ").unwrap_or(&text);
        match error.span() {
            Some(span) => SpecError::at(location(span), source, text),
            None => SpecError::whole(format!("{path}: {text}")),
        }
    })
}

/// Where a span of the evaluator begins.
pub(super) fn location(span: &FileSpan) -> Location {
    let begin = span.resolve_span().begin;
    let (file, line, column) = layout::original(span.filename(), begin.line, begin.column);
    Location { file: file.to_owned(), line, column }
}

/// Where a byte of a source is.
fn place(file: &str, source: &str, offset: usize) -> Location {
    let before = String::from_utf8_lossy(&source.as_bytes()[..offset.min(source.len())]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Location { file: file.to_owned(), line, column }
}
