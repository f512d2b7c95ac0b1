//! Where a rule applies: whose connects a `connect` rule means (language.md, D1), and which peers a
//! rule with `to=` is about.

use super::{addresses::mentions, faults::Places};
use crate::{
    engine::{Site, Syscall},
    spec::{Direction, FaultRule, Service},
};

/// A part of a declared rule: calls that apply at the same places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which calls.
    pub(crate) syscalls: Vec<Syscall>,
    /// Where.
    pub(crate) sites: Vec<Site>,
}

/// Where a declared rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// One, or two when the rule covers connects of other services and other calls as well.
    pub(crate) parts: Vec<Part>,
    /// Interfaces, such as `db.main`, that others are kept from.
    pub(crate) inbound: Vec<String>,
}

/// Finds where a rule on the service at `index` applies.
pub(crate) fn reach(rule: &FaultRule, index: usize, places: Places<'_>) -> Reach {
    let Places { services, targets, whereabouts } = places;
    let service = &services[index];
    let here = |sites: Vec<Site>| Reach {
        parts: vec![Part { syscalls: rule.syscalls.clone(), sites }],
        inbound: Vec::new(),
    };
    // The calls of one service to the interfaces of another, wherever it finds them.
    let to = |caller: usize, callee: usize| {
        let hosts = whereabouts[caller].hosts(&whereabouts[callee]);
        let site =
            move |host| Site { target: targets[caller], ports: ports(&services[callee]), host };
        hosts.into_iter().map(site)
    };
    if let Some(name) = &rule.options.to {
        // No ports would mean any peer, which a rule about a service that is not there is not.
        return match services.iter().position(|it| it.name == *name) {
            Some(peer) => here(to(index, peer).collect()),
            None => Reach { parts: Vec::new(), inbound: Vec::new() },
        };
    }
    let is_connect = |syscall: &&Syscall| syscall.name() == "connect";
    let direction = rule.options.direction.unwrap_or_else(|| default_direction(service, services));
    let connects: Vec<_> = rule.syscalls.iter().filter(is_connect).copied().collect();
    // A connect has no path, so that a rule with one is about the service's own files alone.
    if connects.is_empty() || direction == Direction::Out || rule.path.is_some() {
        return here(vec![Site::of(targets[index])]);
    }
    let own = Site::of(targets[index]);
    let callers = (0..targets.len()).filter(|caller| *caller != index);
    let others: Vec<Site> = callers.flat_map(|caller| to(caller, index)).collect();
    let rest: Vec<_> = rule.syscalls.iter().filter(|it| !is_connect(it)).copied().collect();
    let inbound = if others.is_empty() {
        Vec::new()
    } else {
        let name = |it: &crate::spec::Interface| format!("{}.{}", service.name, it.name);
        service.interfaces.iter().map(name).collect()
    };
    let mut sites = others;
    if direction == Direction::Both {
        sites.insert(0, own.clone());
    }
    let mut found = vec![Part { syscalls: connects, sites }];
    if !rest.is_empty() {
        found.push(Part { syscalls: rest, sites: vec![own] });
    }
    // A rule on the inbound side of the only service there is applies nowhere.
    found.retain(|part| !part.sites.is_empty());
    Reach { parts: found, inbound }
}

fn ports(service: &Service) -> Vec<u16> {
    service.interfaces.iter().map(|it| it.port).collect()
}

/// Out for a service that dials others; both for a leaf, which is only dialed.
fn default_direction(service: &Service, all: &[Service]) -> Direction {
    let mut peers = all.iter().filter(|peer| peer.name != service.name);
    let dials_one = |peer: &Service| service.env.iter().any(|(_, value)| dials(value, peer));
    if service.depends_on.is_empty() && !peers.any(dials_one) {
        Direction::Both
    } else {
        Direction::Out
    }
}

