//! The programs of partitions: their own copy of the object, without its large tables.

use std::{
    fs::File,
    io,
    net::{IpAddr, SocketAddr},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, RingBuf},
    programs::{
        CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, Program, ProgramError,
        TestRun as _, TestRunOptions, cgroup_skb::CgroupSkbLink,
        cgroup_sock_addr::CgroupSockAddrLink,
    },
};
use faultbox_common::{Cut, CutCounts, Endpoint, LEVELS, SharedAddress, SocketQuery};

use crate::engine::kernel::{OBJECT, Plain, is_denied, text};

/// Programs on calls that name a destination.
const CALLS: [&str; 4] =
    ["partition_connect4", "partition_connect6", "partition_sendmsg4", "partition_sendmsg6"];

/// Maps of other programs, which are never loaded here: as small as the kernel allows.
const UNUSED: [(&str, u32); 12] = [
    ("TARGETS", 1),
    ("SET_OF", 1),
    ("SETS", 1),
    ("RULES", 1),
    ("SCOPES", 1),
    ("GLOBS", 1),
    ("COUNTS", 1),
    ("PLACES", 1),
    ("PENDING", 64),
    ("PARKED_UNTIL", 64),
    ("WAKES", 1 << 12),
    ("EVENTS", 1 << 12),
];

/// Why there is no partition.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramsError {
    #[error(
        "needs programs on cgroups, which this process may not load: run it as root or with \
         CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    Privilege,
    #[error("needs programs on cgroups (Linux 6.1, CONFIG_CGROUP_BPF): {0}")]
    Load(String),
}

impl From<ProgramError> for ProgramsError {
    fn from(error: ProgramError) -> Self {
        match &error {
            // What the verifier does not like is no want of privilege, although it says EACCES.
            ProgramError::LoadError { verifier_log, .. }
                if !verifier_log.to_string().is_empty() =>
            {
                Self::Load(text(&error))
            }
            _ => refused(&error),
        }
    }
}

impl From<MapError> for ProgramsError {
    fn from(error: MapError) -> Self {
        refused(&error)
    }
}

