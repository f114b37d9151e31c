//! Who owns whom, and what a change gives the collector to do.
//!
//! Every change of an object passes through [`Graph::follow`], under the store's lock, so that nothing is missed. The queue
//! holds each task once and is worked off by `deletion`; it never holds more than a few tasks for each object and namespace.
//!
//! Compat: `pkg/controller/garbagecollector/graph_builder.go`. Ours needs no "virtual" nodes, because it never lags behind.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use super::log::Change;
use super::object::Object;
use crate::deletion::protection::finalizer;
use crate::resources::{self, Resource};

/// Something for the background to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    /// The object with that uid may have to go, because of its owners or because it waited for its dependants.
    Judge(Box<str>),
    /// The dependants of the object with that uid are to be left behind.
    Orphan(Box<str>),
    /// The pod with that uid is to end, and whoever runs it has to say that it has.
    Stop(Box<str>),
    /// The namespace is going.
    Empty(Box<str>),
    /// A mistake of ours.
    #[cfg(test)]
    Bug,
    /// The volume or claim with that uid is to have the finalizer that protects it, or to go because nothing uses it.
    Protect(Box<str>),
    /// Claims of the namespace may have lost the pods that used them.
    ReviewClaims(Box<str>),
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    /// All objects but events, by uid.
    nodes: BTreeSet<Node>,
    /// Uids of dependants by the uid that they name, whether such an owner is there or not.
    dependants: BTreeMap<Box<str>, BTreeSet<Box<str>>>,
    queue: VecDeque<Task>,
    queued: HashSet<Task>,
}

impl Graph {
    pub(super) fn find(&self, uid: &str) -> Option<&Found> {
        self.nodes.get(uid).map(|Node(found)| found)
    }

    pub(super) fn dependants(&self, uid: &str) -> impl Iterator<Item = &Found> {
        self.dependants.get(uid).into_iter().flatten().filter_map(|uid| self.find(uid))
    }

    pub(super) fn add(&mut self, task: Task) {
        if self.queued.insert(task.clone()) {
            self.queue.push_back(task);
        }
    }

    pub(super) fn next(&mut self) -> Option<Task> {
        let task = self.queue.pop_front()?;
        self.queued.remove(&task);
        Some(task)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes note of a change, and of what follows from it.
    pub(super) fn follow(
        &mut self,
        resource: &'static Resource,
        change: Change,
        object: &Arc<Object>,
        before: Option<&Object>,
    ) {
        // Compat: events own nothing and are owned by nobody (`ignoredResources`).
        if std::ptr::eq(resource, resources::events()) {
            return;
        }
        if std::ptr::eq(resource, resources::namespaces()) && object.terminating {
            self.add(Task::Empty(object.name.clone()));
        }
        match change {
            Change::Deleted => self.gone(object, before),
            Change::Added | Change::Modified => {
                self.nodes.replace(Node(Found { resource, object: Arc::clone(object) }));
                self.changed(object, before);
            }
        }
        if std::ptr::eq(resource, resources::pods()) {
            if change != Change::Deleted && object.terminating {
                self.add(Task::Stop(object.uid.clone()));
            }
            if change == Change::Deleted || object.terminating {
                self.add(Task::ReviewClaims(object.namespace.clone()));
            }
        }
        if change != Change::Deleted && finalizer(resource).is_some() {
            self.add(Task::Protect(object.uid.clone()));
        }
    }

    fn changed(&mut self, object: &Object, before: Option<&Object>) {
        let old = before.map_or(&[][..], |before| &before.owners);
        if *old != *object.owners {
            for owner in old {
                let now = object.owners.iter().find(|now| now.uid == owner.uid);
                if now.is_none() {
                    self.part(&owner.uid, &object.uid);
                }
                if owner.blocks && !now.is_some_and(|now| now.blocks) {
                    self.add(Task::Judge(owner.uid.clone()));
                }
            }
            for owner in &object.owners {
                self.dependants.entry(owner.uid.clone()).or_default().insert(object.uid.clone());
            }
            if !object.owners.is_empty() {
                self.add(Task::Judge(object.uid.clone()));
            }
        }
        if object.orphaning && !before.is_some_and(|before| before.orphaning) {
            self.add(Task::Orphan(object.uid.clone()));
        } else if object.collecting && !before.is_some_and(|before| before.collecting) {
            self.judge_dependants(&object.uid);
            self.add(Task::Judge(object.uid.clone()));
        }
    }

    fn gone(&mut self, object: &Object, before: Option<&Object>) {
        self.nodes.remove(&*object.uid);
        // What went may be said to have other owners than what was there.
        let owners = before.map_or(&object.owners, |before| &before.owners);
        for owner in owners {
            self.part(&owner.uid, &object.uid);
            self.add(Task::Judge(owner.uid.clone()));
        }
        self.judge_dependants(&object.uid);
        if !object.namespace.is_empty() {
            self.add(Task::Empty(object.namespace.clone()));
        }
    }

    fn judge_dependants(&mut self, uid: &str) {
        let dependants: Vec<Box<str>> = self.dependants.get(uid).into_iter().flatten().cloned().collect();
        for dependant in dependants {
            self.add(Task::Judge(dependant));
        }
    }

    fn part(&mut self, owner: &str, dependant: &str) {
        if let Some(dependants) = self.dependants.get_mut(owner) {
            dependants.remove(dependant);
            if dependants.is_empty() {
                self.dependants.remove(owner);
            }
        }
    }
}

/// An owner reference, as far as the collector looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: Box<str>,
    pub(crate) api_version: Box<str>,
    pub(crate) kind: Box<str>,
    pub(crate) name: Box<str>,
    /// `blockOwnerDeletion`.
    pub(crate) blocks: bool,
}

/// An object and where it belongs.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) resource: &'static Resource,
    pub(crate) object: Arc<Object>,
}

/// An object at the place of its uid, which it knows itself.
#[derive(Debug)]
struct Node(Found);

impl Borrow<str> for Node {
    fn borrow(&self) -> &str {
        &self.0.object.uid
    }
}

impl Ord for Node {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.object.uid.cmp(&other.0.object.uid)
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Node {}
