//! Which flows are between two sides, and resetting them at both ends.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use faultbox_common::{NO_SIDE, SocketQuery};

use super::{
    because,
    flows::{self, Socket},
    network::Network,
    programs::{Programs, ProgramsError},
    reset::{Numbers, Resetter},
    sides::Side,
};
use crate::engine::EngineError;

/// How long flows may take to be gone once they are reset. A segment in flight can make a reset's
/// number wrong; the next round has the right one.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two rounds of resets.
const PAUSE: Duration = Duration::from_millis(1);

/// A network namespace in which flows are reset.
pub(super) struct Place {
    network: Network,
    resetter: Resetter,
}

impl Place {
    /// Those of two sides, each once. Needs `CAP_NET_RAW`.
    pub(super) fn of(networks: [&Network; 2]) -> Result<Vec<Self>, EngineError> {
        let mut places: Vec<Self> = Vec::new();
        for network in networks {
            if places.iter().any(|it| it.network == *network) {
                continue;
            }
            let resetter = network.inside(Resetter::new).and_then(|it| it).map_err(|error| {
                EngineError(format!(
                    "resetting open connections needs raw sockets (root or CAP_NET_RAW): {error}"
                ))
            })?;
            places.push(Self { network: network.clone(), resetter });
        }
        Ok(places)
    }
}

/// The flows between two sides.
pub(super) struct Resets<'a> {
    pub(super) programs: &'a mut Programs,
    pub(super) places: &'a [Place],
    /// With their numbers.
    pub(super) sides: [(u32, &'a Side); 2],
    /// Whether a flow that this side has opened is to be reset; `None`: it is not known who has.
    pub(super) is_cut: &'a dyn Fn(Option<u32>) -> bool,
    /// Only those that are being opened.
    pub(super) only_dialing: bool,
}

/// A socket, and what a program says of it.
struct Found {
    /// Index of the place.
    place: usize,
    socket: Socket,
    answer: SocketQuery,
}

/// A socket that is to be reset.
struct Live {
    /// Index of the place.
    place: usize,
    socket: Socket,
    numbers: Numbers,
}

/// The ends of a flow, the same for the sockets at both.
fn pair(socket: &Socket) -> (SocketAddr, SocketAddr) {
    (socket.local.min(socket.remote), socket.local.max(socket.remote))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> EngineError {
    EngineError(format!("cannot reset open connections: {error}"))
}

impl Resets<'_> {
    /// Resets flows until none of those that were there is left; the result is how many were.
    pub(super) fn reset(&mut self) -> Result<u64, EngineError> {
        let deadline = Instant::now() + PATIENCE;
        let mut first = None;
        loop {
            let live = self.live()?;
            let flows: BTreeSet<_> = live.iter().map(|it| pair(&it.socket)).collect();
            // Whoever dials again at once may always be found dialing: those are cut already.
            let first = first.get_or_insert_with(|| flows.clone());
            let left = flows.intersection(first).count();
            for Live { place, socket, numbers } in live {
                let resetter = &self.places[place].resetter;
                resetter.reset(socket.remote, socket.local, numbers).map_err(failed)?;
            }
            if left == 0 {
                return Ok(first.len() as u64);
            }
            if Instant::now() > deadline {
                return Err(failed(io::Error::other(format!("{left} are still there"))));
            }
            thread::sleep(PAUSE);
        }
    }

    /// The sockets at both ends of the flows that are to be reset.
    fn live(&mut self) -> Result<Vec<Live>, EngineError> {
        let found = self.sockets()?;
        let listening: BTreeSet<_> = found
            .iter()
            .filter(|it| it.socket.listens())
            .map(|it| (it.answer.side, it.socket.local.port()))
            .collect();
        let is_open = |it: &Found| {
            let is_connection = it.answer.state != 0 && it.answer.state != flows::LISTEN;
            let is_meant = it.socket.is_live() && (!self.only_dialing || it.socket.is_dialing());
            is_meant && is_connection && self.side(it.answer.side).is_some()
        };
        let open: Vec<_> = found.into_iter().filter(is_open).collect();
        let peers = self.peers(&open)?;
        let mut live = Vec::new();
        for (Found { place, socket, answer }, peer) in open.into_iter().zip(peers) {
            let Some([(own_number, own), (other_number, other)]) = self.side(answer.side) else {
                continue;
            };
            let is_theirs = match peer {
                Some(peer) if peer.side != NO_SIDE => peer.side == other_number,
                // Somebody else's.
                Some(peer) if peer.state != 0 => false,
                _ => other.is_at(socket.remote, own.home),
            };
            let serves = |(number, side): (u32, &Side), address: SocketAddr| {
                listening.contains(&(number, address.port())) || side.listens_at(address, own.home)
            };
            let dialed = serves((other_number, other), socket.remote);
            let opener =
                match (dialed || socket.is_dialing(), serves((own_number, own), socket.local)) {
                    (true, false) => Some(own_number),
                    (false, true) => Some(other_number),
                    _ => None,
                };
            if is_theirs && (self.is_cut)(opener) {
                let numbers = Numbers { receives: answer.receives, sends: answer.sends };
                live.push(Live { place, socket, numbers });
            }
        }
        Ok(live)
    }

    /// A side and the other one.
    fn side(&self, number: u32) -> Option<[(u32, &Side); 2]> {
        match self.sides {
            [one, other] if one.0 == number => Some([one, other]),
            [one, other] if other.0 == number => Some([other, one]),
            _ => None,
        }
    }

    /// All sockets of all places.
    fn sockets(&mut self) -> Result<Vec<Found>, EngineError> {
        let programs = &mut *self.programs;
        let mut found = Vec::new();
        for (place, Place { network, .. }) in self.places.iter().enumerate() {
            let here = network.inside(|| {
                let sockets = flows::sockets().map_err(unlisted)?;
                let query = |socket: Socket| {
                    let answer = ask(programs, socket.local, socket.remote)?;
                    Ok(Found { place, socket, answer })
                };
                sockets.into_iter().map(query).collect::<Result<Vec<_>, EngineError>>()
            });
            found.extend(here.map_err(unlisted)??);
        }
        Ok(found)
    }

    /// What is at the other end of each socket; `None`: that is in none of the places.
    fn peers(&mut self, open: &[Found]) -> Result<Vec<Option<SocketQuery>>, EngineError> {
        let programs = &mut *self.programs;
        let is_in = |place: usize, it: &Found| {
            let remote = it.socket.remote.ip();
            // A loopback address, or one that two network namespaces have, is meant where it is
            // used.
            let has = |place: &Place| place.network.has(remote);
            let own = Some(it.place).filter(|own| has(&self.places[*own]));
            own.or_else(|| self.places.iter().position(has)) == Some(place)
        };
        let mut peers = vec![None; open.len()];
        for (place, Place { network, .. }) in self.places.iter().enumerate() {
            let questions = peers.iter_mut().zip(open).filter(|(_, it)| is_in(place, it));
            let answered = network.inside(|| -> Result<(), EngineError> {
                for (peer, Found { socket, .. }) in questions {
                    *peer = Some(ask(programs, socket.remote, socket.local)?);
                }
                Ok(())
            });
            answered.map_err(unlisted)??;
        }
        Ok(peers)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unlisted(error: io::Error) -> EngineError {
    EngineError(format!("cannot list open connections: {error}"))
}

/// What the kernel knows of a socket in the network namespace of the calling thread.
fn ask(
    programs: &mut Programs,
    local: SocketAddr,
    remote: SocketAddr,
) -> Result<SocketQuery, EngineError> {
    programs.query(local, remote).map_err(|error: ProgramsError| because(&error))
}