fn refused(error: &(dyn std::error::Error + 'static)) -> ProgramsError {
    if is_denied(error) { ProgramsError::Privilege } else { ProgramsError::Load(text(error)) }
}

/// The loaded programs and their tables.
pub(super) struct Programs {
    ebpf: Ebpf,
    levels: Array<MapData, [u32; LEVELS]>,
    sides: HashMap<MapData, u64, u32>,
    networks: Array<MapData, u32>,
    shared: HashMap<MapData, Plain<SharedAddress>, u32>,
    endpoints: HashMap<MapData, Plain<Endpoint>, u32>,
    cuts: Array<MapData, Plain<Cut>>,
    counts: Array<MapData, Plain<CutCounts>>,
    query: Array<MapData, Plain<SocketQuery>>,
}

/// Programs on a cgroup and its descendants, until this is dropped.
pub(super) struct Attached {
    _egress: CgroupSkbLink,
    _calls: Vec<CgroupSockAddrLink>,
}

impl Programs {
    /// Has the verifier check them.
    pub(super) fn load() -> Result<Self, ProgramsError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        for (name, size) in UNUSED {
            loader.map_max_entries(name, size);
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| refused(&error))?;
        for name in ["partition_egress", "partition_query"] {
            packet_program(&mut ebpf, name)?.load()?;
        }
        for name in CALLS {
            call_program(&mut ebpf, name)?.load()?;
        }
        Ok(Self {
            levels: take(&mut ebpf, "PARTITION_LEVELS")?.try_into()?,
            sides: take(&mut ebpf, "PARTITION_SIDES")?.try_into()?,
            networks: take(&mut ebpf, "PARTITION_NETWORKS")?.try_into()?,
            shared: take(&mut ebpf, "PARTITION_SHARED")?.try_into()?,
            endpoints: take(&mut ebpf, "PARTITION_ENDPOINTS")?.try_into()?,
            cuts: take(&mut ebpf, "PARTITION_CUTS")?.try_into()?,
            counts: take(&mut ebpf, "PARTITION_COUNTS")?.try_into()?,
            query: take(&mut ebpf, "PARTITION_QUERY")?.try_into()?,
            ebpf,
        })
    }

    /// Where they tell of packets that were to open a connection; once.
    pub(super) fn slips(&mut self) -> Result<RingBuf<MapData>, ProgramsError> {
        Ok(take(&mut self.ebpf, "PARTITION_SLIPS")?.try_into()?)
    }

    /// Attaches them to a cgroup.
    pub(super) fn attach(&mut self, cgroup: &File) -> Result<Attached, ProgramsError> {
        let egress = packet_program(&mut self.ebpf, "partition_egress")?;
        // A link is beside others by its nature, and takes no flags.
        let mode = CgroupAttachMode::Single;
        let link = egress.attach(cgroup, CgroupSkbAttachType::Egress, mode)?;
        let egress = egress.take_link(link)?;
        let mut calls = Vec::new();
        for name in CALLS {
            let program = call_program(&mut self.ebpf, name)?;
            let link = program.attach(cgroup, mode)?;
            calls.push(program.take_link(link)?);
        }
        Ok(Attached { _egress: egress, _calls: calls })
    }

    /// At which depths of the cgroup tree sides lie, plus 1; 0: none.
    pub(super) fn set_levels(&mut self, levels: [u32; LEVELS]) -> Result<(), ProgramsError> {
        Ok(self.levels.set(0, levels, 0)?)
    }

    pub(super) fn add_side(&mut self, cgroup: u64, side: u32) -> Result<(), ProgramsError> {
        Ok(self.sides.insert(cgroup, side, 0)?)
    }

    /// The number of a side's network namespace.
    pub(super) fn set_home(&mut self, side: u32, home: u32) -> Result<(), ProgramsError> {
        Ok(self.networks.set(side, home, 0)?)
    }

    /// Forgets a side. That it is not there is as good.
    pub(super) fn forget(
        &mut self,
        cgroup: u64,
        addresses: impl Iterator<Item = SocketAddr>,
        home: u32,
    ) {
        let _ = self.sides.remove(&cgroup);
        for address in addresses {
            let _ = self.endpoints.remove(&Plain(endpoint(address, home)));
        }
    }

    /// An address of a side, whose network namespace has this number; port 0: all ports.
    pub(super) fn add_address(
        &mut self,
        address: SocketAddr,
        home: u32,
        side: u32,
    ) -> Result<(), ProgramsError> {
        Ok(self.endpoints.insert(Plain(endpoint(address, home)), side, 0)?)
    }

    /// An address that several services share, as known where `seen_from` is the number: there,
    /// its network namespace has this id.
    pub(super) fn add_shared(
        &mut self,
        address: IpAddr,
        seen_from: u32,
        id: u32,
    ) -> Result<(), ProgramsError> {
        Ok(self.shared.insert(Plain(shared(address, seen_from)), id, 0)?)
    }

    /// Forgets one. That it is not there is as good.
    pub(super) fn forget_shared(&mut self, address: IpAddr, seen_from: u32) {
        let _ = self.shared.remove(&Plain(shared(address, seen_from)));
    }

    pub(super) fn set_cut(&mut self, cell: u32, cut: Cut) -> Result<(), ProgramsError> {
        Ok(self.cuts.set(cell, Plain(cut), 0)?)
    }

    pub(super) fn counts(&self, cell: u32) -> Result<CutCounts, ProgramsError> {
        Ok(self.counts.get(&cell, 0)?.0)
    }

    /// What the kernel knows of the TCP socket with these ends, in the network namespace of the
    /// calling thread.
    pub(super) fn query(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<SocketQuery, ProgramsError> {
        let question = SocketQuery {
            local: words(local.ip()),
            remote: words(remote.ip()),
            local_port: local.port().to_be(),
            remote_port: remote.port().to_be(),
            is_v6: local.is_ipv6().into(),
            ..SocketQuery::default()
        };
        self.query.set(0, Plain(question), 0)?;
        // The kernel wants a packet of some length to run it on.
        let packet = [0; 64];
        let options = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::new() };
        packet_program(&mut self.ebpf, "partition_query")?.test_run(options)?;
        Ok(self.query.get(&0, 0)?.0)
    }
}

/// An address as the programs compare it, in the network namespace of this number.
pub(super) fn endpoint(address: SocketAddr, home: u32) -> Endpoint {
    let port = address.port().into();
    let endpoint = match address.ip() {
        IpAddr::V4(ip) => Endpoint::v4(u32::from_ne_bytes(ip.octets()), port),
        IpAddr::V6(_) => Endpoint::v6(words(address.ip()), port),
    };
    endpoint.within(home)
}

fn shared(address: IpAddr, seen_from: u32) -> SharedAddress {
    SharedAddress { address: endpoint(SocketAddr::new(address, 0), 0).address, seen_from }
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(ip) => [u32::from_ne_bytes(ip.octets()), 0, 0, 0],
        IpAddr::V6(ip) => {
            let (octets, mut words) = (ip.octets(), [0; 4]);
            for (word, bytes) in words.iter_mut().zip(octets.chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            words
        }
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, ProgramsError> {
    ebpf.program_mut(name).ok_or_else(|| missing(name))
}

fn packet_program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut CgroupSkb, ProgramsError> {
    Ok(program(ebpf, name)?.try_into()?)
}

fn call_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut CgroupSockAddr, ProgramsError> {
    Ok(program(ebpf, name)?.try_into()?)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, ProgramsError> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ProgramsError {
    refused(&io::Error::other(format!("{name} is missing in the object")))
}
