//! The containers of a session: one connection to Docker, images made ready once, a network for
//! each run, and what a run leaves removed behind its back.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use super::{
    container::RunningContainer, interrupt, message::message, output::Outputs, session::Session,
    uplink,
};
use crate::{
    docker::{Docker, DockerError, Network, NewContainer},
    spec::{Hook, Service, Source},
};

/// How many runs may wait for their containers to be removed before the next has to.
const WAITING: usize = 4;

/// What all runs of a session share.
pub(crate) struct Containers<'s> {
    session: &'s Session,
    docker: OnceLock<Result<Docker, String>>,
    /// The network namespace of this machine, where the bridges are.
    machine: io::Result<File>,
    /// Whether an image can be used, by its name or the directory that it is built from.
    images: Mutex<HashMap<String, Result<String, String>>>,
    kept: Mutex<Kept>,
    /// Networks that the next runs can have: making one and removing it again takes Docker longer
    /// than a container.
    free: Arc<Mutex<Vec<Network>>>,
    remover: Mutex<Option<Remover>>,
}

/// What outlives a run.
#[derive(Default)]
struct Kept {
    /// By spec file: the network of its containers.
    networks: HashMap<String, Network>,
    /// By spec file and service.
    containers: HashMap<(String, String), Arc<RunningContainer>>,
    /// Services, by spec file, whose data have been put into their first state.
    seeded: HashSet<(String, String)>,
}

/// Containers to be removed, and the network that is free afterwards.
struct Remains {
    containers: Vec<String>,
    network: Option<Network>,
}

/// The thread that removes them.
struct Remover {
    sender: SyncSender<Remains>,
    thread: JoinHandle<()>,
}

impl<'s> Containers<'s> {
    /// Connects to nobody yet.
    pub(crate) fn new(session: &'s Session) -> Self {
        Self {
            session,
            docker: OnceLock::new(),
            machine: own_network(),
            images: Mutex::default(),
            kept: Mutex::default(),
            free: Arc::default(),
            remover: Mutex::default(),
        }
    }

    fn docker(&self) -> Result<&Docker, String> {
        let connect = || {
            let mut docker = Docker::connect().map_err(|error| error.to_string())?;
            if let Some(descriptor) = interrupt::descriptor() {
                docker = docker.interrupted_by(descriptor);
            }
            // Before anything is created there: whoever cleans up must know where to look.
            self.session
                .note_docker(docker.host())
                .map_err(|error| format!("cannot note where Docker is: {error}"))?;
            Ok(docker)
        };
        self.docker.get_or_init(connect).as_ref().map_err(Clone::clone)
    }

    /// Prepares what the containers of a run need; `None` where no service is one.
    pub(crate) fn of_run<'a>(
        &'a self,
        run: u32,
        file: &str,
        services: &[Service],
    ) -> Result<Option<RunContainers<'a>>, String> {
        if !services.iter().any(|it| it.source.is_container()) {
            return Ok(None);
        }
        let docker = self.docker()?.clone();
        let has_own = services.iter().any(|it| it.source.is_container() && !it.source.is_foreign());
        let is_kept = services.iter().any(|it| it.container.reuse);
        let mut network = None;
        if has_own {
            let create = || {
                while let Some(network) = { lock(&self.free).pop() } {
                    // Somebody may have tidied up meanwhile (`docker network prune`).
                    if docker.network(&network.id).is_ok() {
                        return Ok(network);
                    }
                }
                let name = format!("faultbox-{}-{run}", self.session.id());
                let created = docker.create_network(&name, &self.session.id().to_string());
                created.map_err(|error| error.to_string())
            };
            network = Some(if is_kept {
                let mut kept = lock(&self.kept);
                match kept.networks.get(file) {
                    Some(network) => network.clone(),
                    None => kept.networks.entry(file.to_owned()).or_insert(create()?).clone(),
                }
            } else {
                create()?
            });
        }
        let has_programs = services.iter().any(|it| !it.source.is_container());
        let programs = if has_programs { own_network().ok() } else { None };
        let run = RunContainers {
            session: self,
            docker,
            run,
            file: file.to_owned(),
            network,
            is_network_kept: is_kept,
            programs,
            uplinks: Mutex::default(),
            made: Mutex::default(),
        };
        if let Some(network) = &run.network {
            run.plug(network)?;
        }
        Ok(Some(run))
    }

    /// Which function about a service's data is to be called now that all services are ready.
    /// `is_fresh`: it was started for this test.
    pub(crate) fn hook(&self, file: &str, service: &Service, is_fresh: bool) -> Option<Hook> {
        let is_first =
            lock(&self.kept).seeded.insert((file.to_owned(), service.name.clone())) || is_fresh;
        match (is_first, service.has_seed, service.has_reset) {
            (true, true, _) => Some(Hook::Seed),
            (false, true, _) | (false, _, true) => Some(Hook::Reset),
            _ => None,
        }
    }

    /// Makes an image usable; returns its name. What came of it is remembered: a failure costs
    /// its time once.
    fn image(&self, docker: &Docker, service: &Service) -> Result<String, String> {
        let (key, name) = match &service.source {
            Source::Image(image) => (image.clone(), image.clone()),
            Source::Build(directory) => (
                directory.display().to_string(),
                format!("faultbox-{}:latest", service.name.to_lowercase()),
            ),
            Source::Binary(_) | Source::Container(_) => return Ok(String::new()),
        };
        let mut images = lock(&self.images);
        if let Some(known) = images.get(&key) {
            return known.clone();
        }
        let say = |line: &str| message(format_args!("{}: {line}", service.name));
        let result = match &service.source {
            Source::Build(directory) => docker.build(directory, &name, &say),
            _ => docker.ensure_image(&name, &say),
        };
        let result = result.map(|()| name).map_err(|error| error.to_string());
        images.insert(key, result.clone());
        result
    }

    /// Removes in the background.
    fn remove(&self, docker: &Docker, remains: Remains) {
        let mut remover = lock(&self.remover);
        if remover.is_none() {
            let (sender, receiver) = sync_channel::<Remains>(WAITING);
            let (docker, free) = (docker.clone(), Arc::clone(&self.free));
            let work = move || receiver.iter().for_each(|it| it.remove(&docker, &free));
            if let Ok(thread) = thread::Builder::new().name("remove".to_owned()).spawn(work) {
                *remover = Some(Remover { sender, thread });
            }
        }
        // Nobody else ends the thread. Without one, the session's end removes everything.
        if let Some(remover) = &*remover {
            let _ = remover.sender.send(remains);
        }
    }
}

