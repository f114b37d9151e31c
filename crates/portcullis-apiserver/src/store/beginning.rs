//! What watches begin with: all objects of a resource at a version.
//!
//! Many watches begin at a time, after each start of a client or of the server; while nothing changes they share one list.

use std::sync::{Arc, PoisonError, Weak};

use super::Store;
use super::object::Object;
use crate::resources::Resource;

/// All objects of a resource, in key order.
pub(crate) type Everything = Arc<Vec<Arc<Object>>>;

/// The last list that was made.
#[derive(Debug, Default)]
pub(super) struct Beginning {
    /// The version of the resource's last change then.
    changed: u64,
    objects: Weak<Vec<Arc<Object>>>,
}

impl Store {
    /// All objects of a resource, and the version at which that holds.
    pub(crate) fn everything(&self, resource: &Resource) -> (u64, Everything) {
        let state = self.read();
        let collect = || {
            Arc::new(state.table(resource).into_iter().flat_map(|table| table.live.within("", None)).cloned().collect())
        };
        let (Some(last), Some(changed)) =
            (self.shared.beginnings.get(resource.id()), self.shared.changed.get(resource.id()))
        else {
            return (state.version, collect());
        };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *changed.borrow();
        if last.changed == changed
            && let Some(objects) = last.objects.upgrade()
        {
            return (state.version, objects);
        }
        let objects = collect();
        *last = Beginning { changed, objects: Arc::downgrade(&objects) };
        (state.version, objects)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources;
    use crate::store::StoreLimits;

    #[test]
    fn watches_that_begin_while_nothing_changes_share_a_list_and_none_sees_an_old_one() {
        let store = Store::new(StoreLimits::default());
        let namespaces = resources::namespaces();
        let create = |resource, metadata| {
            store.create(resource, json!({"metadata": metadata}).as_object().unwrap().clone()).unwrap()
        };
        create(namespaces, json!({"name": "a"}));
        let (version, first) = store.everything(namespaces);
        create(resources::find("", "v1", "pods").unwrap(), json!({"name": "p", "namespace": "a"}));
        let (later, second) = store.everything(namespaces);
        assert!(Arc::ptr_eq(&first, &second) && later > version, "another resource has changed");
        create(namespaces, json!({"name": "b"}));
        let (_, third) = store.everything(namespaces);
        assert_eq!((first.len(), third.len()), (1, 2));
        let object = Arc::downgrade(&third[1]);
        store.remove(namespaces, &third[1]).unwrap();
        drop((first, second, third));
        store.everything(resources::find("", "v1", "pods").unwrap());
        assert_eq!(store.everything(namespaces).1.len(), 1);
        assert_eq!(object.strong_count(), 2, "the log alone remembers it: its addition and its end");
    }
}
