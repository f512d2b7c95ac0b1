//! The files that a spec loads, directly and through others (language.md 1.15).
//!
//! All of them are read and parsed with the spec, so that a missing file, a cycle or a missing
//! symbol is found before anything is evaluated. How they are evaluated: `values/load.rs`.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use starlark::syntax::{
    AstModule,
    ast::{AssignTargetP, AstNoPayload, AstStmt, LoadP, StmtP},
};

use super::{
    Location, SpecError, file,
    layout::{self, LoadStatement},
    suggest::{did_you_mean, quoted},
};

/// As many files may one spec load, and so as deep may they load each other.
const MOST_FILES: usize = 256;

/// They have at most this many bytes together.
const LARGEST_SUM: usize = 32 << 20;

/// A loaded file.
#[derive(Clone, Debug)]
pub(super) struct LoadedFile {
    /// As errors name it: relative to where the spec's path is relative to.
    pub(super) path: String,
    /// As read.
    pub(super) source: String,
    /// As evaluated: see `layout::wrapped`.
    pub(super) text: String,
    /// Its functions that would be tests if it were not loaded.
    pub(super) tests: BTreeSet<String>,
    exports: BTreeSet<String>,
}

/// One `load()` statement.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Which of the files.
    pub(super) file: usize,
    /// What is taken from it, by its name there.
    pub(super) symbols: Vec<String>,
}

/// All files that a spec loads.
#[derive(Clone, Debug, Default)]
pub(super) struct Library {
    /// Each once, those that it loads before it.
    pub(super) files: Vec<LoadedFile>,
    /// The statements of all files, by the number that the rewritten texts give them.
    pub(super) sites: Vec<Site>,
    /// What the rewritten texts call to load something: a name that no file uses.
    pub(super) function: String,
}

/// A spec's own part of the result.
pub(super) struct Root {
    /// Its text with `load()` made a call.
    pub(super) text: String,
    /// The names that its `load()` statements bind.
    pub(super) imports: BTreeSet<String>,
}

/// Reads everything that a spec loads.
pub(super) fn gather(
    path: &str,
    source: &str,
    module: &AstModule,
) -> Result<(Root, Library), SpecError> {
    let canonical = Path::new(path).canonicalize().unwrap_or_else(|_| path.into());
    let mut gathering =
        Gathering { chain: vec![(canonical, path.to_owned())], ..Gathering::default() };
    let loads = gathering.loads_of(path, source, module)?;
    let sources = gathering.files.iter().map(|it| &*it.file.source).chain([source]);
    let function = layout::unused_name(&sources.collect::<Vec<_>>());
    let files = gathering.files.into_iter().map(|mut it| {
        let text = layout::with_calls(&it.file.source, &it.loads, &function);
        it.file.text = layout::wrapped(&text, &it.file.exports, &function);
        it.file
    });
    let files = files.collect();
    let text = layout::with_calls(source, &loads, &function);
    let imports = loads.into_iter().flat_map(|load| load.names).collect();
    Ok((Root { text, imports }, Library { files, sites: gathering.sites, function }))
}

/// A file whose text is not rewritten yet.
struct Found {
    file: LoadedFile,
    loads: Vec<LoadStatement>,
}

#[derive(Default)]
struct Gathering {
    files: Vec<Found>,
    /// By canonical path.
    known: HashMap<PathBuf, usize>,
    sites: Vec<Site>,
    /// The files that are being read, the spec first: canonical path, and as errors name it.
    chain: Vec<(PathBuf, String)>,
    bytes: usize,
}

impl Gathering {
    /// The `load()` statements of a file, with everything that they load.
    fn loads_of(
        &mut self,
        path: &str,
        source: &str,
        module: &AstModule,
    ) -> Result<Vec<LoadStatement>, SpecError> {
        let mut loads = Vec::new();
        for statement in top_level(module.statement()) {
            let StmtP::Load(load) = &statement.node else {
                continue;
            };
            let at = |span| file::location(&module.file_span(span));
            let index = self.file(path, source, load, &at(load.module.span))?;
            for argument in &load.args {
                let (found, symbol) = (&self.files[index].file, &*argument.their.node);
                if found.exports.contains(symbol) {
                    continue;
                }
                let text = missing(found, symbol);
                return Err(SpecError::at(at(argument.their.span), source, text));
            }
            let span = statement.span;
            loads.push(LoadStatement {
                bytes: span.begin().get() as usize..span.end().get() as usize,
                site: self.sites.len(),
                names: load.args.iter().map(|it| it.local.node.ident.clone()).collect(),
            });
            let symbols = load.args.iter().map(|it| it.their.node.clone()).collect();
            self.sites.push(Site { file: index, symbols });
        }
        Ok(loads)
    }

