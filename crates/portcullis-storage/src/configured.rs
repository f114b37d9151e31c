//! What the facades of clients, local users and connectors have in common.
//!
//! Compat: an object of the configuration file shadows a stored one with the same id and cannot be changed; of two in the file
//! with one id the last wins; a list has the stored ones that are not shadowed, then the file's (Dex `storage/static.go`).

use std::{collections::HashMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    clients::WriteError,
    document::{Indexed, Inserted, RACES, Stored, Swapped, decode},
    error::StoreError,
    kernel::{Kind, Page},
    store::Store,
};

const PAGE: usize = 200;

/// A kind of configured object.
pub(crate) trait ConfiguredObject: Sized + Clone {
    /// The kind of its records.
    const KIND: Kind;
    /// Several and one of them, in words. Compat: Dex's.
    const WORDS: (&'static str, &'static str);
    /// What is stored of it.
    type Doc: Serialize + DeserializeOwned + Send + Sync;

    /// The id of its record.
    fn id(&self) -> String;

    /// Takes back what a change has made of its id.
    fn keep_id(&mut self, before: &Self);

    /// What is to be stored under this id.
    fn seal(&self, id: &str, store: &Store) -> Result<Self::Doc, StoreError>;

    /// What was stored under this id.
    fn open(doc: Self::Doc, id: &str, store: &Store) -> Result<Self, StoreError>;

    /// Those of the configuration file.
    fn fixed(store: &Store) -> &Fixed<Self>;
}

/// The objects of the configuration file.
pub(crate) struct Fixed<T> {
    by_id: HashMap<String, Arc<T>>,
    in_order: Vec<Arc<T>>,
}

impl<T: ConfiguredObject> Fixed<T> {
    pub(crate) fn new(objects: Vec<T>) -> Self {
        let mut by_id = HashMap::with_capacity(objects.len());
        let mut order = Vec::with_capacity(objects.len());
        for object in objects {
            let id = object.id();
            if by_id.insert(id.clone(), Arc::new(object)).is_some() {
                tracing::error!(id, "two static {} with one id; the last one counts", T::WORDS.0);
            } else {
                order.push(id);
            }
        }
        let in_order = order.iter().filter_map(|id| by_id.get(id).cloned()).collect();
        Self { by_id, in_order }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<T>> {
        self.by_id.get(id).cloned()
    }
}

/// Reads one. One of the file costs no read of the store.
pub(crate) async fn get<T: ConfiguredObject>(store: &Store, id: &str) -> Result<Option<Arc<T>>, StoreError> {
    match T::fixed(store).get(id) {
        Some(fixed) => Ok(Some(fixed)),
        None => stored(store, id).await,
    }
}

/// Reads one that is stored, whatever the file says.
pub(crate) async fn stored<T: ConfiguredObject>(store: &Store, id: &str) -> Result<Option<Arc<T>>, StoreError> {
    let stored = store.recent::<T::Doc>(T::KIND, id).await?;
    stored.map(|stored| T::open(stored.value, id, store).map(Arc::new)).transpose()
}

/// Reads all.
pub(crate) async fn list<T: ConfiguredObject>(store: &Store) -> Result<Vec<Arc<T>>, StoreError> {
    let fixed = T::fixed(store);
    let mut all = Vec::new();
    let mut page = Some(Page::first(PAGE));
    while let Some(current) = page {
        let listing = store.kernel().list(T::KIND, current).await?;
        for record in listing.records.iter().filter(|record| !fixed.has(&record.id)) {
            let doc = decode::<T::Doc>(T::KIND, record)?.value;
            all.push(Arc::new(T::open(doc, &record.id, store)?));
        }
        page = listing.next;
    }
    all.extend(fixed.in_order.iter().cloned());
    Ok(all)
}

/// Stores a new one.
pub(crate) async fn create<T: ConfiguredObject>(store: &Store, object: &T) -> Result<(), WriteError> {
    let id = object.id();
    refuse_fixed::<T>(store, &id, "create")?;
    let doc = object.seal(&id, store)?;
    match store.insert(T::KIND, &id, &doc, Indexed::default()).await? {
        Inserted::Done(_) => Ok(()),
        Inserted::Exists => Err(WriteError::Exists),
    }
}

/// Changes a stored one, each time a fresh copy when others write too.
pub(crate) async fn update<T: ConfiguredObject>(
    store: &Store,
    id: &str,
    change: impl Fn(&mut T) + Send,
) -> Result<T, WriteError> {
    refuse_fixed::<T>(store, id, "update")?;
    for _ in 0..RACES {
        let Some(stored) = store.read::<T::Doc>(T::KIND, id).await? else { return Err(WriteError::NotFound) };
        let Stored { version, value, .. } = stored;
        let before = T::open(value, id, store)?;
        let mut object = before.clone();
        change(&mut object);
        object.keep_id(&before);
        let doc = object.seal(id, store)?;
        if let Swapped::Done(_) = store.swap(T::KIND, id, version, &doc, Indexed::default()).await? {
            return Ok(object);
        }
    }
    Err(StoreError::Contended { kind: T::KIND }.into())
}

/// Deletes a stored one.
pub(crate) async fn delete<T: ConfiguredObject>(store: &Store, id: &str) -> Result<(), WriteError> {
    refuse_fixed::<T>(store, id, "delete")?;
    if store.remove_any(T::KIND, id).await? { Ok(()) } else { Err(WriteError::NotFound) }
}

fn refuse_fixed<T: ConfiguredObject>(store: &Store, id: &str, verb: &'static str) -> Result<(), WriteError> {
    let (what, noun) = T::WORDS;
    if T::fixed(store).has(id) { Err(WriteError::Static { what, verb, noun }) } else { Ok(()) }
}
