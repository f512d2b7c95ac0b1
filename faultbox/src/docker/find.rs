//! A running container by what people call it.

use std::collections::HashMap;

use bollard::{
    models::{ContainerSummary, ContainerSummaryStateEnum as State},
    query_parameters::ListContainersOptions,
};

use super::{Container, Docker, DockerError};
use crate::spec::nearest;

/// How many names an error lists.
const LISTED: usize = 10;
/// What Docker Compose marks its containers with: the project,
const PROJECT: &str = "com.docker.compose.project";
/// the service,
const SERVICE: &str = "com.docker.compose.service";
/// and whether it was started by `docker compose run` beside the service.
const ONE_OFF: &str = "com.docker.compose.oneoff";

impl Docker {
    /// A running container, by its name, its id (or the beginning of it), or by the Compose
    /// project and service that it belongs to, `project/service`.
    pub(crate) fn find(&self, name: &str) -> Result<Container, DockerError> {
        match name.split_once('/') {
            Some((project, service)) if is_name(project) && is_name(service) => {
                self.block(self.find_service(name, project, service))
            }
            None if is_name(name) => self.block(self.find_container(name)),
            _ => Err(DockerError::NoName(name.to_owned())),
        }
    }

    async fn find_container(&self, name: &str) -> Result<Container, DockerError> {
        let container = match self.container(name).await {
            Err(error) if error.is_missing() => {
                let others: Vec<_> = self.others(true).await.iter().filter_map(own_name).collect();
                return Err(unknown(name, &others));
            }
            result => result?,
        };
        if container.pid > 0 {
            return Ok(container);
        }
        let state = self.details(&container.id).await?.state.unwrap_or_default();
        let status = state.status.map_or("not running".to_owned(), |it| it.to_string());
        let others: Vec<_> = self.others(false).await.iter().filter_map(own_name).collect();
        Err(DockerError::NotRunning {
            name: name.to_owned(),
            status,
            start: format!("docker start {name}"),
            hint: list("; running now", &others),
        })
    }

    async fn find_service(
        &self,
        name: &str,
        project: &str,
        service: &str,
    ) -> Result<Container, DockerError> {
        let all = self.others(true).await;
        let has = |it: &&ContainerSummary| {
            let is_one_off = label(it, ONE_OFF).is_some_and(|it| it.eq_ignore_ascii_case("true"));
            label(it, PROJECT) == Some(project)
                && label(it, SERVICE) == Some(service)
                && !is_one_off
        };
        let replicas: Vec<_> = all.iter().filter(has).collect();
        let running: Vec<_> = replicas.iter().filter(|it| is_running(it)).collect();
        match (running.as_slice(), replicas.first()) {
            ([one], _) => self.container(one.id.as_deref().unwrap_or_default()).await,
            ([], None) => Err(unknown(name, &services(&all))),
            ([], Some(one)) => Err(DockerError::NotRunning {
                name: name.to_owned(),
                status: one.state.map_or("not running".to_owned(), |it| it.to_string()),
                start: format!("docker compose -p {project} start {service}"),
                hint: String::new(),
            }),
            (several, _) => Err(DockerError::Several {
                name: name.to_owned(),
                containers: several.iter().filter_map(|it| own_name(it)).collect(),
            }),
        }
    }

    /// Containers, with those that do not run if asked; none when they cannot be had.
    async fn others(&self, all: bool) -> Vec<ContainerSummary> {
        let options = ListContainersOptions { all, ..ListContainersOptions::default() };
        let listed = self.api.list_containers(Some(options));
        self.answer(|| "list containers".to_owned(), listed).await.unwrap_or_default()
    }
}

/// What Docker allows in names (and ids), so that none can be another path of the API.
pub(super) fn is_name(text: &str) -> bool {
    let is_fine = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
    text.chars().all(is_fine)
        && text.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '_')
}

fn label<'c>(container: &'c ContainerSummary, name: &str) -> Option<&'c str> {
    let labels: &HashMap<String, String> = container.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

fn is_running(container: &ContainerSummary) -> bool {
    // A paused container has its processes.
    matches!(container.state, Some(State::RUNNING | State::PAUSED))
}

/// The name that people use, not those of links.
fn own_name(container: &ContainerSummary) -> Option<String> {
    let names = container.names.as_ref()?;
    let name = names.iter().map(|it| it.trim_start_matches('/')).find(|it| !it.contains('/'));
    name.map(str::to_owned)
}

/// What services of Compose there are, as they would be asked for.
fn services(containers: &[ContainerSummary]) -> Vec<String> {
    let name =
        |it: &ContainerSummary| Some(format!("{}/{}", label(it, PROJECT)?, label(it, SERVICE)?));
    let mut names: Vec<_> = containers.iter().filter_map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn unknown(name: &str, others: &[String]) -> DockerError {
    let near = nearest(name, others.iter().map(String::as_str));
    let hint = if near.is_empty() {
        list("; there are", others)
    } else {
        format!("; did you mean: {}?", near.join(", "))
    };
    DockerError::Unknown { name: name.to_owned(), hint }
}

fn list(what: &str, names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    match names.len() {
        0 => String::new(),
        _ => format!("{what}: {}{more}", names[..names.len().min(LISTED)].join(", ")),
    }
}
