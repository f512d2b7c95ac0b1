//! Cutting the traffic between two targets: new connections, flows that are open already, and
//! packets.
//!
//! Programs on the cgroups of both sides do it (`cgroup/connect4` and its kin, `cgroup_skb`),
//! whatever rung serves system calls. They are loaded for the first partition, attached while
//! there is one, and gone with their descriptors.

mod flows;
mod partitions;
mod programs;
mod reset;

use std::net::SocketAddr;

use super::{Engine, EngineError, TargetId};

pub(super) use partitions::Partitions;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSide {
    /// Whose traffic.
    pub target: TargetId,
    /// Where it listens. All loopback and unspecified addresses are the same; port 0 means every
    /// port of an address that is nobody else's.
    pub addresses: Vec<SocketAddr>,
}

/// Who is cut off from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl Engine {
    /// Cuts two targets off from each other, in the network namespace of the calling thread. When
    /// it returns, new connects are refused and old flows are reset, or packets vanish.
    ///
    /// # Errors
    ///
    /// When the process may not load programs on cgroups (`CAP_BPF`, `CAP_NET_ADMIN`) or send
    /// resets (`CAP_NET_RAW`), when a target has no cgroup, and when the kernel is too old.
    pub fn partition(&self, partition: &Partition) -> Result<ActivePartition, EngineError> {
        let cgroups = &self.inner.cgroups;
        let id = self.inner.partitions().apply(partition, |target| cgroups.of(target))?;
        Ok(ActivePartition { engine: self.clone(), id: Some(id) })
    }
}