impl Drop for Containers<'_> {
    /// Returns when nothing of the session is left in Docker.
    fn drop(&mut self) {
        if let Some(Remover { sender, thread }) = lock(&self.remover).take() {
            drop(sender);
            let _ = thread.join();
        }
        if let Some(Ok(docker)) = self.docker.get()
            && let Err(error) = docker.sweep(&self.session.id().to_string())
        {
            message(format_args!("warning: containers of this session are not removed: {error}"));
        }
    }
}

/// The network namespace of the calling thread.
fn own_network() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remains {
    fn remove(self, docker: &Docker, free: &Mutex<Vec<Network>>) {
        let warn = |error: DockerError| message(format_args!("warning: {error}"));
        let are_gone = thread::scope(|scope| {
            let all: Vec<_> = self
                .containers
                .iter()
                .map(|id| scope.spawn(move || docker.remove(id).map_err(warn).is_ok()))
                .collect();
            all.into_iter().all(|it| it.join().unwrap_or(false))
        });
        // A container that is still there would answer to the name of the next run's.
        if let Some(network) = self.network.filter(|_| are_gone) {
            lock(free).push(network);
        }
    }
}

/// The containers of one run. Dropping it has those removed that nobody keeps.
pub(crate) struct RunContainers<'a> {
    session: &'a Containers<'a>,
    docker: Docker,
    run: u32,
    file: String,
    network: Option<Network>,
    is_network_kept: bool,
    /// The network namespace of the run's programs, if it has any.
    programs: Option<File>,
    uplinks: Mutex<Vec<(String, IpAddr)>>,
    /// Ids of those made for this run alone, with their services.
    made: Mutex<Vec<(String, String)>>,
}

/// A container that is there now.
pub(crate) struct Started {
    /// Which.
    pub(crate) container: Arc<RunningContainer>,
    /// Whether it was made for this run.
    pub(crate) is_fresh: bool,
}

