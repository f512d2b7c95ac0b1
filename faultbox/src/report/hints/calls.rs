//! Calls that ran while a window was open.

use crate::{
    engine::{Decision, Syscall},
    trace::{Event, EventKind},
};

/// A call that ran.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    /// Which.
    pub(super) syscall: Syscall,
    /// Of its file.
    pub(super) path: Option<&'a str>,
    /// The interface that its peer is, such as `db.main`.
    pub(super) interface: Option<&'a str>,
    /// Whether its file is one of the system's own.
    pub(super) is_system: bool,
}

impl<'a> Call<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let EventKind::Syscall { syscall, decision, path, peer_interface, .. } = &event.kind else {
            return None;
        };
        let is_system = match decision {
            Decision::Allow => false,
            Decision::AllowSystemPath => true,
            _ => return None,
        };
        let (path, interface) = (path.as_deref(), peer_interface.as_deref());
        Some(Self { syscall: *syscall, path, interface, is_system })
    }

    /// The service that its peer is.
    pub(super) fn peer(&self) -> Option<&'a str> {
        self.interface.and_then(|it| it.split_once('.')).map(|(service, _)| service)
    }
}

/// The calls of a window.
#[derive(Clone, Copy)]
pub(super) struct Calls<'a> {
    service: &'a str,
    events: &'a [Event],
}

impl<'a> Calls<'a> {
    pub(super) fn of(service: &'a str, events: &'a [Event]) -> Self {
        Self { service, events }
    }

    /// Those of the window's service that rules had nothing to say against.
    pub(super) fn allowed(self) -> impl Iterator<Item = Call<'a>> {
        self.all().filter(|call| !call.is_system)
    }

    /// Those of the window's service, those on the system's own files included.
    pub(super) fn all(self) -> impl Iterator<Item = Call<'a>> {
        let own = self.events.iter().filter(move |event| event.service == self.service);
        own.filter_map(Call::of)
    }

    /// Those that other services made on connections to the window's, with their service.
    pub(super) fn inbound(self) -> impl Iterator<Item = (&'a str, Call<'a>)> {
        let others = self.events.iter().filter(move |event| event.service != self.service);
        others
            .filter_map(|event| Some((event.service.as_str(), Call::of(event)?)))
            .filter(move |(_, call)| call.peer() == Some(self.service))
    }
}
