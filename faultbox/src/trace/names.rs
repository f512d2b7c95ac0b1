//! What the numbers and addresses in the engine's records are called in the spec.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{Channel, EventKind};
use crate::engine::{Decision, Driver, Object, Record, RuleId, TargetId};

/// What a rule is called. Its id must not be given to another rule of the same test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    /// Service that it was declared on.
    pub service: String,
    /// Index of its window, in the order of time.
    pub window: usize,
    /// Op that it was declared by, if so.
    pub op: Option<String>,
    /// As declared.
    pub label: Option<String>,
    /// Whether it is there only to have calls recorded that would not be otherwise.
    pub is_trace: bool,
}

/// The names of a test's targets, rules and addresses.
#[derive(Clone, Debug, Default)]
pub struct Names {
    services: HashMap<TargetId, String>,
    rules: HashMap<RuleId, RuleName>,
    interfaces: HashMap<(IpAddr, u16), String>,
    local_interfaces: HashMap<u16, String>,
    driver: Driver,
}

impl Names {
    /// Names a target's service.
    pub fn add_service(&mut self, target: TargetId, service: &str) {
        self.services.insert(target, service.to_owned());
    }

    /// Names a rule. Must happen before the barrier that first orders a record of it.
    pub fn add_rule(&mut self, rule: RuleId, name: RuleName) {
        self.rules.insert(rule, name);
    }

    /// Names an interface, such as `db.main`, by where it listens. All loopback and unspecified
    /// addresses are the same place.
    pub fn add_interface(&mut self, address: SocketAddr, interface: &str) {
        match place(address) {
            (Some(ip), port) => {
                self.interfaces.insert((ip, port), interface.to_owned());
            }
            (None, port) => {
                self.local_interfaces.insert(port, interface.to_owned());
            }
        }
    }

    /// Says where the test driver dials from: calls on its connections that ran are
    /// [`Decision::AllowDriver`], whether a rule asked or not.
    pub fn set_driver(&mut self, driver: Driver) {
        self.driver = driver;
    }

    /// The interface at an address, such as `db.main`.
    pub fn interface_at(&self, address: SocketAddr) -> Option<&str> {
        match place(address) {
            (Some(ip), port) => self.interfaces.get(&(ip, port)),
            (None, port) => self.local_interfaces.get(&port),
        }
        .map(String::as_str)
    }

    /// The targets whose services have such names.
    pub(super) fn targets(&self, is_meant: impl Fn(&str) -> bool) -> Vec<TargetId> {
        let meant = self.services.iter().filter(|(_, name)| is_meant(name));
        meant.map(|(target, _)| *target).collect()
    }

    /// The service of a target; empty for one that was never named.
    pub(super) fn service(&self, target: TargetId) -> &str {
        self.services.get(&target).map_or("", String::as_str)
    }

    fn is_driver(&self, address: SocketAddr) -> bool {
        let ip = match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        !ip.is_unspecified() && [self.driver.v4, self.driver.v6].contains(&ip.octets())
    }

    /// What a record says, in the spec's words.
    pub(super) fn describe(&self, record: Record) -> EventKind {
        let service = self.service(record.target);
        let rule = record.rule.and_then(|id| self.rules.get(&id));
        let (path, channel, peer) = match record.object {
            // Paths need not be UTF-8; what is not becomes U+FFFD.
            Object::File(path) => (Some(path.to_string_lossy().into_owned()), None, None),
            Object::Socket(peer) => (None, Some(Channel::Internet), peer),
            Object::UnixSocket => (None, Some(Channel::Unix), None),
            Object::Stream => (None, Some(Channel::Pipe), None),
            Object::None => (None, None, None),
        };
        let decision = match record.decision {
            Decision::Allow if !record.delay.is_zero() => Decision::Delay(record.delay),
            Decision::Allow if peer.is_some_and(|it| self.is_driver(it)) => Decision::AllowDriver,
            Decision::Allow
                if rule.is_some_and(|it| it.is_trace) && !record.syscall.is_observed() =>
            {
                Decision::Traced
            }
            decision => decision,
        };
        EventKind::Syscall {
            syscall: record.syscall,
            pid: record.pid,
            tid: record.tid,
            decision,
            op: rule.and_then(|it| it.op.clone()),
            label: rule.and_then(|it| it.label.clone()),
            path,
            channel,
            peer,
            peer_interface: peer.and_then(|it| self.interface_at(it)).map(str::to_owned),
            rule_target: rule.map(|it| &it.service).filter(|it| *it != service).cloned(),
            window: rule.map(|it| it.window),
            size: record.size,
            latency: record.delay,
        }
    }
}

/// An address by what it means: `None` for this host, however that is spelled.
fn place(address: SocketAddr) -> (Option<IpAddr>, u16) {
    let ip = address.ip().to_canonical();
    let here = ip.is_loopback() || ip.is_unspecified();
    ((!here).then_some(ip), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_known_by_its_address_alone() {
        let mut names = Names::default();
        let driver: SocketAddr = "127.66.0.1:40000".parse().unwrap();
        assert!(!names.is_driver(driver) && !names.is_driver("[::]:1".parse().unwrap()));
        let v4 = std::net::Ipv4Addr::new(127, 66, 0, 1).to_ipv6_mapped().octets();
        names.set_driver(Driver { v4, v6: [0; 16] });
        assert!(names.is_driver(driver));
        assert!(names.is_driver("[::ffff:127.66.0.1]:1".parse().unwrap()));
        assert!(!names.is_driver("127.0.0.1:40000".parse().unwrap()));
        assert!(!names.is_driver("[::]:1".parse().unwrap()), "no address is not the driver's");
    }

    #[test]
    fn every_spelling_of_this_host_is_the_same_interface() {
        let mut names = Names::default();
        names.add_interface("127.0.0.1:5432".parse().unwrap(), "db.main");
        names.add_interface("172.18.0.2:5432".parse().unwrap(), "other.main");
        for here in ["127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"] {
            let address = format!("{here}:5432").parse().unwrap();
            assert_eq!(names.interface_at(address), Some("db.main"), "{here}");
        }
        let there = "[::ffff:172.18.0.2]:5432".parse().unwrap();
        assert_eq!(names.interface_at(there), Some("other.main"));
        assert_eq!(names.interface_at("127.0.0.1:5433".parse().unwrap()), None);
        assert_eq!(names.interface_at("172.18.0.3:5432".parse().unwrap()), None);
    }
}
