//! A first spec for the services of a compose file.

use std::{collections::HashSet, fmt::Write};

use crate::generate::literal;

use super::{
    compose::{Origin, Project, Service},
    image,
    naming::{service_name, unused, variable},
};

/// A guess where nothing is known.
const PORT: u16 = 8080;

/// An interface of a service to be written.
struct Interface {
    name: String,
    protocol: &'static str,
    /// What it really speaks, where this version cannot.
    really: Option<&'static str>,
    port: u16,
}

/// The text of a spec with a service for each of the compose file at this path, and a test.
pub(crate) fn project_spec(project: &Project, compose: &str, file: &str) -> String {
    let (mut taken_names, mut taken) = (HashSet::new(), HashSet::new());
    let names = project.services.iter().map(|it| unused(&service_name(&it.name), &mut taken_names));
    let names: Vec<String> = names.collect();
    let variables: Vec<String> = names.iter().map(|it| variable(it, &mut taken)).collect();
    // Paths in a comment must not end it.
    let (compose, file) = (compose.escape_debug(), file.escape_debug());
    let mut spec = format!(
        "# From {compose}; to be kept beside it, because paths are relative to this file.\n\
         #   faultbox test {file}\n#   faultbox test {file} --test happy_path\n\
         #   faultbox test {file} --debug\n\n"
    );
    let mut checks = Vec::new();
    for (index, service) in project.services.iter().enumerate() {
        let (interfaces, variable) = (interfaces(service), &variables[index]);
        spec += &declaration(service, (&names[index], variable), &variables, &interfaces);
        if let Some(http) = interfaces.iter().find(|it| it.protocol == "http")
            && !is_guess(service)
        {
            let way = if interfaces.len() == 1 { String::new() } else { format!(".{}", http.name) };
            checks.push(format!(
                "    assert_true({variable}{way}.get(path = \"/\").ok, \"{variable} answers\")\n"
            ));
        }
    }
    spec += "def test_happy_path():\n    \"\"\"Every service starts";
    spec += if checks.is_empty() { ".\"\"\"\n" } else { ", and those with HTTP answer.\"\"\"\n" };
    spec.extend(checks);
    let edge =
        project.services.iter().zip(&variables).find_map(|(service, from)| {
            service.depends_on.first().map(|to| (from, &variables[*to]))
        });
    if let Some((from, to)) = edge {
        // Writing to a string cannot fail.
        let _ = write!(
            spec,
            "\n# What is left without {to}? Say what you expect, and remove the comment signs.\n#\n\
             # def test_{to}_down():\n#     fault({from}, connect = deny(\"ECONNREFUSED\", \
             to = {to}), run = test_happy_path)\n"
        );
    }
    spec
}

/// Whether `ready()` can be asked of it: it is a database whose password, if it has one, is in its
/// environment.
fn answers(service: &Service, protocol: &str) -> bool {
    let has = |name: &str| service.env.iter().any(|(it, _)| it == name);
    match protocol {
        "postgres" => has("POSTGRES_PASSWORD") || has("POSTGRES_HOST_AUTH_METHOD"),
        "redis" => {
            let asks = |word: &String| word.contains("requirepass");
            has("REDIS_PASSWORD") || !service.command.iter().any(asks)
        }
        _ => false,
    }
}

/// Whether nobody said where it listens.
fn is_guess(service: &Service) -> bool {
    service.ports.is_empty() && default_port(service).is_none()
}

fn default_port(service: &Service) -> Option<u16> {
    match &service.origin {
        Origin::Image(image) => image::default_port(image),
        Origin::Build(_) => None,
    }
}

fn interfaces(service: &Service) -> Vec<Interface> {
    let image = match &service.origin {
        Origin::Image(image) => Some(&**image),
        Origin::Build(_) => None,
    };
    let mut ports = service.ports.clone();
    if ports.is_empty() {
        ports.push(default_port(service).unwrap_or(PORT));
    }
    let interfaces = ports.iter().enumerate().map(|(i, port)| {
        let protocol = image::protocol(image, *port);
        let spoken = image::spoken(protocol);
        Interface {
            name: if i == 0 { "main".to_owned() } else { format!("port_{port}") },
            protocol: spoken,
            really: (spoken != protocol).then_some(protocol),
            port: *port,
        }
    });
    interfaces.collect()
}

fn declaration(
    service: &Service,
    (name, variable): (&str, &str),
    variables: &[String],
    interfaces: &[Interface],
) -> String {
    let mut lines: Vec<String> =
        service.notes.iter().map(|note| format!("# {}", note.escape_debug())).collect();
    if name != service.name {
        lines.push(format!("# called {:?} in the compose file", service.name));
    }
    lines.push(format!("{variable} = service({},", literal(name)));
    for Interface { name, protocol, really, port } in interfaces {
        let comment = match really {
            Some(really) => format!("  # speaks {really}"),
            None if is_guess(service) => "  # a guess: the compose file has no port".to_owned(),
            None => String::new(),
        };
        lines.push(format!("    interface(\"{name}\", \"{protocol}\", {port}),{comment}"));
    }
    lines.push(match &service.origin {
        Origin::Image(image) => format!("    image = {},", literal(image)),
        Origin::Build(context) => format!("    build = {},", literal(context)),
    });
    if !service.command.is_empty() {
        let words: Vec<_> = service.command.iter().map(|it| literal(it)).collect();
        lines.push(format!("    args = [{}],", words.join(", ")));
    }
    lines.extend(dict("env", &service.env));
    lines.extend(dict("volumes", &service.volumes));
    if !service.depends_on.is_empty() {
        let needed: Vec<_> = service.depends_on.iter().map(|it| &*variables[*it]).collect();
        lines.push(format!("    depends_on = [{}],", needed.join(", ")));
    }
    if !is_guess(service) {
        let Interface { protocol, port, .. } = &interfaces[0];
        lines.push(if answers(service, protocol) {
            "    healthcheck = ready(timeout = \"60s\"),".to_owned()
        } else {
            format!("    healthcheck = tcp(\"localhost:{port}\", timeout = \"60s\"),")
        });
    }
    lines.join("\n") + "\n)\n\n"
}

fn dict(keyword: &str, entries: &[(String, String)]) -> Vec<String> {
    if entries.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![format!("    {keyword} = {{")];
    for (i, (key, value)) in entries.iter().enumerate() {
        // The last of several with one name counts.
        if entries[i + 1..].iter().all(|(it, _)| it != key) {
            lines.push(format!("        {}: {},", literal(key), literal(value)));
        }
    }
    lines.push("    },".to_owned());
    lines
}
