//! Removing what a session has left.

use std::collections::HashMap;

use bollard::{
    models::ContainerSummary,
    query_parameters::{ListContainersOptions, ListNetworksOptions},
};
use futures_util::future::join_all;

use super::{Docker, DockerError, SESSION_LABEL};

/// How often is looked again: a container that was being created when its runner was killed comes
/// to exist a moment later.
const ROUNDS: usize = 5;

impl Docker {
    /// Removes all containers of a session with their anonymous volumes, then its networks, and
    /// nothing else. Says what failed first, after everything has been tried.
    pub(crate) fn sweep(&self, session: &str) -> Result<(), DockerError> {
        self.block(async {
            let mut result = Ok(());
            for _ in 0..ROUNDS {
                let containers = self.containers_of(session).await?;
                if containers.is_empty() {
                    result = Ok(());
                    break;
                }
                let removed = containers.iter().map(|id| self.remove_container(id));
                result = join_all(removed).await.into_iter().collect();
            }
            let networks = self.networks_of(session).await?;
            let removed = networks.iter().map(|id| self.clear_network(id));
            result.and(join_all(removed).await.into_iter().collect())
        })
    }

    async fn containers_of(&self, session: &str) -> Result<Vec<String>, DockerError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(by_session(session)),
            ..ListContainersOptions::default()
        };
        let listed = self.api.list_containers(Some(options));
        let listed = self.answer(|| "list containers".to_owned(), listed).await?;
        let id = |it: ContainerSummary| it.id.filter(|_| is_of(it.labels.as_ref(), session));
        Ok(listed.into_iter().filter_map(id).collect())
    }

    async fn networks_of(&self, session: &str) -> Result<Vec<String>, DockerError> {
        let options = ListNetworksOptions { filters: Some(by_session(session)) };
        let listed = self.api.list_networks(Some(options));
        let listed = self.answer(|| "list networks".to_owned(), listed).await?;
        let own = listed.into_iter().filter(|it| is_of(it.labels.as_ref(), session));
        Ok(own.filter_map(|it| it.id).collect())
    }

    /// Removes a network; containers of others that are in it are taken out before.
    async fn clear_network(&self, id: &str) -> Result<(), DockerError> {
        if let Ok(members) = self.members(id).await {
            let taken = members.iter().map(|container| self.disconnect(id, container));
            // What could not be taken out is what the removal fails for.
            join_all(taken).await;
        }
        self.remove_bridge(id).await
    }
}

fn by_session(session: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{SESSION_LABEL}={session}")])])
}

/// The filter is Docker's; that nothing of others is removed does not hang on how it is read.
fn is_of(labels: Option<&HashMap<String, String>>, session: &str) -> bool {
    labels.and_then(|it| it.get(SESSION_LABEL)).is_some_and(|it| it == session)
}