impl RunContainers<'_> {
    /// Addresses under which containers find the run's programs, each with the id of the network
    /// where they do.
    pub(crate) fn uplinks(&self) -> Vec<(String, IpAddr)> {
        lock(&self.uplinks).clone()
    }

    /// Has the run's programs and the containers of a network find each other.
    fn plug(&self, network: &Network) -> Result<(), String> {
        let Some(inside) = &self.programs else { return Ok(()) };
        let mut uplinks = lock(&self.uplinks);
        if uplinks.iter().any(|(id, _)| *id == network.id) {
            return Ok(());
        }
        let outside = self.session.machine.as_ref().map_err(ToString::to_string)?;
        let is_outside = match (inside.metadata(), outside.metadata()) {
            (Ok(inside), Ok(outside)) => inside.ino() == outside.ino(),
            _ => false,
        };
        let address = if is_outside {
            network.gateway
        } else {
            let id = self.session.session.id().to_string();
            let name = format!("fb{}{}{}", &id[..4], self.run % 10_000, uplinks.len());
            uplink::plug(network, self.run, &name, inside, outside).map_err(|error| {
                format!("cannot connect programs to the network of containers: {error}")
            })?
        };
        uplinks.push((network.id.clone(), address.into()));
        Ok(())
    }

    /// Starts the container of a service, or takes the one that is there. The error is the whole
    /// reason for which the test fails.
    pub(crate) fn start(
        &self,
        service: &Service,
        env: Vec<(String, String)>,
        hosts: Vec<(String, IpAddr)>,
        outputs: &Outputs,
    ) -> Result<Started, String> {
        let name = &service.name;
        if let Source::Container(container) = &service.source {
            let about =
                self.docker.find(container).map_err(|it| format!("service {name:?}: {it}"))?;
            let held = RunningContainer::hold(about, false, &self.docker);
            let held = held.map_err(|error| format!("service {name:?}: {container}: {error}"))?;
            if self.programs.is_some() && !held.about.shares_host_network {
                for attachment in &held.about.networks {
                    let network = self.docker.network(&attachment.network);
                    let plugged = network.map_err(|error| error.to_string());
                    plugged
                        .and_then(|network| self.plug(&network))
                        .map_err(|error| format!("service {name:?}: {error}"))?;
                }
            }
            return Ok(Started { container: Arc::new(held), is_fresh: false });
        }
        let key = (self.file.clone(), name.clone());
        if let Some(kept) = lock(&self.session.kept).containers.get(&key)
            && !kept.has_ended()
        {
            return Ok(Started { container: Arc::clone(kept), is_fresh: false });
        }
        let container = Arc::new(self.make(service, env, hosts, outputs)?);
        if service.container.reuse {
            lock(&self.session.kept).containers.insert(key, Arc::clone(&container));
        }
        Ok(Started { container, is_fresh: true })
    }

    /// Services whose containers end with the run.
    pub(crate) fn made(&self) -> Vec<String> {
        lock(&self.made).iter().map(|(_, service)| service.clone()).collect()
    }

    fn make(
        &self,
        service: &Service,
        env: Vec<(String, String)>,
        hosts: Vec<(String, IpAddr)>,
        outputs: &Outputs,
    ) -> Result<RunningContainer, String> {
        let name = &service.name;
        let fail = |why: &dyn std::fmt::Display| format!("service {name:?}: {why}");
        let image = self.session.image(&self.docker, service).map_err(|it| fail(&it))?;
        let new = NewContainer {
            name: format!("faultbox-{}-{}-{name}", self.session.session.id(), self.run),
            image,
            session: self.session.session.id().to_string(),
            args: (!service.args.is_empty()).then(|| service.args.clone()),
            env,
            volumes: volumes(service).map_err(|it| fail(&it))?,
            ports: service.container.ports.clone(),
            network: self.network.as_ref().map(|it| it.id.clone()).unwrap_or_default(),
            aliases: vec![name.clone()],
            hosts,
        };
        let id = self.docker.create(&new).map_err(|error| fail(&error))?;
        if !service.container.reuse {
            lock(&self.made).push((id.clone(), name.clone()));
        }
        let (output, _) = outputs
            .capture(name)
            .map_err(|error| fail(&format_args!("cannot capture its output: {error}")))?;
        self.docker.follow(&id, output).map_err(|error| fail(&error))?;
        let about = self.docker.start(&id).map_err(|error| fail(&error))?;
        if !about.is_running {
            let code = self.docker.exit_code(&id).ok().flatten().unwrap_or(-1);
            let how = format!("exit code {code}");
            return Err(format!("service {name:?} exited before becoming ready ({how})"));
        }
        RunningContainer::hold(about, true, &self.docker).map_err(|error| fail(&error))
    }
}

impl Drop for RunContainers<'_> {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *lock(&self.made));
        let containers: Vec<_> = made.into_iter().map(|(id, _)| id).collect();
        let network = self.network.take().filter(|_| !self.is_network_kept);
        if !containers.is_empty() || network.is_some() {
            self.session.remove(&self.docker, Remains { containers, network });
        }
    }
}

/// Directories of this machine as Docker wants them named: whole, and there already, because it
/// would make what is missing, for root.
fn volumes(service: &Service) -> Result<Vec<(String, String)>, String> {
    let one = |volume: &crate::spec::Volume| {
        let shown = volume.host.display();
        let path =
            volume.host.canonicalize().map_err(|error| format!("volume {shown}: {error}"))?;
        let path = path.to_str().map(str::to_owned);
        let path = path.ok_or_else(|| format!("volume {shown}: its path is not UTF-8"))?;
        let suffix = if volume.is_read_only { ":ro" } else { "" };
        Ok((path, format!("{}{suffix}", volume.container)))
    };
    service.container.volumes.iter().map(one).collect()
}
