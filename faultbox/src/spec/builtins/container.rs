//! What `service()` takes for containers (language.md 2.3).

use std::path::{Path, PathBuf};

use starlark::values::Value;

use crate::spec::{
    ContainerOptions, Location, Source, Volume, arguments::Call, failure::Raised, suggest::quoted,
    values::Hooks,
};

use super::function;

/// What only containers take that faultbox starts.
const OF_CONTAINERS: &[&str] = &["volumes", "ports", "reuse"];

/// What only services take that faultbox starts: a container that runs is used as it is.
const OF_STARTED: &[&str] = &["args", "env", "volumes", "ports", "reuse"];

/// Where a container comes from, if the service is one.
pub(super) fn sources(call: &mut Call<'_>, location: &Location) -> Result<Vec<Source>, Raised> {
    let mut sources = Vec::new();
    if let Some(image) = call.string("image")? {
        if image.is_empty() || image.contains(char::is_whitespace) {
            let text = format!("bad image {}; use e.g. \"redis:7\"", quoted(image));
            return Err(call.wrong(text));
        }
        sources.push(Source::Image(image.to_owned()));
    }
    if let Some(directory) = call.string("build")? {
        sources.push(Source::Build(beside(location, directory)));
    }
    if let Some(name) = call.string("container")? {
        // What Docker allows in names and ids; the slash is between project and service.
        let is_fine = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 || parts.iter().any(|it| it.is_empty() || !it.chars().all(is_fine)) {
            let text = format!(
                "bad container {}; use its name or id, or \"project/service\" of Compose",
                quoted(name)
            );
            return Err(call.wrong(text));
        }
        sources.push(Source::Container(name.to_owned()));
    }
    Ok(sources)
}

/// The rest of what is said about a container.
pub(super) fn options<'v>(
    call: &mut Call<'v>,
    source: &Source,
    location: &Location,
) -> Result<(ContainerOptions, Hooks<'v>), Raised> {
    let given: Vec<&str> = OF_STARTED.iter().copied().filter(|it| call.has(it)).collect();
    let refused = |why: &str, refused: &[&str]| match given.iter().find(|it| refused.contains(it)) {
        Some(keyword) => Err(call.wrong(format_args!("{keyword}= {why}"))),
        None => Ok(()),
    };
    match source {
        Source::Binary(_) => refused("is for containers: use image= or build=", OF_CONTAINERS)?,
        Source::Container(_) => {
            refused("cannot be given: a container that runs is never changed", OF_STARTED)?;
        }
        Source::Image(_) | Source::Build(_) => {}
    }
    let volumes = call.optional("volumes");
    let volumes =
        volumes.map(|it| self::volumes(call, it, location)).transpose()?.unwrap_or_default();
    let ports = call.optional("ports");
    let ports = ports.map(|it| self::ports(call, it)).transpose()?.unwrap_or_default();
    let reuse = call.boolean("reuse")?.unwrap_or(false);
    let mut hook = |name: &str| {
        let value = call.optional(name);
        value.map(|it| function::without_parameters(call, &format!("{name}="), it)).transpose()
    };
    let hooks = Hooks { seed: hook("seed")?, reset: hook("reset")? };
    Ok((ContainerOptions { volumes, ports, reuse }, hooks))
}

/// A path of the spec: relative ones are beside the file.
fn beside(location: &Location, path: &str) -> PathBuf {
    let file = Path::new(&location.file);
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn volumes<'v>(
    call: &Call<'v>,
    value: Value<'v>,
    location: &Location,
) -> Result<Vec<Volume>, Raised> {
    let mut volumes = Vec::new();
    for (host, container) in call.as_string_dict("volumes=", value)? {
        if !host.contains('/') && host != "." && host != ".." {
            return Err(call.wrong(format_args!(
                "volumes=: {} is no path; write \"./{host}\" for a directory beside this file \
                 (volumes with names would carry data from one test to the next)",
                quoted(&host)
            )));
        }
        let (path, is_read_only) = match container.rsplit_once(':') {
            Some((path, "ro")) => (path, true),
            Some((path, "rw")) => (path, false),
            _ => (container.as_str(), false),
        };
        if !path.starts_with('/') || path.contains(':') || host.contains(':') {
            return Err(call.wrong(format_args!(
                "volumes=: bad path {}; use {{\"./data\": \"/data\"}}, or \"/data:ro\" for one \
                 that the container cannot write to",
                quoted(&container)
            )));
        }
        volumes.push(Volume {
            host: beside(location, &host),
            container: path.to_owned(),
            is_read_only,
        });
    }
    Ok(volumes)
}

/// Ports of the container, and those of this machine that lead to them.
fn ports<'v>(call: &Call<'v>, value: Value<'v>) -> Result<Vec<(u16, u16)>, Raised> {
    let wrong = || {
        let text = "ports= must be {container port: host port}, as in {8080: 18080}; 0 lets Docker \
                    choose";
        call.wrong(text)
    };
    let Some(dict) = starlark::values::dict::DictRef::from_value(value) else {
        return Err(wrong());
    };
    let mut ports = Vec::new();
    for (container, host) in dict.iter() {
        let port = |what, value| call.as_int(what, value).ok().flatten();
        let container = port("ports=", container).and_then(|it| u16::try_from(it).ok());
        let host = port("ports=", host).and_then(|it| u16::try_from(it).ok());
        match (container, host) {
            (Some(container @ 1..), Some(host)) => ports.push((container, host)),
            _ => return Err(wrong()),
        }
    }
    Ok(ports)
}
