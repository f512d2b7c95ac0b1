//! A container as Docker describes it.

use std::{net::IpAddr, time::Duration};

use bollard::{
    models::{ContainerInspectResponse, EndpointSettings, PortMap},
    query_parameters::InspectContainerOptions,
};

use super::{Docker, DockerError, stop_signal};

/// Between the end of its process and its own clean-up, podman says that a container is "stopped",
/// which is no state of Docker's: it is asked again after this time,
const ROUND: Duration = Duration::from_millis(20);
/// at most so often.
const ROUNDS: usize = 100;
/// How many containers may borrow each other's network in a row.
const BORROWED: usize = 8;

/// What is known of a container at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// Its id, 64 hexadecimal digits.
    pub(crate) id: String,
    /// Its name, without the slash that the API puts before it.
    pub(crate) name: String,
    /// Its main process, on this machine; 0 while it does not run.
    pub(crate) pid: u32,
    /// Whether it has been started and has not ended; true while it is paused.
    pub(crate) is_running: bool,
    /// The image, as it was named when the container was created.
    pub(crate) image: String,
    /// What its main process finds in its environment: the image's, and what was added.
    pub(crate) env: Vec<(String, String)>,
    /// What asks it to end: the container's or its image's, else SIGTERM.
    pub(crate) stop_signal: i32,
    /// The networks it is in, by name. Those of the other container if it borrows its network.
    pub(crate) networks: Vec<Attachment>,
    /// Whether it has no network namespace of its own, but the machine's.
    pub(crate) shares_host_network: bool,
    /// Published ports: the container's, and the machine's. TCP only.
    pub(crate) ports: Vec<(u16, u16)>,
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The network's id.
    pub(crate) network: String,
    /// The network's name.
    pub(crate) name: String,
    /// The container's addresses there, IPv4 first; none while it does not run.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Docker {
    /// What is known of a container, by id or name.
    pub(crate) fn inspect(&self, id: &str) -> Result<Container, DockerError> {
        self.block(self.container(id))
    }

    /// The exit code of a container that has ended, `None` before.
    pub(crate) fn exit_code(&self, id: &str) -> Result<Option<i64>, DockerError> {
        let state = self.block(self.details(id))?.state.unwrap_or_default();
        // A container that was never started has "finished" at year 1, and code 0.
        let was_started =
            state.started_at.is_some_and(|it| !it.is_empty() && !it.starts_with("0001-"));
        let has_ended = was_started && state.running == Some(false);
        Ok(state.exit_code.filter(|_| has_ended))
    }

    pub(super) async fn container(&self, id: &str) -> Result<Container, DockerError> {
        let details = self.details(id).await?;
        let mut networks = attachments(&details);
        let mut lender = borrowed_from(&details);
        for _ in 0..BORROWED {
            let Some(id) = lender else { break };
            let other = self.details(&id).await?;
            networks = attachments(&other);
            lender = borrowed_from(&other);
        }
        for attachment in &mut networks {
            // Podman gives the name in place of the id.
            if attachment.network == attachment.name {
                let found = self.look_at_network(&attachment.name).await?;
                attachment.network = found.id.unwrap_or_default();
            }
        }
        Ok(describe(details, networks))
    }

    pub(super) async fn details(&self, id: &str) -> Result<ContainerInspectResponse, DockerError> {
        let mut rounds = 0;
        loop {
            let asked = self.api.inspect_container(id, None::<InspectContainerOptions>);
            match self.answer(|| format!("look at container {id}"), asked).await {
                Err(DockerError::Nonsense { .. }) if rounds < ROUNDS => {
                    rounds += 1;
                    tokio::time::sleep(ROUND).await;
                }
                result => return result,
            }
        }
    }
}

fn describe(details: ContainerInspectResponse, networks: Vec<Attachment>) -> Container {
    let network_mode = network_mode(&details).unwrap_or_default();
    let shares_host_network = network_mode == "host";
    let state = details.state.unwrap_or_default();
    let config = details.config.unwrap_or_default();
    let is_running = state.running == Some(true);
    let pid = state.pid.and_then(|it| u32::try_from(it).ok()).filter(|_| is_running);
    let env = config.env.unwrap_or_default();
    let ports = details.network_settings.and_then(|it| it.ports).unwrap_or_default();
    Container {
        id: details.id.unwrap_or_default(),
        name: details.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        pid: pid.unwrap_or(0),
        is_running,
        image: config.image.unwrap_or_default(),
        env: env
            .iter()
            .filter_map(|it| it.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        stop_signal: config
            .stop_signal
            .and_then(|it| stop_signal::parse(&it))
            .unwrap_or(libc::SIGTERM),
        networks,
        shares_host_network,
        ports: published(&ports),
    }
}

fn network_mode(details: &ContainerInspectResponse) -> Option<String> {
    details.host_config.as_ref()?.network_mode.clone()
}

/// The container whose network this one uses.
fn borrowed_from(details: &ContainerInspectResponse) -> Option<String> {
    Some(network_mode(details)?.strip_prefix("container:")?.to_owned())
}

fn attachments(details: &ContainerInspectResponse) -> Vec<Attachment> {
    let settings = details.network_settings.as_ref();
    let networks = settings.and_then(|it| it.networks.as_ref());
    let mut found: Vec<_> = networks
        .into_iter()
        .flatten()
        .map(|(name, endpoint)| Attachment {
            network: endpoint.network_id.clone().unwrap_or_default(),
            name: name.clone(),
            addresses: addresses(endpoint),
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn addresses(endpoint: &EndpointSettings) -> Vec<IpAddr> {
    // Empty texts where there is none.
    let texts = [&endpoint.ip_address, &endpoint.global_ipv6_address];
    texts.into_iter().flatten().filter_map(|it| it.parse().ok()).collect()
}

/// Each port once, though it may be published by IPv4 and by IPv6.
fn published(ports: &PortMap) -> Vec<(u16, u16)> {
    let mut found = Vec::new();
    for (name, bindings) in ports {
        let Some(port) = name.strip_suffix("/tcp").and_then(|it| it.parse().ok()) else {
            continue;
        };
        let hosts = bindings.iter().flatten().filter_map(|it| it.host_port.as_ref());
        found.extend(hosts.filter_map(|it| it.parse().ok()).map(|host: u16| (port, host)));
    }
    found.sort_unstable();
    found.dedup();
    found
}
