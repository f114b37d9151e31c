//! What is kept of an object that people configure, and how much of all of them.
//!
//! The bound protects the process: whoever may write objects in its namespace could otherwise have it killed for want of
//! memory, and with it every sign-in. What is beyond it is not in force, and both health and, where there is room to keep so
//! much of it, the object's status say so.

use std::sync::Arc;

use serde_json::Value;

use super::typed::{Object, Shape};
use crate::kernel::Record;

/// Most objects of a kind that are kept.
pub(super) const MAX_OBJECTS: usize = 50_000;
/// Most bytes that objects of a kind may have together, in the form in which they are kept. Beside what is refused, what it
/// said before can be in force: so there may be twice as many in memory.
pub(super) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Longest status that is kept, in bytes of JSON: several times what is ever written by us.
const MAX_STATUS: usize = 8 * 1024;

/// An object, as far as it matters here.
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: u64,
    pub(super) generation: i64,
    pub(super) created: String,
    pub(super) id: Option<String>,
    /// The error is for people.
    pub(super) record: Result<Arc<Record>, String>,
    /// The status as it was read; null when it is longer than any of ours.
    pub(super) status: Value,
}

impl Seen {
    pub(super) fn of(shape: &Shape, object: Object) -> Self {
        let version = object.version();
        // Whatever holds an object's end up, it is over for everybody who looks at it.
        let over = object.is_being_deleted();
        let id = shape.id_of(&object).filter(|_| !over);
        let record = match &id {
            None if over => Err("it is being deleted".to_owned()),
            Some(id) => shape.record(&object, id).map(Arc::new),
            None => Err("it has no id that could be used: 1 to 1024 bytes".to_owned()),
        };
        let Object { metadata, status, .. } = object;
        let status = if size_of(&status) > MAX_STATUS { Value::Null } else { status };
        Self {
            name: metadata.name,
            uid: metadata.uid,
            version,
            generation: metadata.generation,
            created: metadata.creation_timestamp,
            id,
            record,
            status,
        }
    }

    pub(super) fn data(&self) -> Result<&[u8], &String> {
        self.record.as_ref().map(|record| record.data.as_slice())
    }

    fn bytes(&self) -> usize {
        // An id is there three times: here, in the record, and as a claim. An error has its bound in itself.
        let id = self.id.as_ref().map_or(0, String::len) * 3;
        self.name.len() * 2 + id + self.data().map_or(0, <[u8]>::len) + size_of(&self.status)
    }
}

fn size_of(status: &Value) -> usize {
    if status.is_null() { 0 } else { status.to_string().len() }
}

/// How much is kept of a kind.
#[derive(Default)]
pub(super) struct Room {
    objects: usize,
    bytes: usize,
    /// Whether something was left out, wholly or in part.
    pub(super) crowded: bool,
}

impl Room {
    /// Whether another object can be kept at all.
    pub(super) const fn is_full(&self) -> bool {
        self.objects >= MAX_OBJECTS
    }

    /// Takes an object: all of it, or, when its bytes are too many, that it is there; `None` when there are too many.
    pub(super) fn take(&mut self, mut seen: Seen) -> Option<Seen> {
        if self.is_full() {
            self.crowded = true;
            return None;
        }
        if self.bytes.saturating_add(seen.bytes()) > MAX_BYTES {
            self.crowded = true;
            seen.status = Value::Null;
            seen.record = Err(format!(
                "all objects of this kind have more than {} MiB together; delete some, and edit this one then",
                MAX_BYTES / 1024 / 1024
            ));
        }
        self.add(&seen);
        Some(seen)
    }

    /// Counts an object that is kept already.
    pub(super) fn add(&mut self, seen: &Seen) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(seen.bytes());
    }

    /// An object that was taken is gone.
    pub(super) fn give_back(&mut self, seen: &Seen) {
        self.objects = self.objects.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(seen.bytes());
    }
}
