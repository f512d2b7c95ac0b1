//! Which partitions are on, and what follows from all of them together.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, Weak},
};

use faultbox_common::{CUT_CONNECTS, CUT_COUNTED, CUT_DIALED, CUT_PACKETS, Cut, CutCounts, cell};

use super::{
    Partition, PartitionCounts, PartitionDirection, PartitionMode, PartitionSide, because,
    network::Network,
    programs::Programs,
    resets::{Place, Resets},
    sides::Sides,
    slips::Slips,
};
use crate::engine::{EngineError, TargetId};

/// All partitions of an engine.
#[derive(Default)]
pub(in crate::engine) struct Partitions {
    /// Loaded for the first one.
    programs: Option<Programs>,
    /// From then on, as well.
    slips: Option<Slips>,
    sides: Sides,
    /// By id.
    active: BTreeMap<u64, Active>,
    next: u64,
}

/// A partition that is on.
#[derive(Clone)]
struct Active {
    a: u32,
    b: u32,
    mode: PartitionMode,
    direction: PartitionDirection,
    /// What had been cut before, from `a` to `b` and back.
    before: [CutCounts; 2],
    reset: u64,
    /// Where flows are reset; empty when they are not.
    places: Arc<[Place]>,
}

impl Active {
    /// What it cuts from one side to another.
    fn flags(&self, from: u32, to: u32) -> u32 {
        let both = self.direction == PartitionDirection::Both;
        let applies = match self.direction {
            PartitionDirection::Both => [(self.a, self.b), (self.b, self.a)].contains(&(from, to)),
            PartitionDirection::AToB => (self.a, self.b) == (from, to),
            PartitionDirection::BToA => (self.b, self.a) == (from, to),
        };
        match self.mode {
            _ if !applies => 0,
            PartitionMode::Drop => CUT_PACKETS | CUT_COUNTED,
            // What slips through between a connect's check and its first packet, and UDP.
            PartitionMode::Refuse if both => CUT_CONNECTS | CUT_PACKETS,
            PartitionMode::Refuse => CUT_CONNECTS | CUT_DIALED,
        }
    }

    /// Whether a flow that this side has opened is to be reset; `None`: it is not known who has.
    fn resets(&self, opener: Option<u32>) -> bool {
        match (self.direction, opener) {
            (PartitionDirection::Both, _) | (_, None) => true,
            (PartitionDirection::AToB, Some(side)) => side == self.a,
            (PartitionDirection::BToA, Some(side)) => side == self.b,
        }
    }
}

impl Partitions {
    /// Switches a partition on; the id is for [`Partitions::heal`].
    pub(super) fn apply(
        &mut self,
        partition: &Partition,
        cgroup_of: impl Fn(TargetId) -> Option<PathBuf>,
        this: Weak<Mutex<Self>>,
    ) -> Result<u64, EngineError> {
        let Partition { a, b, mode, direction } = partition;
        let networks = [network_of(a)?, network_of(b)?];
        let places = match mode {
            PartitionMode::Refuse => Place::of(networks.each_ref())?.into(),
            PartitionMode::Drop => Arc::default(),
        };
        if self.programs.is_none() {
            let mut programs = Programs::load().map_err(|error| because(&error))?;
            let ring = programs.slips().map_err(|error| because(&error))?;
            let slips = Slips::watch(ring, this).map_err(|error| {
                EngineError(format!("cannot watch for connects to refuse: {error}"))
            })?;
            (self.programs, self.slips) = (Some(programs), Some(slips));
        }
        let (programs, sides) = self.loaded()?;
        let one = sides.join(programs, a, &networks[0], &cgroup_of)?;
        let other = match sides.join(programs, b, &networks[1], &cgroup_of) {
            Ok(other) => other,
            Err(error) => {
                sides.leave(programs, one);
                return Err(error);
            }
        };
        let introduced = sides.introduce(programs, one, other);
        let id = self.next;
        self.next += 1;
        let before = self.counts(one, other);
        let (mode, direction) = (*mode, *direction);
        let (a, b, reset) = (one, other, 0);
        let active = Active { a, b, mode, direction, before, reset, places };
        self.active.insert(id, active.clone());
        let applied = introduced.and_then(|()| self.publish(one, other));
        let reset = applied.and_then(|()| self.reset(&active, false)).inspect_err(|_| {
            self.heal(id);
        })?;
        if let Some(active) = self.active.get_mut(&id) {
            active.reset = reset;
        }
        Ok(id)
    }

