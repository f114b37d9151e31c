//! Views: a resource whose objects are stored as those of another group-version.
//!
//! An entry of `VIEWS` in the catalogue has the place of the resource that is stored, so that store, log, owners and
//! namespaces see only that one. Bodies are taken from the view's form as they come in, answers are put into it as they go
//! out; validation and field names are those of the view (docs/decisions/0027).

use std::sync::Arc;

use super::tree::Members;
use super::{Resource, strategy};
use crate::store::object::Object;

/// How another group-version shows stored objects, and takes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// A stored object in the form of the view.
    pub(crate) show: fn(Members) -> Members,
    /// An object of the view in the form that is stored.
    pub(crate) take: fn(Members) -> Members,
    /// What field selectors call the stored resource's fields here.
    pub(crate) fields: &'static [(&'static str, &'static str)],
}

impl Resource {
    /// A stored object in this resource's form; `None` where it is stored so.
    pub(crate) fn shown(&self, object: &Object) -> Option<Arc<Object>> {
        let view = self.view?;
        Some(Object::seal(self, strategy::shape(self, (view.show)(object.members())), object.version))
    }

    /// A body in this resource's form, in the form that is stored.
    pub(crate) fn taken(&self, members: Members) -> Members {
        match &self.view {
            Some(view) => (view.take)(members),
            None => members,
        }
    }
}
