//! Networks: bridges of this machine that containers are in.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::Ipv4Addr,
};

use bollard::{
    models::{NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspect},
    query_parameters::InspectNetworkOptions,
};

use super::{Docker, DockerError, SESSION_LABEL};

/// The option that names a network's interface.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The same as a label of a network made here: podman keeps the option to itself.
const BRIDGE_LABEL: &str = "faultbox.bridge";
/// How much of its id is in the name of a bridge that has no name of its own.
const BRIDGE_DIGITS: usize = 12;

/// A network of Docker's that is a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its interface, in the machine's own network namespace.
    pub(crate) bridge: String,
    /// Its addresses: the first, and how many bits all have in common.
    pub(crate) subnet: (Ipv4Addr, u8),
    /// The bridge's own address: the machine, as seen from a container.
    pub(crate) gateway: Ipv4Addr,
}

impl Docker {
    /// Creates a bridge network of this session. Podman makes the interface when the first
    /// container in it is started.
    pub(crate) fn create_network(&self, name: &str, session: &str) -> Result<Network, DockerError> {
        // At most 15 bytes (netdevice(7)).
        let bridge = format!("fb{:012x}", RandomState::new().build_hasher().finish() >> 16);
        let labels = [
            (SESSION_LABEL.to_owned(), session.to_owned()),
            (BRIDGE_LABEL.to_owned(), bridge.clone()),
        ];
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(BRIDGE_NAME.to_owned(), bridge)])),
            labels: Some(labels.into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        self.block(async {
            let created = self.api.create_network(request);
            let created = self.answer(|| format!("create network {name}"), created).await;
            let id = created.map_err(|error| exhausted(error, name))?.id;
            self.bridge(&id).await
        })
    }

    /// Removes a network. One that is gone is fine; one that is in use is not.
    #[cfg(test)]
    pub(crate) fn remove_network(&self, id: &str) -> Result<(), DockerError> {
        self.block(self.remove_bridge(id))
    }

    /// What is known of a network, by id or name.
    pub(crate) fn network(&self, id_or_name: &str) -> Result<Network, DockerError> {
        self.block(self.bridge(id_or_name))
    }

    async fn bridge(&self, id_or_name: &str) -> Result<Network, DockerError> {
        let found = self.look_at_network(id_or_name).await?;
        let no_bridge = |why: &str| {
            let name = found.name.clone().unwrap_or_else(|| id_or_name.to_owned());
            DockerError::NoBridge { name, why: why.to_owned() }
        };
        if found.driver.as_deref() != Some("bridge") {
            return Err(no_bridge("is no bridge"));
        }
        let (subnet, gateway) = addresses(&found).ok_or_else(|| no_bridge("has no IPv4"))?;
        let id = found.id.unwrap_or_default();
        let option = found.options.and_then(|mut it| it.remove(BRIDGE_NAME));
        let label = || found.labels.and_then(|mut it| it.remove(BRIDGE_LABEL));
        let bridge = option
            .or_else(label)
            .filter(|it| !it.is_empty())
            .unwrap_or_else(|| format!("br-{}", id.get(..BRIDGE_DIGITS).unwrap_or(&id)));
        Ok(Network { id, name: found.name.unwrap_or_default(), bridge, subnet, gateway })
    }

    pub(super) async fn look_at_network(
        &self,
        id_or_name: &str,
    ) -> Result<NetworkInspect, DockerError> {
        let asked = self.api.inspect_network(id_or_name, None::<InspectNetworkOptions>);
        self.answer(|| format!("look at network {id_or_name}"), asked).await
    }

    /// The ids of the containers in a network.
    pub(super) async fn members(&self, network_id: &str) -> Result<Vec<String>, DockerError> {
        let found = self.look_at_network(network_id).await?;
        Ok(found.containers.unwrap_or_default().into_keys().collect())
    }

    pub(super) async fn remove_bridge(&self, id: &str) -> Result<(), DockerError> {
        let removed = self.api.remove_network(id);
        match self.answer(|| format!("remove network {id}"), removed).await {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        }
    }

    pub(super) async fn disconnect(
        &self,
        network_id: &str,
        container_id: &str,
    ) -> Result<(), DockerError> {
        let request =
            NetworkDisconnectRequest { container: container_id.to_owned(), force: Some(true) };
        let what = || format!("take container {container_id} out of network {network_id}");
        match self.answer(what, self.api.disconnect_network(network_id, request)).await {
            Err(error) if error.is_missing() || is_not_connected(&error) => Ok(()),
            result => result,
        }
    }
}

/// Docker has no status of its own for this.
fn is_not_connected(error: &DockerError) -> bool {
    matches!(error, DockerError::Refused { said, .. } if said.contains("is not connected to"))
}

/// Puts what to do beside Docker's ways to say that it has no range of addresses left.
fn exhausted(error: DockerError, name: &str) -> DockerError {
    match error {
        DockerError::Refused { said, .. }
            if said.contains("non-overlapping") || said.contains("address pools") =>
        {
            DockerError::NoAddresses { name: name.to_owned(), said }
        }
        error => error,
    }
}

/// The subnet of a network and the address of its bridge.
fn addresses(network: &NetworkInspect) -> Option<((Ipv4Addr, u8), Ipv4Addr)> {
    let configs = network.ipam.as_ref()?.config.as_ref()?;
    configs.iter().find_map(|config| {
        let (first, bits) = config.subnet.as_ref()?.split_once('/')?;
        let (first, bits): (Ipv4Addr, u8) = (first.parse().ok()?, bits.parse().ok()?);
        if bits > 32 {
            return None;
        }
        // Given as an address, or by some as an address with its subnet's bits.
        let gateway = config.gateway.as_ref().and_then(|it| it.split('/').next()?.parse().ok());
        // Where nothing is said, it is the first one that a host can have.
        Some(((first, bits), gateway.unwrap_or(Ipv4Addr::from(u32::from(first).wrapping_add(1)))))
    })
}
