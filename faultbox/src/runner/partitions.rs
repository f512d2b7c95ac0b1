//! The partitions of a running test: which there were, which are on, and what they have cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    engine::{ActivePartition, Engine, EngineError, Partition, PartitionCounts, PartitionSide},
    report::PartitionReport,
    spec::{FaultWindow, PartitionRequest, Service},
};

use super::{addresses::Whereabouts, faults::Places};

/// All partitions of one test.
pub(crate) struct Partitions<'a> {
    engine: &'a Engine,
    all: Vec<Entry>,
}

struct Entry {
    report: PartitionReport,
    window: FaultWindow,
    /// `None`: healed.
    on: Option<ActivePartition>,
}

/// A partition that was healed.
pub(crate) struct Healed {
    /// Its index.
    pub(crate) partition: usize,
    /// The service named first.
    pub(crate) a: String,
    /// The other.
    pub(crate) b: String,
    /// What it has cut.
    pub(crate) hits: u64,
}

impl<'a> Partitions<'a> {
    /// None so far.
    pub(crate) fn new(engine: &'a Engine) -> Self {
        Self { engine, all: Vec::new() }
    }

    /// Cuts two services off from each other; the result is the partition's index. Earlier ones go
    /// on; an imperative one takes the place of those between the same two, which the caller
    /// heals (see [`Partitions::imperative`]).
    pub(crate) fn open(
        &mut self,
        request: &PartitionRequest,
        places: Places<'_>,
    ) -> Result<usize, EngineError> {
        let PartitionRequest { a, b, mode, direction, window } = request;
        let on = self.engine.partition(&Partition {
            a: side(a, places)?,
            b: side(b, places)?,
            mode: *mode,
            direction: *direction,
        })?;
        let report = PartitionReport {
            a: a.clone(),
            b: b.clone(),
            mode: *mode,
            direction: *direction,
            counts: PartitionCounts::default(),
        };
        self.all.push(Entry { report, window: *window, on: Some(on) });
        Ok(self.all.len() - 1)
    }

    /// Heals one; `None` when it was healed before.
    pub(crate) fn close(&mut self, index: usize) -> Option<Healed> {
        let Entry { report, on, .. } = self.all.get_mut(index)?;
        report.counts = on.take()?.heal();
        let (a, b, hits) = (report.a.clone(), report.b.clone(), report.counts.hits());
        Some(Healed { partition: index, a, b, hits })
    }

    /// Those that are on.
    pub(crate) fn all_on(&self) -> Vec<usize> {
        self.select(|_| true)
    }

    /// Those that `partition_start` has on between two services, in either order.
    pub(crate) fn imperative(&self, a: &str, b: &str) -> Vec<usize> {
        self.select(|it| {
            let named = (it.report.a.as_str(), it.report.b.as_str());
            it.window == FaultWindow::Imperative && [(a, b), (b, a)].contains(&named)
        })
    }

    fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<usize> {
        let on = self.all.iter().enumerate().filter(|(_, it)| it.on.is_some() && wanted(it));
        on.map(|(index, _)| index).collect()
    }

    /// What they all have done.
    pub(crate) fn reports(&self) -> Vec<PartitionReport> {
        self.all.iter().map(|it| it.report.clone()).collect()
    }
}

fn side(name: &str, places: Places<'_>) -> Result<PartitionSide, EngineError> {
    let Places { services, targets, whereabouts } = places;
    let index = services.iter().position(|it| it.name == *name);
    let index = index.ok_or_else(|| EngineError(format!("service {name:?} is not running")))?;
    let place = &whereabouts[index];
    let is_alone =
        whereabouts.iter().filter(|other| other.namespace == place.namespace).count() == 1;
    Ok(PartitionSide {
        target: targets[index],
        addresses: addresses(&services[index], place),
        network: place.network.clone(),
        // Programs share theirs, and so do containers that share a namespace.
        hosts: match &place.network {
            Some(_) if is_alone => place.addresses.iter().map(|(_, host)| *host).collect(),
            _ => Vec::new(),
        },
    })
}

/// Where a service listens.
fn addresses(service: &Service, place: &Whereabouts) -> Vec<SocketAddr> {
    let hosts = place.addresses.iter().map(|(_, host)| *host);
    let hosts: Vec<IpAddr> = [Ipv4Addr::LOCALHOST.into()].into_iter().chain(hosts).collect();
    let ports = service.interfaces.iter().map(|it| it.port);
    ports.flat_map(|port| hosts.iter().map(move |host| (*host, port).into())).collect()
}