    /// The number of the file that a statement at this place loads.
    fn file(
        &mut self,
        from: &str,
        source: &str,
        load: &LoadP<AstNoPayload>,
        at: &Location,
    ) -> Result<usize, SpecError> {
        let name = &*load.module.node;
        let wrong = |text: String| SpecError::at(at.clone(), source, text);
        if name.starts_with('@') {
            return Err(wrong(format!(
                "load({}): names with @ are reserved for files that come with faultbox, and this \
                 version has none; give a path relative to this file",
                quoted(name)
            )));
        }
        let path = Path::new(from).with_file_name("").join(name.trim_start_matches("./"));
        let shown = path.display().to_string();
        let cannot = |reason: String| wrong(format!("load({}): {reason}", quoted(name)));
        let canonical = path
            .canonicalize()
            .map_err(|error| cannot(format!("cannot read {shown}: {}", file::io_reason(&error))))?;
        if let Some(begin) = self.chain.iter().position(|(it, _)| *it == canonical) {
            let mut names: Vec<&str> = self.chain[begin..].iter().map(|(_, it)| &**it).collect();
            names.push(names[0]);
            return Err(wrong(format!("circular load(): {}", names.join(" -> "))));
        }
        if let Some(index) = self.known.get(&canonical) {
            return Ok(*index);
        }
        let bytes = file::read_bytes(&path).map_err(cannot)?;
        self.bytes += bytes.len();
        // Those that are not finished count, too.
        if self.files.len() + self.chain.len() > MOST_FILES {
            return Err(cannot(format!("one spec cannot load more than {MOST_FILES} files")));
        }
        if self.bytes > LARGEST_SUM {
            let limit = LARGEST_SUM >> 20;
            return Err(cannot(format!("the loaded files have more than {limit} MiB together")));
        }
        let source = file::decode(&shown, bytes)?;
        let module = file::parse(&shown, &source, &source)?;
        self.chain.push((canonical.clone(), shown.clone()));
        let loads = self.loads_of(&shown, &source, &module)?;
        self.chain.pop();
        let mut bound = BTreeSet::new();
        bound_names(module.statement(), &mut bound);
        let is_test = |it: &&AstStmt| matches!(&it.node, StmtP::Def(def) if def.name.node.ident.starts_with("test_"));
        let tests = top_level(module.statement()).into_iter().filter(is_test).filter_map(defined);
        let file = LoadedFile {
            path: shown,
            tests: tests.collect(),
            source,
            text: String::new(),
            exports: bound.into_iter().filter(|it| !it.starts_with('_')).collect(),
        };
        self.files.push(Found { file, loads });
        self.known.insert(canonical, self.files.len() - 1);
        Ok(self.files.len() - 1)
    }
}

/// Why a file does not give a symbol.
fn missing(file: &LoadedFile, symbol: &str) -> String {
    if symbol.starts_with('_') {
        let symbol = quoted(symbol);
        return format!("{symbol} is private to {}, because of its leading underscore", file.path);
    }
    let hint = did_you_mean(symbol, file.exports.iter().map(String::as_str));
    format!("{} has no global {}{hint}", file.path, quoted(symbol))
}

/// The statements of a file that are in no other; those that share a line are a group of their own.
fn top_level(statement: &AstStmt) -> Vec<&AstStmt> {
    match &statement.node {
        StmtP::Statements(statements) => statements.iter().flat_map(top_level).collect(),
        _ => vec![statement],
    }
}

fn defined(statement: &AstStmt) -> Option<String> {
    match &statement.node {
        StmtP::Def(def) => Some(def.name.node.ident.clone()),
        _ => None,
    }
}

/// The globals that a statement at the top level can bind.
fn bound_names(statement: &AstStmt, names: &mut BTreeSet<String>) {
    match &statement.node {
        StmtP::Statements(statements) => {
            for statement in statements {
                bound_names(statement, names);
            }
        }
        StmtP::Assign(assign) => targets(&assign.lhs.node, names),
        StmtP::AssignModify(target, ..) => targets(&target.node, names),
        StmtP::If(_, then) => bound_names(then, names),
        StmtP::IfElse(_, both) => {
            bound_names(&both.0, names);
            bound_names(&both.1, names);
        }
        StmtP::For(each) => {
            targets(&each.var.node, names);
            bound_names(&each.body, names);
        }
        StmtP::Def(def) => {
            names.insert(def.name.node.ident.clone());
        }
        StmtP::Load(load) => {
            names.extend(load.args.iter().map(|it| it.local.node.ident.clone()));
        }
        StmtP::Break | StmtP::Continue | StmtP::Pass | StmtP::Return(_) | StmtP::Expression(_) => {}
    }
}

fn targets(target: &AssignTargetP<AstNoPayload>, names: &mut BTreeSet<String>) {
    match target {
        AssignTargetP::Tuple(parts) => {
            for part in parts {
                targets(&part.node, names);
            }
        }
        AssignTargetP::Identifier(name) => {
            names.insert(name.node.ident.clone());
        }
        AssignTargetP::Index(_) | AssignTargetP::Dot(..) => {}
    }
}