    /// Switches a partition off. Others between the same sides go on.
    pub(super) fn heal(&mut self, id: u64) -> PartitionCounts {
        let Some(active) = self.active.remove(&id) else {
            return PartitionCounts::default();
        };
        let Active { a, b, before, reset, .. } = active;
        // The tables are arrays, and an element of an array can always be written.
        let _ = self.publish(a, b);
        // Whose first packet has just vanished would else wait for a second, and then connect. An
        // error can only mean that it does.
        let _ = self.reset(&active, true);
        let mut counts = PartitionCounts { reset, ..PartitionCounts::default() };
        // Programs count for each pair of sides. What they count is told apart by what a mode does;
        // datagrams vanish in both, and are the dropping partition's while there is one.
        let refuses = active.mode == PartitionMode::Refuse;
        let is_alone = !refuses || !self.drops_between(a, b);
        for ((before, after), (from, to)) in
            before.iter().zip(self.counts(a, b)).zip([(a, b), (b, a)])
        {
            if active.flags(from, to) != 0 {
                if refuses {
                    counts.refused += after.refused.saturating_sub(before.refused);
                }
                if is_alone {
                    counts.dropped += after.flows.saturating_sub(before.flows);
                    counts.packets += after.packets.saturating_sub(before.packets);
                }
            }
        }
        if let Ok((programs, sides)) = self.loaded() {
            sides.leave(programs, a);
            sides.leave(programs, b);
        }
        counts
    }

    /// Whether a partition that drops is on between two sides.
    fn drops_between(&self, a: u32, b: u32) -> bool {
        let is_theirs = |it: &&Active| [(a, b), (b, a)].contains(&(it.a, it.b));
        self.active.values().filter(is_theirs).any(|it| it.mode == PartitionMode::Drop)
    }

    fn loaded(&mut self) -> Result<(&mut Programs, &mut Sides), EngineError> {
        let programs = self.programs.as_mut();
        let programs =
            programs.ok_or_else(|| EngineError("no partition was ever on".to_owned()))?;
        Ok((programs, &mut self.sides))
    }

    /// Has the programs cut what all partitions between two sides say together.
    fn publish(&mut self, a: u32, b: u32) -> Result<(), EngineError> {
        for (from, to) in [(a, b), (b, a)] {
            let all = self.active.iter().filter(|(_, it)| it.flags(from, to) != 0);
            let flags = all.clone().fold(0, |flags, (_, it)| flags | it.flags(from, to));
            // The last one on, so that its flows are counted from the beginning.
            let pair = [(a, b), (b, a)];
            let of_pair = self.active.iter().filter(|(_, it)| pair.contains(&(it.a, it.b)));
            let generation = of_pair.map(|(id, _)| *id as u32).max().unwrap_or_default();
            let cut = Cut { flags, generation };
            self.loaded()?.0.set_cut(cell(from, to), cut).map_err(|error| because(&error))?;
        }
        Ok(())
    }

    /// What has been cut so far, from `a` to `b` and back.
    fn counts(&mut self, a: u32, b: u32) -> [CutCounts; 2] {
        [(a, b), (b, a)].map(|(from, to)| {
            let programs = self.programs.as_ref();
            programs.and_then(|it| it.counts(cell(from, to)).ok()).unwrap_or_default()
        })
    }
    /// Resets the open flows of a partition, or only those that are being opened, and says how
    /// many there were.
    fn reset(&mut self, active: &Active, only_dialing: bool) -> Result<u64, EngineError> {
        let Self { programs: Some(programs), sides, .. } = self else { return Ok(0) };
        let (Some(a), Some(b)) = (sides.get(active.a), sides.get(active.b)) else { return Ok(0) };
        let is_cut = |opener| active.resets(opener);
        let (places, sides) = (&active.places, [(active.a, a), (active.b, b)]);
        Resets { programs, places, sides, is_cut: &is_cut, only_dialing }.reset()
    }

    /// Refuses connects that wait for an answer to a packet that has vanished.
    pub(super) fn refuse_late(&mut self) {
        let refusing = self.active.values().filter(|it| it.mode == PartitionMode::Refuse);
        for active in refusing.cloned().collect::<Vec<_>>() {
            // The kernel sends the packet again after a second, and so this is tried again.
            let _ = self.reset(&active, true);
        }
    }
}

/// The network namespace of a side.
fn network_of(side: &PartitionSide) -> Result<Network, EngineError> {
    Network::new(side.network.as_ref()).map_err(|error| {
        EngineError(format!(
            "cannot enter a service's network namespace (root or CAP_SYS_ADMIN): {error}"
        ))
    })
}
