//! The targets that partitions are about, as the programs know them.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

use faultbox_common::{LEVELS, MAX_SIDES};

use super::{
    PartitionSide, because,
    network::Network,
    nsid,
    programs::{Attached, Programs, ProgramsError, endpoint},
};
use crate::engine::{EngineError, TargetId, target::depth};

/// A target that a partition is about.
pub(super) struct Side {
    target: TargetId,
    cgroup: u64,
    level: u32,
    network: Network,
    /// The number of its network namespace.
    pub(super) home: u32,
    addresses: Vec<SocketAddr>,
    hosts: Vec<IpAddr>,
    /// Partitions.
    users: u32,
    _attached: Attached,
}

impl Side {
    /// Whether the side has declared this port of the address, of which a network namespace
    /// speaks.
    pub(super) fn listens_at(&self, address: SocketAddr, home: u32) -> bool {
        let meant = endpoint(address, home);
        self.addresses.iter().any(|declared| endpoint(*declared, self.home) == meant)
    }

    /// The same, or whether the address is this side's alone.
    pub(super) fn is_at(&self, address: SocketAddr, home: u32) -> bool {
        self.listens_at(address, home) || self.hosts.contains(&address.ip())
    }

    /// What the programs' table says of its addresses.
    fn places(&self) -> impl Iterator<Item = SocketAddr> {
        places(&self.addresses, &self.hosts)
    }
}

/// Addresses with their ports, and those of which every port is meant.
fn places(addresses: &[SocketAddr], hosts: &[IpAddr]) -> impl Iterator<Item = SocketAddr> {
    addresses.iter().copied().chain(hosts.iter().map(|host| SocketAddr::new(*host, 0)))
}

/// All of them.
#[derive(Default)]
pub(super) struct Sides {
    /// By their number.
    all: BTreeMap<u32, Side>,
    levels: [u32; LEVELS],
    /// Network namespaces that have got a number so far; none gets an old one.
    homes: u32,
    /// Addresses that several services share in one network namespace, of which another has been
    /// told: by the numbers of the other and the one.
    told: BTreeMap<(u32, u32), Vec<IpAddr>>,
}

impl Sides {
    pub(super) fn get(&self, number: u32) -> Option<&Side> {
        self.all.get(&number)
    }

    /// Tells the programs of a side in a network namespace, and puts them on its cgroup.
    pub(super) fn join(
        &mut self,
        programs: &mut Programs,
        side: &PartitionSide,
        network: &Network,
        cgroup_of: impl Fn(TargetId) -> Option<PathBuf>,
    ) -> Result<u32, EngineError> {
        let known = self.all.iter_mut().find(|(_, it)| it.target == side.target);
        if let Some((number, side)) = known {
            side.users += 1;
            return Ok(*number);
        }
        let path = cgroup_of(side.target).ok_or_else(|| {
            EngineError(
                "cutting traffic needs a cgroup for each service (cgroup v2, writable)".to_owned(),
            )
        })?;
        let unusable = |error: io::Error| {
            EngineError(format!("cannot use the cgroup {}: {error}", path.display()))
        };
        let directory = File::open(&path).map_err(unusable)?;
        let cgroup = directory.metadata().map_err(unusable)?.ino();
        let level = depth(&path).map_err(unusable)? + 1;
        let number = (0..MAX_SIDES)
            .find(|number| !self.all.contains_key(number))
            .ok_or_else(|| EngineError(format!("partitions of more than {MAX_SIDES} services")))?;
        let levels = self.levels_with(level)?;
        let home = self.home_of(network);
        let PartitionSide { target, addresses, hosts, .. } = side.clone();
        let mut join = || -> Result<Attached, ProgramsError> {
            programs.set_levels(levels)?;
            programs.set_home(number, home)?;
            programs.add_side(cgroup, number)?;
            for address in places(&addresses, &hosts) {
                programs.add_address(address, home, number)?;
            }
            programs.attach(&directory)
        };
        let attached = join().map_err(|error| {
            programs.forget(cgroup, places(&addresses, &hosts), home);
            because(&error)
        })?;
        self.levels = levels;
        let network = network.clone();
        let users = 1;
        let side = Side {
            target,
            cgroup,
            level,
            network,
            home,
            addresses,
            hosts,
            users,
            _attached: attached,
        };
        self.all.insert(number, side);
        Ok(number)
    }

    /// The number of a network namespace. One is never another's, because the programs' tables are
    /// not changed all at once.
    fn home_of(&mut self, network: &Network) -> u32 {
        let neighbour = self.all.values().find(|it| it.network == *network);
        neighbour.map_or_else(
            || {
                self.homes += 1;
                self.homes
            },
            |it| it.home,
        )
    }

    /// The depths at which sides lie, this one included. One that is in use never moves, because a
    /// program may be half way through the list; one that is not costs nothing but time.
    fn levels_with(&self, level: u32) -> Result<[u32; LEVELS], EngineError> {
        let mut levels = self.levels;
        if !levels.contains(&level) {
            let in_use = |it: u32| self.all.values().any(|side| side.level == it);
            let free = levels.iter().position(|it| !in_use(*it)).ok_or_else(|| {
                EngineError(format!("partitions at more than {LEVELS} depths of the cgroup tree"))
            })?;
            levels[free] = level;
        }
        Ok(levels)
    }

    /// Has the programs know the network namespace of each of two sides in that of the other, so
    /// that they find out whose a socket is at an address that several services share.
    pub(super) fn introduce(
        &mut self,
        programs: &mut Programs,
        a: u32,
        b: u32,
    ) -> Result<(), EngineError> {
        for (from, to) in [(a, b), (b, a)] {
            let (Some(from), Some(to)) = (self.all.get(&from), self.all.get(&to)) else { continue };
            if from.home == to.home || self.told.contains_key(&(from.home, to.home)) {
                continue;
            }
            let is_somebodys = |address: &IpAddr| {
                let neighbours = self.all.values().filter(|it| it.home == to.home);
                neighbours.flat_map(|it| &it.hosts).any(|host| host == address)
            };
            // A link-local address says nothing without the link.
            let shared = to.network.addresses.iter().copied().filter(|it| {
                let is_local = matches!(it, IpAddr::V6(v6) if v6.is_unicast_link_local());
                !it.is_loopback() && !is_local && !is_somebodys(it)
            });
            let shared: Vec<_> = shared.collect();
            if shared.is_empty() {
                continue;
            }
            let id = from.network.inside(|| nsid::id_of(to.network.file())).and_then(|it| it);
            let id = id.map_err(|error| {
                EngineError(format!(
                    "cannot tell whose connections to {} are from another network namespace: \
                     {error}",
                    shared[0]
                ))
            })?;
            let added = shared.iter().try_for_each(|it| programs.add_shared(*it, from.home, id));
            self.told.insert((from.home, to.home), shared);
            added.map_err(|error| because(&error))?;
        }
        Ok(())
    }

    /// One partition less of a side; the last takes the programs off its cgroup.
    pub(super) fn leave(&mut self, programs: &mut Programs, number: u32) {
        let Some(side) = self.all.get_mut(&number) else { return };
        side.users -= 1;
        if side.users > 0 {
            return;
        }
        if let Some(side) = self.all.remove(&number) {
            programs.forget(side.cgroup, side.places(), side.home);
        }
        let is_home = |home: u32| self.all.values().any(|side| side.home == home);
        self.told.retain(|(seen_from, home), addresses| {
            let stays = is_home(*seen_from) && is_home(*home);
            if !stays {
                for address in addresses {
                    programs.forget_shared(*address, *seen_from);
                }
            }
            stays
        });
    }
}
