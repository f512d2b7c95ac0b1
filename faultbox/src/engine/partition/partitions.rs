//! Which partitions are on, and what follows from all of them together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use faultbox_common::{
    CUT_CONNECTS, CUT_COUNTED, CUT_DIALED, CUT_PACKETS, Cut, CutCounts, LEVELS, MAX_SIDES, NO_SIDE,
    cell,
};

use super::{
    Partition, PartitionCounts, PartitionDirection, PartitionMode, PartitionSide,
    flows::{self, Socket},
    programs::{Attached, Programs, ProgramsError, endpoint},
    reset::{Numbers, Resetter},
};
use crate::engine::{EngineError, TargetId, target::depth};

/// How long flows may take to be gone once they are reset. A segment in flight can make a reset's
/// number wrong; the next round has the right one.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two rounds of resets.
const PAUSE: Duration = Duration::from_millis(1);

/// All partitions of an engine.
#[derive(Default)]
pub(in crate::engine) struct Partitions {
    /// Loaded for the first one.
    programs: Option<Programs>,
    /// By their number.
    sides: BTreeMap<u32, Side>,
    /// By id.
    active: BTreeMap<u64, Active>,
    next: u64,
    levels: [u32; LEVELS],
}

/// A target that a partition is about.
struct Side {
    target: TargetId,
    cgroup: u64,
    level: u32,
    addresses: Vec<SocketAddr>,
    /// Partitions.
    users: u32,
    _attached: Attached,
}

impl Side {
    /// Whether the side has declared this port of the address.
    fn listens_at(&self, address: SocketAddr) -> bool {
        self.addresses.iter().any(|declared| endpoint(*declared) == endpoint(address))
    }

    /// Whether it has declared this address, or this port of it.
    fn is_at(&self, address: SocketAddr) -> bool {
        let whole = SocketAddr::new(address.ip(), 0);
        self.listens_at(address) || self.listens_at(whole)
    }
}

