//! `faultbox init`.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write, stdout},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use crate::{
    init::{Project, Starter, project_spec, service_name, starter_spec},
    runner::{self, Ending},
};

/// What compose itself looks for, in its order.
const COMPOSE_FILES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// No compose file is that long, in bytes.
const LARGEST: u64 = 1 << 20;

/// The flags of `faultbox init`.
#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The program to test
    #[arg(required_unless_present = "from_compose", conflicts_with = "from_compose")]
    binary: Option<String>,
    /// Name of the service [default: that of the program]
    #[arg(long, conflicts_with = "from_compose")]
    name: Option<String>,
    /// Where it listens; it is told by the variable PORT
    #[arg(long, value_name = "N", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "from_compose")]
    port: u16,
    /// What it speaks
    #[arg(long, default_value = "http", conflicts_with = "from_compose")]
    protocol: ProtocolName,
    /// Take the services of a compose file instead [default: the one of this directory]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[allow(clippy::option_option, reason = "without the flag, with it, and with a value")]
    from_compose: Option<Option<PathBuf>>,
    /// Write a new file instead of to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    /// GET /health is answered with 200
    Http,
    /// PING is answered with PONG
    Tcp,
}

/// Runs the command; returns the exit code.
pub(super) fn run(arguments: &InitArguments) -> u8 {
    match text(arguments).and_then(|text| deliver(&text, arguments.output.as_deref())) {
        Ok(()) => Ending::Passed.code(),
        Err(error) => {
            runner::message(format_args!("error: {error}"));
            Ending::Broken.code()
        }
    }
}

fn text(arguments: &InitArguments) -> Result<String, String> {
    let file = match &arguments.output {
        Some(path) => path.display().to_string(),
        None => "faultbox.star".to_owned(),
    };
    if let Some(compose) = &arguments.from_compose {
        let path = compose.clone().map_or_else(find_compose, Ok)?;
        let shown = path.display().to_string();
        let project = Project::parse(&read(&path)?).map_err(|error| format!("{shown}:{error}"))?;
        return Ok(project_spec(&project, &shown, &file));
    }
    let binary = arguments.binary.as_deref().unwrap_or_default();
    let name = match &arguments.name {
        Some(name) if service_name(name) == *name => name.clone(),
        Some(name) => {
            return Err(format!(
                "--name {name:?} is no name for a service; use letters, digits, \"_\" and \"-\", \
                 and no digit first, such as {:?}",
                service_name(name)
            ));
        }
        None => {
            let name = Path::new(binary).file_name().map(|it| it.to_string_lossy());
            service_name(&name.unwrap_or_default())
        }
    };
    Ok(starter_spec(&Starter {
        name: &name,
        binary,
        port: arguments.port,
        is_http: arguments.protocol == ProtocolName::Http,
        file: &file,
    }))
}

fn find_compose() -> Result<PathBuf, String> {
    let found = COMPOSE_FILES.iter().map(Path::new).find(|it| it.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        let names = COMPOSE_FILES.join(", ");
        format!("no compose file here ({names}); name it: faultbox init --from-compose FILE")
    })
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if fs::metadata(path).map_err(cannot)?.len() > LARGEST {
        let limit = LARGEST >> 20;
        return Err(format!("{} has more than {limit} MiB", path.display()));
    }
    fs::read_to_string(path).map_err(cannot)
}

/// Writes a new file and says so, or to standard output.
fn deliver(text: &str, output: Option<&Path>) -> Result<(), String> {
    let print = |text: &str| {
        stdout().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
    };
    let Some(path) = output else {
        return print(text);
    };
    let shown = path.display();
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{shown} exists already; remove it, or choose another --output")
        }
        _ => format!("cannot write {shown}: {error}"),
    })?;
    print(&format!("wrote {shown}\n"))
}
