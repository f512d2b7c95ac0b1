//! `faultbox generate`.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write, stdout},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    generate::{Category, Filter, Plan, Topology, render, rows},
    runner::{self, Ending},
    spec::SpecFile,
};

/// A spec may take this long to load.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(180);

/// The flags of `faultbox generate`.
#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    /// The spec whose scenarios and services are used
    file: PathBuf,
    /// Print what would be generated and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write everything into this file instead of one <scenario>.faults.star per scenario
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only for this scenario
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Only mutations of this service, as --dry-run counts them
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only mutations of this kind
    #[arg(long, value_name = "KIND", default_value = "all")]
    category: CategoryName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CategoryName {
    /// Refused, slow and reset connections, and partitions
    Network,
    /// Failing writes and fsyncs
    Disk,
    /// Both
    All,
}

/// A file to be written.
struct Output {
    path: PathBuf,
    text: String,
    message: String,
}

/// Runs the command; returns the exit code.
pub(super) fn run(arguments: &GenerateArguments) -> u8 {
    match generate(arguments) {
        Ok(()) => Ending::Passed.code(),
        Err(error) => {
            runner::message(format_args!("error: {error}"));
            Ending::Broken.code()
        }
    }
}

fn generate(arguments: &GenerateArguments) -> Result<(), String> {
    let loaded = runner::load(&arguments.file, LOAD_TIMEOUT, |_, loaded| {
        let topology = Topology::new(loaded.declarations(), &loaded.service_variables());
        (topology, loaded.exports())
    });
    let (file, (topology, exports)) = loaded.map_err(|error| error.to_string())?;
    if let Some(hidden) = topology.scenarios.iter().find(|it| !exports.contains(it)) {
        return Err(format!(
            "scenario {hidden} cannot be loaded from {}: it must be a global function without a \
             leading underscore",
            file.path()
        ));
    }
    let plan = Plan::new(
        topology,
        &Filter {
            scenario: arguments.scenario.clone(),
            service: arguments.service.clone(),
            category: match arguments.category {
                CategoryName::Network => Category::Network,
                CategoryName::Disk => Category::Disk,
                CategoryName::All => Category::All,
            },
        },
    )?;
    if arguments.dry_run {
        return print(&rows(&plan));
    }
    let outputs = outputs(&plan, arguments)?;
    for output in &outputs {
        spare_sources(&output.path, &file)?;
    }
    for Output { path, text, message } in outputs {
        fs::write(&path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        print(&message)?;
    }
    Ok(())
}

fn outputs(plan: &Plan, arguments: &GenerateArguments) -> Result<Vec<Output>, String> {
    let output = |path: PathBuf, scenarios: &[String], message: String| {
        let spec = relative(&arguments.file, &path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Output { text: render(plan, scenarios, &name, &spec), path, message })
    };
    if let Some(path) = &arguments.output {
        let total = plan.mutations() * plan.scenarios.len();
        let message = format!("wrote {} ({total} mutations)\n", path.display());
        return Ok(vec![output(path.clone(), &plan.scenarios, message)?]);
    }
    let each = plan.scenarios.iter().map(|scenario| {
        let path = format!("{scenario}.faults.star");
        let message = format!("wrote {path}\n");
        output(path.into(), std::slice::from_ref(scenario), message)
    });
    each.collect()
}

/// Refuses to write over what the generated file would load.
fn spare_sources(path: &Path, file: &SpecFile) -> Result<(), String> {
    let Ok(path) = path.canonicalize() else {
        return Ok(());
    };
    if file.paths().any(|it| it.canonicalize().is_ok_and(|it| it == path)) {
        let path = path.display();
        return Err(format!("would overwrite {path}, which is a source; choose another --output"));
    }
    Ok(())
}

/// The path of a file as `load()` in another one has to name it.
fn relative(file: &Path, from: &Path) -> Result<String, String> {
    let (file_folder, from_folder) = (folder(file)?, folder(from)?);
    let (to, from): (Vec<_>, Vec<_>) =
        (file_folder.components().collect(), from_folder.components().collect());
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let mut path: PathBuf = from[common..].iter().map(|_| Component::ParentDir).collect();
    path.extend(&to[common..]);
    path.push(file.file_name().unwrap_or_default());
    let path = path.into_os_string().into_string();
    let path = path.map_err(|it| format!("load() cannot name {}: not UTF-8", it.display()))?;
    // A leading @ would mean a file that comes with faultbox.
    Ok(if path.starts_with('@') { format!("./{path}") } else { path })
}

/// The directory of a file, without symbolic links, so that `..` leads where it seems to.
fn folder(file: &Path) -> Result<PathBuf, String> {
    let folder = file.parent().filter(|it| *it != OsStr::new("")).unwrap_or(Path::new("."));
    let cannot = |error: io::Error| format!("cannot write to {}: {error}", folder.display());
    folder.canonicalize().map_err(cannot)
}

fn print(text: &str) -> Result<(), String> {
    stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}