/// A partition that is on.
struct Active {
    a: u32,
    b: u32,
    mode: PartitionMode,
    direction: PartitionDirection,
    /// What had been cut before, from `a` to `b` and back.
    before: [CutCounts; 2],
    reset: u64,
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

/// The ends of a flow, the same for the sockets at both.
fn pair(socket: &Socket) -> (SocketAddr, SocketAddr) {
    (socket.local.min(socket.remote), socket.local.max(socket.remote))
}

fn because(error: &ProgramsError) -> EngineError {
    EngineError(format!("cutting traffic {error}"))
}

impl Partitions {
    /// Switches a partition on; the id is for [`Partitions::heal`].
    pub(super) fn apply(
        &mut self,
        partition: &Partition,
        cgroup_of: impl Fn(TargetId) -> Option<PathBuf>,
    ) -> Result<u64, EngineError> {
        let Partition { a, b, mode, direction } = partition;
        if self.programs.is_none() {
            self.programs = Some(Programs::load().map_err(|error| because(&error))?);
        }
        let resetter = match mode {
            PartitionMode::Refuse => Some(Resetter::new().map_err(|error| {
                EngineError(format!(
                    "resetting open connections needs raw sockets (root or CAP_NET_RAW): {error}"
                ))
            })?),
            PartitionMode::Drop => None,
        };
        let one = self.join(a, &cgroup_of)?;
        let other = self.join(b, &cgroup_of).inspect_err(|_| self.leave(one))?;
        let id = self.next;
        self.next += 1;
        let before = self.counts(one, other);
        let (mode, direction) = (*mode, *direction);
        self.active.insert(id, Active { a: one, b: other, mode, direction, before, reset: 0 });
        let applied = self.publish(one, other).and_then(|()| match resetter {
            Some(resetter) => self.reset(id, &resetter),
            None => Ok(()),
        });
        if let Err(error) = applied {
            self.heal(id);
            return Err(error);
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
        self.leave(a);
        self.leave(b);
        counts
    }

    /// Whether a partition that drops is on between two sides.
    fn drops_between(&self, a: u32, b: u32) -> bool {
        let is_theirs = |it: &&Active| [(a, b), (b, a)].contains(&(it.a, it.b));
        self.active.values().filter(is_theirs).any(|it| it.mode == PartitionMode::Drop)
    }

    fn programs(&mut self) -> Result<&mut Programs, EngineError> {
        self.programs.as_mut().ok_or_else(|| EngineError("no partition was ever on".to_owned()))
    }

    /// Tells the programs of a side, and puts them on its cgroup.
    fn join(
        &mut self,
        side: &PartitionSide,
        cgroup_of: impl Fn(TargetId) -> Option<PathBuf>,
    ) -> Result<u32, EngineError> {
        let known = self.sides.iter_mut().find(|(_, it)| it.target == side.target);
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
            .find(|number| !self.sides.contains_key(number))
            .ok_or_else(|| EngineError(format!("partitions of more than {MAX_SIDES} services")))?;
        let levels = self.levels_with(level)?;
        let programs = self.programs()?;
        let mut join = || {
            programs.set_levels(levels)?;
            programs.add_side(cgroup, number)?;
            for address in &side.addresses {
                programs.add_address(*address, number)?;
            }
            programs.attach(&directory)
        };
        let attached = join().map_err(|error| {
            programs.forget(cgroup, &side.addresses);
            because(&error)
        })?;
        self.levels = levels;
        let (target, addresses) = (side.target, side.addresses.clone());
        let side = Side { target, cgroup, level, addresses, users: 1, _attached: attached };
        self.sides.insert(number, side);
        Ok(number)
    }

    /// The depths at which sides lie, this one included. One that is in use never moves, because a
    /// program may be half way through the list; one that is not costs nothing but time.
    fn levels_with(&self, level: u32) -> Result<[u32; LEVELS], EngineError> {
        let mut levels = self.levels;
        if !levels.contains(&level) {
            let in_use = |it: u32| self.sides.values().any(|side| side.level == it);
            let free = levels.iter().position(|it| !in_use(*it)).ok_or_else(|| {
                EngineError(format!("partitions at more than {LEVELS} depths of the cgroup tree"))
            })?;
            levels[free] = level;
        }
        Ok(levels)
    }

    /// One partition less of a side; the last takes the programs off its cgroup.
    fn leave(&mut self, number: u32) {
        let Some(side) = self.sides.get_mut(&number) else { return };
        side.users -= 1;
        if side.users > 0 {
            return;
        }
        if let (Some(side), Some(programs)) = (self.sides.remove(&number), &mut self.programs) {
            programs.forget(side.cgroup, &side.addresses);
        }
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
            self.programs()?.set_cut(cell(from, to), cut).map_err(|error| because(&error))?;
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

    /// Resets the flows of a partition until none of those that it found is left.
    fn reset(&mut self, id: u64, resetter: &Resetter) -> Result<(), EngineError> {
        let deadline = Instant::now() + PATIENCE;
        let failed =
            |error: io::Error| EngineError(format!("cannot reset open connections: {error}"));
        let mut first = None;
        loop {
            let live = self.live(id)?;
            let flows: BTreeSet<_> = live.iter().map(|(socket, _)| pair(socket)).collect();
            // Whoever dials again at once may always be found dialing: those are cut already.
            let first = first.get_or_insert_with(|| flows.clone());
            let left = flows.intersection(first).count();
            for (socket, numbers) in live {
                resetter.reset(socket.remote, socket.local, numbers).map_err(failed)?;
            }
            if left == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(failed(io::Error::other(format!("{left} are still there"))));
            }
            thread::sleep(PAUSE);
        }
        if let Some(active) = self.active.get_mut(&id) {
            active.reset = first.map_or(0, |first| first.len() as u64);
        }
        Ok(())
    }

    /// The sockets at both ends of the flows that a partition is to reset.
    fn live(&mut self, id: u64) -> Result<Vec<(Socket, Numbers)>, EngineError> {
        let sockets = flows::sockets()
            .map_err(|error| EngineError(format!("cannot list open connections: {error}")))?;
        let Self { programs: Some(programs), sides, active, .. } = self else {
            return Ok(Vec::new());
        };
        let Some(active) = active.get(&id) else { return Ok(Vec::new()) };
        let mut query =
            |local, remote| programs.query(local, remote).map_err(|error| because(&error));
        let mut listening = BTreeSet::new();
        for socket in sockets.iter().filter(|it| it.listens()) {
            listening.insert((query(socket.local, socket.remote)?.side, socket.local.port()));
        }
        let is_at = |side, address| sides.get(&side).is_some_and(|it| it.is_at(address));
        let serves = |side, address: SocketAddr| {
            listening.contains(&(side, address.port()))
                || sides.get(&side).is_some_and(|it| it.listens_at(address))
        };
        let mut live = Vec::new();
        for socket in sockets.iter().filter(|it| it.is_live()) {
            let Socket { local, remote, .. } = *socket;
            let found = query(local, remote)?;
            let own = found.side;
            let other = match own {
                _ if found.state == 0 || found.state == flows::LISTEN => continue,
                side if side == active.a => active.b,
                side if side == active.b => active.a,
                _ => continue,
            };
            let peer = query(remote, local)?;
            let is_theirs = match peer.side {
                NO_SIDE => peer.state == 0 && is_at(other, remote),
                side => side == other,
            };
            let opener = match (serves(other, remote), serves(own, local)) {
                (true, false) => Some(own),
                (false, true) => Some(other),
                _ => None,
            };
            if is_theirs && active.resets(opener) {
                let numbers = Numbers { receives: found.receives, sends: found.sends };
                live.push((*socket, numbers));
            }
        }
        Ok(live)
    }
}
