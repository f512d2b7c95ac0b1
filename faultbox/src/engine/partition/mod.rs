//! Cutting the traffic between two targets: new connections, flows that are open already, and
//! packets.
//!
//! Programs on the cgroups of both sides do it (`cgroup/connect4` and its kin, `cgroup_skb`),
//! whatever rung serves system calls. They are loaded for the first partition, attached while
//! there is one, and gone with their descriptors.

mod flows;
mod network;
mod nsid;
mod partitions;
mod programs;
mod reset;
mod resets;
mod sides;
mod slips;

use std::{
    fs::File,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{Engine, EngineError, TargetId};

pub(super) use partitions::Partitions;
use programs::ProgramsError;

/// How traffic is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionMode {
    /// Connects fail with `ECONNREFUSED`, and open TCP flows are reset.
    #[default]
    Refuse,
    /// Packets vanish.
    Drop,
}

impl PartitionMode {
    /// As in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Drop => "drop",
        }
    }
}

/// Which way traffic is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionDirection {
    /// Both ways, whichever side has opened a flow.
    #[default]
    Both,
    /// [`PartitionMode::Refuse`]: flows that the first side opens; [`PartitionMode::Drop`]: packets
    /// that it sends.
    AToB,
    /// The same of the second side.
    BToA,
}

impl PartitionDirection {
    /// As in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::AToB => "a_to_b",
            Self::BToA => "b_to_a",
        }
    }
}

/// One of the two that are kept apart.
#[derive(Clone, Debug)]
pub struct PartitionSide {
    /// Whose traffic.
    pub target: TargetId,
    /// Where it listens. All loopback and unspecified addresses of a network namespace are the
    /// same.
    pub addresses: Vec<SocketAddr>,
    /// Its network namespace, an open `/proc/PID/ns/net`; `None`: that of the calling thread.
    pub network: Option<Arc<File>>,
    /// Addresses that nobody has but this side, whatever the port; no loopback addresses.
    pub hosts: Vec<IpAddr>,
}

/// Who is cut off from whom.
#[derive(Clone, Debug)]
pub struct Partition {
    /// The first side.
    pub a: PartitionSide,
    /// The second.
    pub b: PartitionSide,
    /// How.
    pub mode: PartitionMode,
    /// Which way.
    pub direction: PartitionDirection,
}

/// What a partition has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionCounts {
    /// Connects, and datagrams sent to an address, that were refused.
    pub refused: u64,
    /// Open TCP flows that were reset.
    pub reset: u64,
    /// Flows of which at least one packet vanished, each once.
    pub dropped: u64,
    /// All packets that vanished.
    pub packets: u64,
}

impl PartitionCounts {
    /// Connects refused, flows reset and flows dropped. Packets do not count: how often one is
    /// sent again is a matter of time.
    pub fn hits(&self) -> u64 {
        self.refused + self.reset + self.dropped
    }
}

/// A partition that is on. Dropping it heals it.
pub struct ActivePartition {
    engine: Engine,
    id: Option<u64>,
}

impl ActivePartition {
    /// Ends it: every packet and every connect from now on passes. Says what it has done.
    pub fn heal(mut self) -> PartitionCounts {
        self.end()
    }

    fn end(&mut self) -> PartitionCounts {
        let id = self.id.take();
        id.map(|id| self.engine.inner.partitions().heal(id)).unwrap_or_default()
    }
}

impl Drop for ActivePartition {
    fn drop(&mut self) {
        self.end();
    }
}

fn because(error: &ProgramsError) -> EngineError {
    EngineError(format!("cutting traffic {error}"))
}

impl Engine {
    /// Cuts two targets off from each other, each in its network namespace. When it returns, new
    /// connects are refused and old flows are reset, or packets vanish.
    ///
    /// # Errors
    ///
    /// When the process may not load programs on cgroups (`CAP_BPF`, `CAP_NET_ADMIN`), send
    /// resets (`CAP_NET_RAW`) or enter another network namespace (`CAP_SYS_ADMIN`), when a target
    /// has no cgroup, and when the kernel is too old.
    pub fn partition(&self, partition: &Partition) -> Result<ActivePartition, EngineError> {
        let cgroups = &self.inner.cgroups;
        let this = Arc::downgrade(&self.inner.partitions);
        let cgroup_of = |target| cgroups.of(target);
        let id = self.inner.partitions().apply(partition, cgroup_of, this)?;
        Ok(ActivePartition { engine: self.clone(), id: Some(id) })
    }
}
