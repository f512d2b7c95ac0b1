//! Namespaces before they are needed, and after: making and removing them takes time that the
//! services of other runs can use. A thread of its own does it, because namespaces belong to
//! threads.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use super::{files, netns};
use crate::engine::Driver;

/// Whether each run has files of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Files {
    /// Below `/tmp` and the like: see [`files`].
    Private {
        /// Whether that includes `/dev/shm`.
        shared_memory: bool,
    },
    /// All are this machine's, because the user wants it or containers share them.
    Shared,
}

/// The namespaces of one run, or why there are none.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Its network, and where the driver is in it.
    pub(crate) network: Result<(OwnedFd, Driver), String>,
    /// Its files; `None`: shared, as is wanted.
    pub(crate) files: Option<Result<Arc<OwnedFd>, String>>,
}

enum Order {
    /// Make some.
    Make,
    /// Let go of these.
    Remove(Namespaces),
}

/// Makes namespaces ahead of need and removes them behind.
#[derive(Debug)]
pub(crate) struct Supply {
    orders: Option<Sender<Order>>,
    made: Mutex<Made>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Made {
    ready: Receiver<Namespaces>,
    /// How many more are to be ordered, if that is known.
    left: Option<usize>,
}

impl Supply {
    /// Keeps namespaces ready for `ahead` runs, of `total` in all.
    pub(crate) fn start(files: Files, ahead: usize, total: Option<usize>) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (made, ready) = channel();
        let first = total.map_or(ahead, |total| ahead.min(total));
        for _ in 0..first {
            let _ = orders.send(Order::Make);
        }
        let thread = thread::Builder::new().name("namespaces".to_owned());
        let thread = Some(thread.spawn(move || work(files, &ordered, &made))?);
        let left = total.map(|total| total - first);
        Ok(Self { orders: Some(orders), made: Mutex::new(Made { ready, left }), thread })
    }

    /// Those of the next run.
    pub(crate) fn take(&self) -> Namespaces {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.left != Some(0) {
            made.left = made.left.map(|it| it - 1);
            self.order(Order::Make);
        }
        made.ready.recv().unwrap_or_else(|_| {
            let why = || "a bug in faultbox: nobody makes namespaces".to_owned();
            Namespaces { network: Err(why()), files: Some(Err(why())) }
        })
    }

    /// Takes those of a run that is over.
    pub(crate) fn give_back(&self, namespaces: Namespaces) {
        self.order(Order::Remove(namespaces));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Nobody there: what was to be removed is removed here.
            let _ = orders.send(order);
        }
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has said what it is.
            let _ = thread.join();
        }
    }
}

fn work(files: Files, orders: &Receiver<Order>, made: &Sender<Namespaces>) {
    let maker = match files {
        Files::Private { shared_memory } => {
            Some(files::Maker::new(shared_memory).map_err(|error| error.to_string()))
        }
        Files::Shared => None,
    };
    let make_files = || {
        let made = match maker.as_ref()? {
            Ok(maker) => maker.make().map(Arc::new).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        Some(made)
    };
    for order in orders {
        match order {
            Order::Make => {
                let network = netns::make().map_err(|error| error.to_string());
                // Nobody wants it any more: the session is over.
                let _ = made.send(Namespaces { network, files: make_files() });
            }
            Order::Remove(namespaces) => drop(namespaces),
        }
    }
}
