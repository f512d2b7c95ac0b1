//! What a compose file says of its services: as much of it as a spec can say.

use std::{fmt, rc::Rc};

use super::yaml::{self, Node, Yaml, YamlError};

/// Keys that mean nothing to a test.
const IRRELEVANT: &[&str] = &[
    "container_name",
    "deploy",
    "develop",
    "healthcheck",
    "hostname",
    "labels",
    "logging",
    "networks",
    "pull_policy",
    "restart",
    "stdin_open",
    "stop_grace_period",
    "tty",
];

/// Keys that are read.
const READ: &[&str] =
    &["build", "command", "depends_on", "environment", "expose", "image", "ports", "volumes"];

/// As many can run in one test.
const MOST_SERVICES: usize = 1024;

/// What a service is started from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Image(String),
    /// The directory of the Dockerfile.
    Build(String),
}

/// A service of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    /// Where it listens, inside its container, each once.
    pub(crate) ports: Vec<u16>,
    pub(crate) env: Vec<(String, String)>,
    /// Places in [`Project::services`], before this one.
    pub(crate) depends_on: Vec<usize>,
    /// Paths of this machine and of the container.
    pub(crate) volumes: Vec<(String, String)>,
    pub(crate) command: Vec<String>,
    /// Things to say beside it: what could not be taken over.
    pub(crate) notes: Vec<String>,
}

/// All services, each behind those that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) services: Vec<Service>,
}

/// What is wrong, at `line:column`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ComposeError(YamlError);

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let YamlError { place: (line, column), text } = &self.0;
        write!(f, "{line}:{column}: {text}")
    }
}

fn wrong(node: &Node, text: impl Into<String>) -> ComposeError {
    ComposeError(YamlError { place: node.place, text: text.into() })
}

impl Project {
    /// Reads a compose file.
    pub(crate) fn parse(text: &str) -> Result<Self, ComposeError> {
        let tree = yaml::parse(text).map_err(ComposeError)?;
        let services = tree.get("services").filter(|it| matches!(it.value, Yaml::Map(_)));
        let Some(services) = services else {
            return Err(wrong(&tree, "no services: in it; is it a compose file?"));
        };
        let entries = services.entries();
        if entries.is_empty() {
            return Err(wrong(services, "services: is empty"));
        }
        if entries.len() > MOST_SERVICES {
            return Err(wrong(services, format!("more than {MOST_SERVICES} services")));
        }
        let names: Vec<&str> = entries.iter().map(|(name, _)| &**name).collect();
        let mut needs = Vec::new();
        for (name, node) in entries {
            needs.push(dependencies(name, node, &names)?);
        }
        let order = order(&needs).map_err(|cycle| {
            let path: Vec<_> = cycle.iter().map(|it| names[*it]).collect();
            wrong(&entries[cycle[0]].1, format!("circular depends_on: {}", path.join(" -> ")))
        })?;
        let mut services = Vec::new();
        for index in &order {
            let (name, node) = &entries[*index];
            let place = |needed: &usize| order.iter().position(|it| it == needed);
            let depends_on = needs[*index].iter().filter_map(place).collect();
            services.push(service(name, node, depends_on)?);
        }
        Ok(Self { services })
    }
}

/// The services in an order in which each comes behind those that it needs, or a cycle, its first
/// service at both ends.
fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    let mut is_placed = vec![false; needs.len()];
    while order.len() < needs.len() {
        let is_next =
            |it: &usize| !is_placed[*it] && needs[*it].iter().all(|needed| is_placed[*needed]);
        if let Some(next) = (0..needs.len()).find(is_next) {
            is_placed[next] = true;
            order.push(next);
            continue;
        }
        // Each of the rest needs another of the rest: following one comes back.
        let first = (0..needs.len()).find(|it| !is_placed[*it]).unwrap_or_default();
        let mut path = vec![first];
        loop {
            let last = path[path.len() - 1];
            let next = needs[last].iter().find(|it| !is_placed[**it]).copied();
            let next = next.unwrap_or(first);
            if let Some(begin) = path.iter().position(|it| *it == next) {
                path.push(next);
                return Err(path.split_off(begin));
            }
            path.push(next);
        }
    }
    Ok(order)
}

fn dependencies(name: &str, node: &Node, names: &[&str]) -> Result<Vec<usize>, ComposeError> {
    let Some(list) = node.get("depends_on") else {
        return Ok(Vec::new());
    };
    let keys = list.entries().iter().map(|(key, _)| &**key);
    let texts = list.elements().iter().filter_map(|it| it.text());
    let mut needed = Vec::new();
    for other in keys.chain(texts) {
        let Some(index) = names.iter().position(|it| *it == other) else {
            let text = format!("service {name:?} depends on {other:?}, which is not in the file");
            return Err(wrong(list, text));
        };
        if !needed.contains(&index) {
            needed.push(index);
        }
    }
    Ok(needed)
}

fn service(name: &str, node: &Node, depends_on: Vec<usize>) -> Result<Service, ComposeError> {
    let mut notes = Vec::new();
    let origin = origin(name, node, &mut notes)?;
    let mut env = Vec::new();
    let mut unset = Vec::new();
    for (variable, value) in environment(node) {
        env.push((variable, interpolated(&value, &mut unset)));
    }
    unset.dedup();
    if !unset.is_empty() {
        let unset = unset.join(", ");
        notes.push(format!("put in the values of {unset}, which the compose file leaves open"));
    }
    let volumes = volumes(node, &mut notes);
    let other: Vec<_> = node
        .entries()
        .iter()
        .map(|(key, _)| &**key)
        .filter(|it| !READ.contains(it) && !IRRELEVANT.contains(it) && !it.starts_with("x-"))
        .collect();
    if !other.is_empty() {
        notes.push(format!("not taken over: {}", other.join(", ")));
    }
    let command = node.get("command").map_or_else(Vec::new, words);
    let ports = ports(name, node)?;
    Ok(Service { name: name.to_owned(), origin, ports, env, depends_on, volumes, command, notes })
}

