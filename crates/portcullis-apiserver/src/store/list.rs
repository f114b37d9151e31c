//! Lists: a page of objects in key order, now or at an older version.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Store;
use super::log::TooOld;
use super::object::Object;
use crate::resources::Resource;

/// What a page shows.
pub(crate) struct ListQuery<'q> {
    /// One namespace; all when empty.
    pub(crate) namespace: &'q str,
    /// The version to show; now when `None`.
    pub(crate) at: Option<u64>,
    /// Only keys from this one on.
    pub(crate) from: Option<&'q str>,
    /// Objects on the page; all when 0.
    pub(crate) limit: usize,
    /// What the selectors let through; `None` for everything.
    pub(crate) filter: Option<&'q dyn Fn(&Object) -> bool>,
}

/// A page.
pub(crate) struct Page {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Object>>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
    /// Objects after this page; only known without a filter.
    pub(crate) remaining: Option<usize>,
}

impl Store {
    /// One page. An error when the log does not reach back to `at`.
    pub(crate) fn list(&self, resource: &Resource, query: &ListQuery<'_>) -> Result<Page, TooOld> {
        let state = self.read();
        let Some(table) = state.table(resource) else {
            return Ok(Page { version: state.version, objects: Vec::new(), next: None, remaining: None });
        };
        let version = query.at.unwrap_or(state.version).min(state.version);
        let mut undone: BTreeMap<String, Option<Arc<Object>>> = BTreeMap::new();
        if version < state.version {
            let Some(changes) = table.log.since(version) else {
                return Err(TooOld { oldest: table.log.forgotten() });
            };
            for event in changes.rev() {
                undone.insert(event.object.key(), event.before.as_ref().map(Arc::clone));
            }
        }
        let live = table.live.within(query.namespace, query.from);
        let mut page = Page { version, objects: Vec::new(), next: None, remaining: None };
        let mut more = 0_usize;
        let mut show = |object: &Arc<Object>| {
            if query.limit > 0 && page.objects.len() >= query.limit {
                more += 1;
                // Compat: whether a selector lets anything more through is for the next page to say.
                if page.next.is_none() {
                    // Compat: right behind what was shown last, wherever the next object is: a token may be used elsewhere.
                    page.next = page.objects.last().map(|last| last.key() + "\0");
                }
                return query.filter.is_none();
            }
            if query.filter.is_none_or(|keep| keep(object)) {
                page.objects.push(Arc::clone(object));
            }
            true
        };
        if undone.is_empty() {
            for object in live {
                if !show(object) {
                    break;
                }
            }
        } else {
            let mut then: BTreeMap<String, &Arc<Object>> = live.map(|object| (object.key(), object)).collect();
            let prefix = if query.namespace.is_empty() { String::new() } else { format!("{}/", query.namespace) };
            let in_scope = |key: &str| key.starts_with(&prefix) && query.from.is_none_or(|from| key >= from);
            for (key, before) in undone.iter().filter(|(key, _)| in_scope(key)) {
                match before {
                    Some(before) => then.insert(key.clone(), before),
                    None => then.remove(key),
                };
            }
            for object in then.values() {
                if !show(object) {
                    break;
                }
            }
        }
        if query.filter.is_none() && page.next.is_some() {
            page.remaining = Some(more);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::resources;
    use crate::store::StoreLimits;

    fn pod(namespace: &str, name: &str, mark: usize) -> Map<String, Value> {
        json!({"metadata": {"name": name, "namespace": namespace, "labels": {"m": mark.to_string()}}})
            .as_object()
            .unwrap()
            .clone()
    }

    fn ask<'q>(namespace: &'q str, at: Option<u64>, from: Option<&'q str>, limit: usize) -> ListQuery<'q> {
        ListQuery { namespace, at, from, limit, filter: None }
    }

    fn fill() -> Store {
        let store = Store::new(StoreLimits::default());
        for namespace in ["a", "a-b", "b"] {
            let members = json!({"metadata": {"name": namespace}}).as_object().unwrap().clone();
            store.create(resources::namespaces(), members).unwrap();
            for name in ["x", "y", "z"] {
                store.create(resources::find("", "v1", "pods").unwrap(), pod(namespace, name, 0)).unwrap();
            }
        }
        store
    }

    #[test]
    fn pages_join_to_the_whole_in_etcds_order() {
        let store = fill();
        let pods = resources::find("", "v1", "pods").unwrap();
        let whole: Vec<_> =
            store.list(pods, &ask("", None, None, 0)).unwrap().objects.iter().map(|o| o.key()).collect();
        assert_eq!(whole[..4], ["a-b/x", "a-b/y", "a-b/z", "a/x"]);
        let mut joined = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let page = store.list(pods, &ask("", None, from.as_deref(), 2)).unwrap();
            joined.extend(page.objects.iter().map(|o| o.key()));
            assert_eq!(page.remaining.unwrap_or(0), 9 - joined.len());
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        assert_eq!(joined, whole);
    }

    #[test]
    fn the_next_page_begins_right_behind_this_one() {
        let store = fill();
        let pods = resources::find("", "v1", "pods").unwrap();
        let page = store.list(pods, &ask("", None, None, 3)).unwrap();
        assert_eq!(page.next.as_deref(), Some("a-b/z\0"));
        let page = store.list(pods, &ask("a", None, Some("a/x\0"), 1)).unwrap();
        assert_eq!(page.objects[0].key(), "a/y");
    }

    #[test]
    fn a_namespace_never_shows_its_neighbours() {
        let store = fill();
        let pods = resources::find("", "v1", "pods").unwrap();
        let page = store.list(pods, &ask("a", None, None, 0)).unwrap();
        assert!(page.objects.iter().all(|object| &*object.namespace == "a") && page.objects.len() == 3);
        assert!(store.list(pods, &ask("nowhere", None, None, 0)).unwrap().objects.is_empty());
    }

    proptest! {
        #[test]
        fn a_list_at_an_old_version_shows_what_was_there_then(
            steps in prop::collection::vec((0..3_u8, 0..4_usize), 1..40),
            limit in 0..4_usize,
        ) {
            let store = fill();
            let pods = resources::find("", "v1", "pods").unwrap();
            let mut history: Vec<(u64, BTreeMap<String, u64>)> = Vec::new();
            for (step, (action, which)) in steps.into_iter().enumerate() {
                let name = format!("p{which}");
                match (store.get(pods, "a", &name), action) {
                    (None, _) => { store.create(pods, pod("a", &name, step)).unwrap(); }
                    (Some(old), 0) => { store.remove(pods, &old).unwrap(); }
                    (Some(old), _) => { store.replace(pods, &old, pod("a", &name, step)).unwrap(); }
                }
                let now = store.all(pods, "").iter().map(|o| (o.key(), o.version)).collect();
                history.push((store.version(), now));
            }
            for (version, then) in history {
                let mut shown = BTreeMap::new();
                let mut from: Option<String> = None;
                loop {
                    let page = store.list(pods, &ask("", Some(version), from.as_deref(), limit)).unwrap();
                    prop_assert_eq!(page.version, version);
                    shown.extend(page.objects.iter().map(|o| (o.key(), o.version)));
                    match page.next { Some(next) => from = Some(next), None => break }
                }
                prop_assert_eq!(shown, then);
            }
        }
    }
}