/// Whether the value of a variable has the address of an interface of this service.
pub(crate) fn dials(value: &str, peer: &Service) -> bool {
    peer.interfaces.iter().any(|it| {
        mentions(value, &format!("localhost:{}", it.port))
            || mentions(value, &format!("{}:{}", peer.name, it.port))
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{addresses::Whereabouts, container::NamespaceId, declared},
        *,
    };
    use crate::{
        engine::{Errno, TargetId},
        spec::{FaultAction, RuleOptions},
    };

    fn rule(syscalls: &[&str], direction: Option<Direction>) -> FaultRule {
        FaultRule {
            keyword: syscalls[0].to_owned(),
            is_op: false,
            syscalls: syscalls.iter().map(|it| Syscall::from_name(it).unwrap()).collect(),
            path: None,
            action: FaultAction::Deny(Errno::from_name("EIO").unwrap()),
            options: RuleOptions { direction, ..RuleOptions::default() },
        }
    }

    fn site(target: u32, ports: &[u16]) -> Site {
        Site { target: TargetId(target), ports: ports.to_vec(), host: None }
    }

    /// Where a rule applies when all services share a loopback.
    fn at(rule: &FaultRule, index: usize, services: &[Service], targets: &[TargetId]) -> Reach {
        let whereabouts = vec![Whereabouts::default(); services.len()];
        reach(rule, index, Places { services, targets, whereabouts: &whereabouts })
    }

    /// db with two interfaces, api that depends on it, cache that api knows by address.
    fn services() -> (Vec<Service>, Vec<TargetId>) {
        let db = declared("db", &[("main", 5432), ("admin", 5433)]);
        let cache = declared("cache", &[("main", 6379)]);
        let mut api = declared("api", &[("public", 8080)]);
        api.depends_on = vec!["db".to_owned()];
        api.env = vec![("CACHE".to_owned(), "tcp://localhost:6379/0".to_owned())];
        (vec![db, api, cache], [0, 1, 2].map(TargetId).to_vec())
    }

    #[test]
    fn connects_to_a_leaf_are_those_of_everybody_else() {
        let (services, targets) = services();
        let reach = at(&rule(&["connect"], None), 0, &services, &targets);
        let expected = [site(0, &[]), site(1, &[5432, 5433]), site(2, &[5432, 5433])];
        assert_eq!(reach.parts[0].sites, expected);
        assert_eq!(reach.inbound, ["db.main", "db.admin"]);
    }

    #[test]
    fn connects_of_a_service_that_dials_are_its_own() {
        let (mut services, targets) = services();
        for _ in 0..2 {
            let reach = at(&rule(&["connect"], None), 1, &services, &targets);
            assert_eq!(reach.parts[0].sites, [site(1, &[])]);
            assert!(reach.inbound.is_empty());
            // Without depends_on the address in its environment says the same.
            services[1].depends_on.clear();
        }
        services[1].env.clear();
        let reach = at(&rule(&["connect"], None), 1, &services, &targets);
        assert_eq!(reach.inbound, ["api.public"]);
    }

    #[test]
    fn the_direction_can_be_given() {
        let (services, targets) = services();
        let inward = at(&rule(&["connect"], Some(Direction::In)), 1, &services, &targets);
        assert_eq!(inward.parts[0].sites, [site(0, &[8080]), site(2, &[8080])]);
        let outward = at(&rule(&["connect"], Some(Direction::Out)), 0, &services, &targets);
        assert_eq!(outward.parts[0].sites, [site(0, &[])]);
        assert!(outward.inbound.is_empty());
    }

    #[test]
    fn other_calls_are_the_services_own_even_beside_connect() {
        let (services, targets) = services();
        let write = at(&rule(&["write", "writev"], None), 0, &services, &targets);
        assert_eq!(write.parts.len(), 1);
        assert_eq!(write.parts[0].sites, [site(0, &[])]);
        let both = at(&rule(&["write", "connect"], None), 0, &services, &targets);
        assert_eq!(both.parts[0].syscalls, [Syscall::from_name("connect").unwrap()]);
        assert_eq!(both.parts[0].sites.len(), 3);
        assert_eq!(both.parts[1].sites, [site(0, &[])]);
    }

    #[test]
    fn a_rule_with_a_peer_is_about_the_targets_own_connections_to_it() {
        let (services, targets) = services();
        for calls in [&["connect"][..], &["write", "connect"]] {
            let mut rule = rule(calls, None);
            rule.options.to = Some("db".to_owned());
            // The cache is a leaf, whose connects would else be those of the others, too.
            for index in [1, 2] {
                let reach = at(&rule, index, &services, &targets);
                let sites = vec![site(index as u32, &[5432, 5433])];
                assert_eq!(reach.parts, [Part { syscalls: rule.syscalls.clone(), sites }]);
                assert!(reach.inbound.is_empty());
            }
        }
    }

    #[test]
    fn a_rule_with_a_path_is_about_the_targets_own_files() {
        let (services, targets) = services();
        let mut rule = rule(&["write", "connect"], None);
        rule.path = Some("/tmp/*".parse().unwrap());
        let reach = at(&rule, 0, &services, &targets);
        assert_eq!(reach.parts.len(), 1);
        assert_eq!(reach.parts[0].sites, [site(0, &[])]);
        assert!(reach.inbound.is_empty());
    }

    #[test]
    fn an_only_service_has_nobody_to_keep_away() {
        let services = [declared("db", &[("main", 1)])];
        let reach = at(&rule(&["connect"], None), 0, &services, &[TargetId(0)]);
        assert_eq!(reach.parts[0].sites, [site(0, &[])]);
        assert!(reach.inbound.is_empty());
    }

    #[test]
    fn a_container_is_dialed_at_its_address_and_by_its_neighbour_at_loopback() {
        let (services, targets) = services();
        let at = |host: &str| vec![("bridge".to_owned(), host.parse().unwrap())];
        let own = NamespaceId::own().ok();
        // db is alone; api and cache share a namespace.
        let whereabouts = [
            Whereabouts { addresses: at("172.18.0.2"), ..Whereabouts::default() },
            Whereabouts { namespace: own, addresses: at("172.18.0.3"), network: None },
            Whereabouts { namespace: own, addresses: at("172.18.0.3"), network: None },
        ];
        let places = Places { services: &services, targets: &targets, whereabouts: &whereabouts };
        let sites = |index| reach(&rule(&["connect"], None), index, places).parts[0].sites.clone();
        let db = Some("172.18.0.2".parse().unwrap());
        let dialed = |target, ports, host| Site { host, ..site(target, ports) };
        let expected = [site(0, &[]), dialed(1, &[5432, 5433], db), dialed(2, &[5432, 5433], db)];
        assert_eq!(sites(0), expected);
        let cache = Some("172.18.0.3".parse().unwrap());
        let expected = [site(2, &[]), dialed(0, &[6379], cache), dialed(1, &[6379], None)];
        assert_eq!(sites(2), expected);
    }
}