fn origin(name: &str, node: &Node, notes: &mut Vec<String>) -> Result<Origin, ComposeError> {
    if let Some(build) = node.get("build") {
        if let Some(file) = build.get("dockerfile").and_then(|it| it.text())
            && file != "Dockerfile"
        {
            notes.push(format!("the compose file builds it from {file}"));
        }
        let context = build.text().or_else(|| build.get("context").and_then(|it| it.text()));
        return Ok(Origin::Build(context.unwrap_or(".").to_owned()));
    }
    let image = node.get("image").and_then(|it| it.text());
    let image = image.map(|it| interpolated(it, &mut Vec::new()));
    image
        .map(Origin::Image)
        .ok_or_else(|| wrong(node, format!("service {name:?} has neither image: nor build:")))
}

/// `environment:`, as a map or as a list of `NAME=VALUE`.
fn environment(node: &Node) -> Vec<(String, String)> {
    let Some(environment) = node.get("environment") else {
        return Vec::new();
    };
    let pair = |name: &str, value: Option<&str>| {
        // Without a value it comes from the environment of compose.
        let open = || format!("${{{name}}}");
        (name.to_owned(), value.map_or_else(open, str::to_owned))
    };
    let entries = environment.entries().iter().map(|(name, it)| pair(name, it.text()));
    let elements = environment.elements().iter().filter_map(|it| it.text());
    let elements = elements.map(|it| match it.split_once('=') {
        Some((name, value)) => pair(name, Some(value)),
        None => pair(it, None),
    });
    entries.chain(elements).collect()
}

/// The text with `${NAME:-default}` replaced by the default. Names without one stay, and are noted.
fn interpolated(text: &str, unset: &mut Vec<String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result += &rest[..at];
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            result.push('$');
            rest = after;
            continue;
        }
        let Some((inside, after)) = rest.strip_prefix("${").and_then(|it| it.split_once('}'))
        else {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest[1..].find(|c| !is_name(c)).map_or(rest.len(), |it| it + 1);
            if end > 1 {
                unset.push(rest[1..end].to_owned());
            }
            result += &rest[..end];
            rest = &rest[end..];
            continue;
        };
        if let Some((_, default)) = inside.split_once('-') {
            result += default;
        } else {
            let name = inside.split([':', '?']).next().unwrap_or(inside);
            unset.push(name.to_owned());
            result.extend(["${", name, "}"]);
        }
        rest = after;
    }
    result + rest
}

fn ports(name: &str, node: &Node) -> Result<Vec<u16>, ComposeError> {
    let mut ports = Vec::new();
    for key in ["ports", "expose"] {
        let elements = node.get(key).map_or(&[][..], |it| it.elements());
        for element in elements {
            let text = element.text().or_else(|| element.get("target").and_then(|it| it.text()));
            let text = interpolated(text.unwrap_or_default(), &mut Vec::new());
            // `127.0.0.1:8080-8090:80-90/tcp` is about 80.
            if text.ends_with("/udp") {
                continue;
            }
            let port = text.split('/').next().unwrap_or_default();
            let port = port.rsplit(':').next().unwrap_or_default();
            let port = port.split('-').next().unwrap_or_default();
            match port.parse::<u16>() {
                Ok(port) if port > 0 => {
                    if !ports.contains(&port) {
                        ports.push(port);
                    }
                }
                _ => {
                    let text = format!("service {name:?}: {text:?} in {key}: is no port");
                    return Err(wrong(element, text));
                }
            }
        }
    }
    Ok(ports)
}

/// Directories and files of this machine; what compose itself would keep is left to the container.
fn volumes(node: &Node, notes: &mut Vec<String>) -> Vec<(String, String)> {
    let mut volumes = Vec::new();
    let elements = node.get("volumes").map_or(&[][..], |it| it.elements());
    for element in elements {
        let pair = if let Some(text) = element.text() {
            let text = interpolated(text, &mut Vec::new());
            let mut parts = text.split(':').map(str::to_owned);
            parts.next().zip(parts.next())
        } else {
            let part = |key| element.get(key).and_then(|it| it.text()).map(str::to_owned);
            part("source").zip(part("target"))
        };
        match pair {
            Some((host, container)) if host.starts_with(['.', '/']) => {
                volumes.push((host, container));
            }
            Some((host, _)) if host.starts_with('~') => {
                notes.push(format!("not taken over: the volume {host}"));
            }
            // Named and anonymous ones: every test begins with an empty one.
            _ => {}
        }
    }
    volumes
}

/// A command: a list, or one text that is split at blanks outside of quotes.
fn words(node: &Rc<Node>) -> Vec<String> {
    let Some(text) = node.text() else {
        return node.elements().iter().filter_map(|it| it.text()).map(str::to_owned).collect();
    };
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for char in text.chars() {
        match (char, quote) {
            ('\'' | '"', None) => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (_, Some(it)) if it == char => quote = None,
            (_, None) if char.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(char),
        }
    }
    words.extend(word);
    words
}
