//! Where services are in the network, and under which address each finds the others.

use std::{fs::File, net::IpAddr, sync::Arc};

use super::container::NamespaceId;
use crate::spec::Service;

/// Where a service is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whereabouts {
    /// In which network namespace.
    pub(crate) namespace: Option<NamespaceId>,
    /// The same, open; `None`: that of the run's thread.
    pub(crate) network: Option<Arc<File>>,
    /// Its addresses in networks that it shares with others, each with the network's id.
    pub(crate) addresses: Vec<(String, IpAddr)>,
}

impl Whereabouts {
    /// The hosts at which `self` reaches a peer; `None` is its own loopback.
    pub(crate) fn hosts(&self, peer: &Self) -> Vec<Option<IpAddr>> {
        if self.namespace == peer.namespace {
            return vec![None];
        }
        let shared: Vec<_> = peer
            .addresses
            .iter()
            .filter(|(network, _)| self.addresses.iter().any(|(own, _)| own == network))
            .map(|(_, address)| Some(*address))
            .collect();
        if !shared.is_empty() {
            return shared;
        }
        // By way of the machine, which leads from each network to the others.
        peer.addresses.iter().map(|(_, address)| Some(*address)).collect()
    }
}

/// A service and how another one reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Peer<'a> {
    /// Which.
    pub(crate) service: &'a Service,
    /// Its host name or address, for the service that looks; `None`: there is none yet.
    pub(crate) host: Option<String>,
}

/// The value of a variable with every address of an interface of another service as the service
/// itself sees it.
///
/// # Errors
///
/// When the address could be that of several services.
pub(crate) fn rewrite(
    value: &str,
    own_ports: &[u16],
    peers: &[Peer<'_>],
) -> Result<String, String> {
    let mut text = value.to_owned();
    for peer in peers {
        let Some(host) = &peer.host else { continue };
        for interface in &peer.service.interfaces {
            let seen = format!("{}:{}", bracketed(host), interface.port);
            let named = format!("{}:{}", peer.service.name, interface.port);
            text = replace(&text, &named, &seen);
        }
    }
    // Whatever a name in the text was replaced by is no "localhost" of somebody else's, unless it
    // is just that.
    for peer in peers {
        let Some(host) = &peer.host else { continue };
        for interface in &peer.service.interfaces {
            let port = interface.port;
            let local = format!("localhost:{port}");
            if host == "localhost" || own_ports.contains(&port) || !mentions(&text, &local) {
                continue;
            }
            let also = peers.iter().find(|other| {
                other.service.name != peer.service.name
                    && other.service.interfaces.iter().any(|it| it.port == port)
            });
            if let Some(also) = also {
                let (one, other) = (&peer.service.name, &also.service.name);
                return Err(format!(
                    "{local:?} could be {one} or {other}; write \"{one}:{port}\" or \
                     \"{other}:{port}\", or use .internal_addr"
                ));
            }
            text = replace(&text, &local, &format!("{}:{port}", bracketed(host)));
        }
    }
    Ok(text)
}

/// A host as it stands before a port.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Whether the text has the address in it, and not just the beginning of a longer port or the
/// end of a longer name.
pub(crate) fn mentions(text: &str, address: &str) -> bool {
    places(text, address).next().is_some()
}

fn places<'a>(text: &'a str, address: &'a str) -> impl Iterator<Item = usize> + 'a {
    let in_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    text.match_indices(address).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + address.len()..].chars().next();
        !before.is_some_and(in_name) && !after.is_some_and(|it| it.is_ascii_digit())
    })
}

fn replace(text: &str, address: &str, by: &str) -> String {
    let mut result = String::new();
    let mut done = 0;
    for at in places(text, address) {
        result.push_str(&text[done..at]);
        result.push_str(by);
        done = at + address.len();
    }
    result.push_str(&text[done..]);
    result
}

#[cfg(test)]
mod tests {
    use super::{super::declared, *};

    fn peer<'a>(service: &'a Service, host: &str) -> Peer<'a> {
        Peer { service, host: Some(host.to_owned()) }
    }

    #[test]
    fn an_address_is_not_found_inside_a_longer_one() {
        assert!(mentions("http://localhost:8080/x", "localhost:8080"));
        assert!(mentions("localhost:8080", "localhost:8080"));
        assert!(!mentions("localhost:80801", "localhost:8080"));
        assert!(!mentions("otherdb:5432", "db:5432"));
        assert!(!mentions("my-db:5432", "db:5432"));
        assert!(mentions("otherdb:5432,db:5432", "db:5432"));
    }

    #[test]
    fn addresses_become_those_that_the_consumer_sees() {
        let (redis, db) = (declared("redis", &[("main", 6379)]), declared("db", &[("main", 5432)]));
        let from_host = [peer(&redis, "172.18.0.2"), peer(&db, "localhost")];
        for (value, expected) in [
            ("localhost:6379", "172.18.0.2:6379"),
            ("redis://redis:6379/0", "redis://172.18.0.2:6379/0"),
            ("db:5432,localhost:5432", "localhost:5432,localhost:5432"),
            ("localhost:63790", "localhost:63790"),
            ("myredis:6379", "myredis:6379"),
        ] {
            assert_eq!(rewrite(value, &[8080], &from_host).unwrap(), expected);
        }
        let from_container = [peer(&redis, "redis"), peer(&db, "db")];
        let dsn = "postgres://u:p@localhost:5432/x";
        let seen = rewrite(dsn, &[8080], &from_container).unwrap();
        assert_eq!(seen, "postgres://u:p@db:5432/x");
        assert_eq!(rewrite("localhost:6379", &[6379], &from_container).unwrap(), "localhost:6379");
        assert_eq!(rewrite("redis:6379", &[8080], &from_container).unwrap(), "redis:6379");
    }

    #[test]
    fn an_address_that_could_be_two_services_is_an_error() {
        let (a, b) = (declared("users", &[("main", 80)]), declared("orders", &[("main", 80)]));
        let peers = [peer(&a, "users"), peer(&b, "orders")];
        let error = rewrite("http://localhost:80", &[], &peers).unwrap_err();
        assert!(error.contains("could be users or orders"), "{error}");
        assert_eq!(rewrite("http://orders:80", &[], &peers).unwrap(), "http://orders:80");
    }

    #[test]
    fn a_peer_is_found_where_both_are() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let at = |network: &str, host: &str| (network.to_owned(), address(host));
        let at_addresses = |addresses| Whereabouts { addresses, ..Whereabouts::default() };
        let here = at_addresses(vec![at("a", "10.0.0.9")]);
        assert_eq!(here.hosts(&here), [None]);
        let there = Whereabouts {
            namespace: NamespaceId::own().ok(),
            ..at_addresses(vec![at("b", "10.1.0.2"), at("a", "10.0.0.2")])
        };
        assert_eq!(here.hosts(&there), [Some(address("10.0.0.2"))]);
        let apart = at_addresses(vec![at("c", "10.2.0.2")]);
        assert_eq!(apart.hosts(&there).len(), 2);
    }
}
