//! A container's life from creation to removal.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use bollard::{
    models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkingConfig, PortBinding},
    query_parameters::{
        CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
        RemoveContainerOptions, StartContainerOptions,
    },
};

use super::{Container, Docker, DockerError, SESSION_LABEL};

/// How often is looked whether somebody else's removal of a container has come to its end.
const ROUND: Duration = Duration::from_millis(50);
/// How many of these rounds.
const ROUNDS: usize = 200;

/// What a container is to be like. Whatever is not said here is as the image says: entrypoint,
/// user, working directory; and as Docker has it: capabilities, limits. It is never restarted.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewContainer {
    /// Its name, which must be free.
    pub(crate) name: String,
    /// An image that is there.
    pub(crate) image: String,
    /// The value of its label [`SESSION_LABEL`].
    pub(crate) session: String,
    /// In place of the image's CMD.
    pub(crate) args: Option<Vec<String>>,
    /// Added to the image's environment.
    pub(crate) env: Vec<(String, String)>,
    /// A directory of this machine, absolute, or a volume's name; and where it is in the
    /// container, `:ro` behind it if it is not to be written to.
    pub(crate) volumes: Vec<(String, String)>,
    /// The container's port, and the machine's, 0 for any that is free. TCP.
    pub(crate) ports: Vec<(u16, u16)>,
    /// The id of the network it is in.
    pub(crate) network: String,
    /// Names that the network's other containers find it by, besides its own.
    pub(crate) aliases: Vec<String>,
    /// Names that it finds addresses by.
    pub(crate) hosts: Vec<(String, IpAddr)>,
}

impl Docker {
    /// Creates a container; returns its id.
    pub(crate) fn create(&self, new: &NewContainer) -> Result<String, DockerError> {
        let options = CreateContainerOptions {
            name: Some(new.name.clone()),
            ..CreateContainerOptions::default()
        };
        let created = self.api.create_container(Some(options), body(new));
        let what = || format!("create container {} of image {}", new.name, new.image);
        Ok(self.block(self.answer(what, created))?.id)
    }

    /// Starts a container. One that has ended already is no error: it is not running.
    pub(crate) fn start(&self, id: &str) -> Result<Container, DockerError> {
        self.block(async {
            let started = self.api.start_container(id, None::<StartContainerOptions>);
            self.answer(|| format!("start container {id}"), started).await?;
            self.container(id).await
        })
    }

    /// Sends a signal to a container's main process. One that has ended or is gone is fine.
    pub(crate) fn signal(&self, id: &str, signal: i32) -> Result<(), DockerError> {
        let options = KillContainerOptions { signal: signal.to_string() };
        let sent = self.api.kill_container(id, Some(options));
        let what = || format!("send signal {signal} to container {id}");
        match self.block(self.answer(what, sent)) {
            // It is not running.
            Err(error) if error.is_missing() || error.status() == Some(409) => Ok(()),
            result => result,
        }
    }

    /// Kills and removes a container with its anonymous volumes. One that is gone is fine.
    pub(crate) fn remove(&self, id: &str) -> Result<(), DockerError> {
        self.block(self.remove_container(id))
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let removed = self.api.remove_container(id, Some(options));
        match self.answer(|| format!("remove container {id}"), removed).await {
            Err(error) if error.is_missing() => Ok(()),
            // Somebody else is at it.
            Err(error) if error.status() == Some(409) => {
                if self.is_gone_soon(id).await {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            result => result,
        }
    }

    async fn is_gone_soon(&self, id: &str) -> bool {
        for _ in 0..ROUNDS {
            let asked = self.api.inspect_container(id, None::<InspectContainerOptions>);
            match self.answer(String::new, asked).await {
                Err(error) if error.is_missing() => return true,
                _ => tokio::time::sleep(ROUND).await,
            }
        }
        false
    }
}

fn body(new: &NewContainer) -> ContainerCreateBody {
    let port = |(container, _): &(u16, u16)| format!("{container}/tcp");
    let bindings = new.ports.iter().map(|it| {
        // Docker chooses where nothing is said.
        let host_port = Some(it.1).filter(|it| *it != 0).map(|it| it.to_string());
        (port(it), Some(vec![PortBinding { host_ip: None, host_port }]))
    });
    let endpoint =
        EndpointSettings { aliases: Some(new.aliases.clone()), ..EndpointSettings::default() };
    let host_config = HostConfig {
        binds: Some(new.volumes.iter().map(|(from, to)| format!("{from}:{to}")).collect()),
        port_bindings: Some(bindings.collect()),
        network_mode: Some(new.network.clone()),
        extra_hosts: Some(new.hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect()),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(new.image.clone()),
        cmd: new.args.clone(),
        env: Some(new.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        exposed_ports: Some(new.ports.iter().map(port).collect()),
        labels: Some(HashMap::from([(SESSION_LABEL.to_owned(), new.session.clone())])),
        host_config: Some(host_config),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(new.network.clone(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    }
}
