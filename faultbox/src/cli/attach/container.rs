//! A Docker container's main process, by the engine's API.

use std::{future::Future, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::ContainerSummary,
    query_parameters::{InspectContainerOptions, ListContainersOptions},
};

use crate::spec::{nearest, quoted};

/// How long Docker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The engine's socket, unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "unix:///var/run/docker.sock";
/// How many names an error lists.
const LISTED: usize = 10;

/// The id, on this machine, of the main process of a running container.
pub(super) fn main_process(name: &str) -> Result<u32, String> {
    let host = std::env::var("DOCKER_HOST").ok().filter(|it| !it.is_empty());
    main_process_by(host.as_deref().unwrap_or(SOCKET), name)
}

fn main_process_by(host: &str, name: &str) -> Result<u32, String> {
    // What Docker allows in names (and ids), so that none can be another path of the API.
    let is_fine = |it: char| it.is_ascii_alphanumeric() || "_.-".contains(it);
    if name.is_empty() || !name.chars().all(is_fine) {
        return Err(format!("--container: {} is no name of a container", quoted(name)));
    }
    if !host.starts_with("unix://") && !host.starts_with('/') {
        return Err(format!(
            "--container: DOCKER_HOST is {host}, and only containers of this machine can be \
             attached to; run faultbox on that one, or unset DOCKER_HOST"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("--container: {error}"))?;
    runtime.block_on(async {
        let docker = Docker::connect_with_unix(host, PATIENCE.as_secs(), API_DEFAULT_VERSION)
            .map_err(|error| unreachable(host, &error.to_string()))?;
        let inspected = docker.inspect_container(name, None::<InspectContainerOptions>);
        let container = match within(inspected).await {
            Some(Ok(container)) => container,
            Some(Err(Error::DockerResponseServerError { status_code: 404, .. })) => {
                return Err(unknown(name, &others(&docker, true).await));
            }
            // Anything else that Docker itself says.
            Some(Err(Error::DockerResponseServerError { message, .. })) => {
                return Err(format!("--container: Docker says: {message}"));
            }
            Some(Err(error)) => return Err(unreachable(host, &error.to_string())),
            None => return Err(unreachable(host, &format!("no answer within {PATIENCE:?}"))),
        };
        let state = container.state.unwrap_or_default();
        let pid = state.pid.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0);
        match pid {
            Some(pid) if state.running == Some(true) => Ok(pid),
            _ => {
                let status = state.status.map_or("not running".to_owned(), |it| it.to_string());
                Err(format!(
                    "--container: container {name:?} is not running (it is {status}); start it, \
                     as by docker start {name}{}",
                    list("; running now", &others(&docker, false).await)
                ))
            }
        }
    })
}

/// The result, unless it takes too long.
async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, work).await.ok()
}

fn unreachable(host: &str, why: &str) -> String {
    format!(
        "--container: cannot reach Docker at {host}: {why}; is it running, and may you use it \
         (root, or the group docker)? --pid and --cgroup need no Docker"
    )
}

fn unknown(name: &str, others: &[String]) -> String {
    let near = nearest(name, others.iter().map(String::as_str));
    let hint = if near.is_empty() {
        list("; there are", others)
    } else {
        format!("; did you mean: {}?", near.join(", "))
    };
    format!("--container: Docker knows no container {name:?}{hint}")
}

fn list(what: &str, names: &[String]) -> String {
    let more = if names.len() > LISTED { ", …" } else { "" };
    match names.len() {
        0 => String::new(),
        _ => format!("{what}: {}{more}", names[..names.len().min(LISTED)].join(", ")),
    }
}

/// Names of containers, with those that do not run if asked. Only for hints: empty when they
/// cannot be had.
async fn others(docker: &Docker, all: bool) -> Vec<String> {
    let options = ListContainersOptions { all, ..ListContainersOptions::default() };
    let name = |it: ContainerSummary| {
        let name = it.names.unwrap_or_default().into_iter().next()?;
        Some(name.trim_start_matches('/').to_owned())
    };
    match within(docker.list_containers(Some(options))).await {
        Some(Ok(found)) => found.into_iter().filter_map(name).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A container that was created from an image of nothing, and never started.
    struct Created(String);

    impl Created {
        /// `None` where there is no Docker to ask.
        fn new() -> Option<Self> {
            let name = format!("fb-unit-attach-{}", std::process::id());
            let created = Command::new("sh")
                .args([
                    "-c",
                    "tar cf - --files-from /dev/null | docker import - \"$0\" && \
                              docker create --name \"$0\" \"$0\" /none",
                    &name,
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            created.is_ok_and(|it| it.success()).then_some(Self(name))
        }
    }

    impl Drop for Created {
        fn drop(&mut self) {
            for arguments in [["rm", "-f"], ["rmi", "-f"]] {
                let _ = Command::new("docker")
                    .args(arguments)
                    .arg(&self.0)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
            }
        }
    }

    #[test]
    fn a_container_that_does_not_run_or_is_misspelt_is_named() {
        let Some(container) = Created::new() else {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "NOT TESTED: containers: no Docker here");
            return;
        };
        let name = &container.0;
        let error = main_process_by(SOCKET, name).unwrap_err();
        assert!(
            error.contains(&format!("container {name:?} is not running (it is created)")),
            "{error}"
        );
        assert!(error.contains(&format!("docker start {name}")), "{error}");
        let misspelt = name.replace("unit", "unti");
        let error = main_process_by(SOCKET, &misspelt).unwrap_err();
        let expected = format!("knows no container {misspelt:?}; did you mean: {name}?");
        assert!(error.contains(&expected), "{error}");
    }

    #[test]
    fn a_docker_that_is_not_there_is_told_from_one_elsewhere() {
        let error = main_process_by("unix:///no/such.sock", "db").unwrap_err();
        assert!(error.contains("cannot reach Docker at unix:///no/such.sock"), "{error}");
        assert!(error.contains("--pid and --cgroup need no Docker"), "{error}");
        let error = main_process_by("tcp://db.example:2375", "db").unwrap_err();
        assert!(error.contains("only containers of this machine"), "{error}");
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["", "a/b", "a?b", "../x", "a b"] {
            let error = main_process_by(SOCKET, name).unwrap_err();
            assert!(error.contains("is no name of a container"), "{error}");
        }
    }
}
