//! Portcullis' own parts: what runs in this process and is shown as a pod.
//!
//! Parts are real: a pod stands for something that runs in this process, with its true start time, readiness and restart
//! count (design decision 9). They are annotated as static pods, and come back when someone deletes them. What their pods
//! lead to (`kubectl port-forward`) is what they declare, and nothing else.

mod events;
mod pod;
mod status;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_runtime::{LogRing, Shutdown, Timestamp};
use serde_json::Value;
use tokio::io::DuplexStream;

use crate::engine::Engine;
use crate::resources::tree::Members;
use crate::resources::{self, Resource, strategy};

use self::pod::pod_of;

pub use self::events::PartEvent;
pub use self::status::{Ended, PartControl, PartSignal, PartState, PartStatus};

/// Says on a pod that it is one of our parts.
pub const PART_ANNOTATION: &str = "portcullis.dev/part";

/// Attempts against parallel changes.
const ATTEMPTS: usize = 5;

/// One of our own parts, as a pod shows it.
#[derive(Debug, Clone)]
pub struct Part {
    /// Namespace; made when it is not there.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Labels of the pod, such as `app.kubernetes.io/name`.
    pub labels: BTreeMap<String, String>,
    /// Name of its one container.
    pub container: String,
    /// What runs, for people, such as `portcullis:0.1.0`.
    pub image: String,
    /// Ports that it listens on; `kubectl port-forward` reaches these and no others.
    pub ports: Vec<PartPort>,
    /// What it logs; `kubectl logs` shows it.
    pub logs: LogRing,
    /// How it is told to end; `kubectl exec POD -- kill 1` does.
    pub control: PartControl,
    /// When it was started first.
    pub started: Timestamp,
}

/// A port of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPort {
    /// Its name, which a service can point to; may be empty.
    pub name: String,
    /// Its number in the pod.
    pub number: u16,
    /// Where the part really is.
    pub socket: PartSocket,
}

/// What is behind a port of a part.
#[derive(Clone)]
pub enum PartSocket {
    /// A listener on a loopback address.
    Loopback(SocketAddr),
    /// Nothing on this machine's network: each call makes a connection in memory, whose other end the part serves;
    /// `None` while it does not run.
    InProcess(Arc<dyn Fn() -> Option<DuplexStream> + Send + Sync>),
}

impl std::fmt::Debug for PartSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback(address) => f.debug_tuple("Loopback").field(address).finish(),
            Self::InProcess(_) => f.write_str("InProcess"),
        }
    }
}

impl PartialEq for PartSocket {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Loopback(one), Self::Loopback(another)) => one == another,
            (Self::InProcess(one), Self::InProcess(another)) => Arc::ptr_eq(one, another),
            (Self::Loopback(_) | Self::InProcess(_), _) => false,
        }
    }
}

impl Eq for PartSocket {}

impl PartPort {
    /// A port that has the same number in the pod and on 127.0.0.1.
    #[must_use]
    pub fn open(number: u16) -> Self {
        Self::inside("", number, (Ipv4Addr::LOCALHOST, number).into())
    }

    /// A port that has another number in the pod than on this machine.
    #[must_use]
    pub fn inside(name: &str, number: u16, socket: SocketAddr) -> Self {
        Self { name: name.to_owned(), number, socket: PartSocket::Loopback(socket) }
    }

    /// A port of the pod that is none of this machine: whoever is let through gets what `dial` makes.
    #[must_use]
    pub fn in_process(name: &str, number: u16, dial: Arc<dyn Fn() -> Option<DuplexStream> + Send + Sync>) -> Self {
        Self { name: name.to_owned(), number, socket: PartSocket::InProcess(dial) }
    }

    /// Whether it is the same port on this machine.
    pub(crate) fn is_open(&self) -> bool {
        matches!(&self.socket, PartSocket::Loopback(address) if address.port() == self.number)
    }
}

/// A part, and how it is.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) part: Arc<Part>,
    pub(crate) status: PartStatus,
    node: Arc<str>,
    /// Triggered when the part is taken off the list.
    pub(crate) over: Shutdown,
}

impl Known {
    /// The pod as it comes back when someone deletes it.
    fn pod(&self) -> Members {
        pod_of(&self.part, &self.status, &self.node)
    }
}

/// Names a part's pod on it, as on the pods that a kubelet mirrors.
pub(crate) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// All parts, by namespace and name of the pod.
#[derive(Debug, Default)]
pub(crate) struct Parts(Mutex<BTreeMap<(String, String), Known>>);

impl Parts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part that the pod of that name stands for.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Known> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Notes a part. One that is there already keeps its status.
    pub(crate) fn note(&self, part: &Part, node: &Arc<str>) -> Known {
        let mut parts = self.lock();
        let there = parts.remove(&(part.namespace.clone(), part.name.clone()));
        let (status, over) = match there {
            Some(known) => (known.status, known.over),
            None => (PartStatus::running(part.started), Shutdown::new()),
        };
        let known = Known { part: Arc::new(part.clone()), status, node: Arc::clone(node), over };
        parts.insert((part.namespace.clone(), part.name.clone()), known.clone());
        known
    }

    /// Notes how a part is; `None` when there is none of that name.
    pub(crate) fn note_status(&self, namespace: &str, name: &str, status: &PartStatus) -> Option<Known> {
        let mut parts = self.lock();
        let known = parts.get_mut(&(namespace.to_owned(), name.to_owned()))?;
        known.status = status.clone();
        Some(known.clone())
    }

    /// Forgets a part; whether it was there. Streams to it end.
    pub(crate) fn forget(&self, namespace: &str, name: &str) -> bool {
        let known = self.lock().remove(&(namespace.to_owned(), name.to_owned()));
        if let Some(known) = &known {
            known.over.trigger();
        }
        known.is_some()
    }
}

impl Engine {
    /// Makes the pod of one of our own parts again, when that is what has gone.
    pub(crate) fn restart_part(&self, resource: &Resource, namespace: &str, name: &str) {
        if !std::ptr::eq(resource, resources::pods()) {
            return;
        }
        if let Some(known) = self.parts.find(namespace, name) {
            self.put_part(&known);
        }
    }

    /// Adds or replaces a part's pod, under a new identity when it was not there.
    pub(crate) fn put_part(&self, known: &Known) {
        let mut members = known.pod();
        let pods = resources::pods();
        let text = |path: &[&str]| resources::text(&members, path);
        let (namespace, name) = (text(&["metadata", "namespace"]), text(&["metadata", "name"]));
        for _ in 0..ATTEMPTS {
            let old = self.store.get(pods, &namespace, &name);
            let metadata = resources::tree::object(&mut members, "metadata");
            let before = old.as_ref().map(|old| old.members());
            let kept = |key: &str| before.as_ref().and_then(|old| resources::at(old, &["metadata", key])).cloned();
            let uid = kept("uid").unwrap_or_else(|| Value::from(self.rng.uuid_v4()));
            let created = kept("creationTimestamp").unwrap_or_else(|| Value::from(self.clock.now().rfc3339()));
            metadata.insert("uid".to_owned(), uid);
            metadata.insert("creationTimestamp".to_owned(), created);
            let shaped = strategy::shape(pods, members.clone());
            let done = match &old {
                Some(old) => self.store.replace(pods, old, shaped),
                None => self.store.create(pods, shaped),
            };
            if done.is_ok() {
                return;
            }
        }
        tracing::warn!(%namespace, %name, "the pod of one of our parts could not be written");
    }
}
