//! The objects of a resource in the order of their keys, which is the order of etcd.
//!
//! An object knows its name and its namespace, so that no key is kept beside it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::object::Object;

/// Objects, each at the place of its key.
#[derive(Debug, Default)]
pub(super) struct Live(BTreeSet<Entry>);

impl Live {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.0.get(&(namespace, name) as &dyn Keyed).map(|Entry(object)| object)
    }

    /// Puts an object in its place, instead of what was there.
    pub(super) fn insert(&mut self, object: Arc<Object>) {
        self.0.replace(Entry(object));
    }

    pub(super) fn remove(&mut self, object: &Object) {
        self.0.remove(&(&*object.namespace, &*object.name) as &dyn Keyed);
    }

    /// The objects of a namespace, of all when it is empty; only from the key `from` on.
    pub(super) fn within(&self, namespace: &str, from: Option<&str>) -> impl Iterator<Item = &Arc<Object>> {
        let start = (namespace, "");
        let from = from.map(|key| key.split_once('/').unwrap_or(("", key)));
        let start = from.filter(|from| order(*from, start) == Ordering::Greater).unwrap_or(start);
        let range = self.0.range::<dyn Keyed, _>((Bound::Included(&start as &dyn Keyed), Bound::Unbounded));
        range
            .map(|Entry(object)| object)
            .take_while(move |object| namespace.is_empty() || *object.namespace == *namespace)
    }
}

/// What has a place in the order of keys.
trait Keyed {
    /// Namespace and name.
    fn key(&self) -> (&str, &str);
}

/// The order of the keys `namespace/name`: a namespace `a-b` comes before `a`, as `-` does before `/`.
fn order(one: (&str, &str), other: (&str, &str)) -> Ordering {
    if one.0 == other.0 {
        return one.1.cmp(other.1);
    }
    bytes(one).cmp(bytes(other))
}

/// The text of a key.
fn bytes<'k>((namespace, name): (&'k str, &'k str)) -> impl Iterator<Item = u8> + 'k {
    let slash = (!namespace.is_empty()).then_some(b'/');
    namespace.bytes().chain(slash).chain(name.bytes())
}

impl Keyed for (&str, &str) {
    fn key(&self) -> (&str, &str) {
        *self
    }
}

#[derive(Debug)]
struct Entry(Arc<Object>);

impl Keyed for Entry {
    fn key(&self) -> (&str, &str) {
        (&self.0.namespace, &self.0.name)
    }
}

impl<'k> Borrow<dyn Keyed + 'k> for Entry {
    fn borrow(&self) -> &(dyn Keyed + 'k) {
        self
    }
}

impl Ord for dyn Keyed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        order(self.key(), other.key())
    }
}

impl PartialOrd for dyn Keyed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Keyed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for dyn Keyed + '_ {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        order(self.key(), other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::resources;

    fn object(namespace: &str, name: &str, version: u64) -> Arc<Object> {
        let members = json!({"metadata": {"name": name, "namespace": namespace}}).as_object().unwrap().clone();
        Object::seal(resources::find("", "v1", "configmaps").unwrap(), members, version)
    }

    proptest! {
        #[test]
        fn objects_stand_in_the_order_of_their_keys_one_at_each(
            steps in prop::collection::vec(("(|a|a-b|a[.]c|b)", "[a-c]([-.][a-c])?", any::<bool>()), 1..60),
            namespace in "(|a|a-b|c)",
            from in prop::option::of("(a|a-b|a[.]c)/[a-c]"),
        ) {
            let mut live = Live::default();
            let mut keys: BTreeMap<String, u64> = BTreeMap::new();
            for (version, (namespace, name, stays)) in (1..).zip(steps) {
                let object = object(&namespace, &name, version);
                if stays {
                    keys.insert(object.key(), version);
                    live.insert(object);
                } else {
                    keys.remove(&object.key());
                    live.remove(&object);
                    prop_assert!(live.get(&namespace, &name).is_none());
                }
            }
            let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
            let expected: Vec<_> = keys
                .into_iter()
                .filter(|(key, _)| key.starts_with(&prefix) && from.as_ref().is_none_or(|from| key >= from))
                .collect();
            let shown: Vec<_> =
                live.within(&namespace, from.as_deref()).map(|object| (object.key(), object.version)).collect();
            prop_assert_eq!(shown, expected);
        }
    }
}
