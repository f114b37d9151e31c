//! Applying operations, one after the other; the first that fails ends the patch.
//!
//! Compat: json-patch v4's order of checks and its texts, the odd ones too (`replace` at the root with a scalar prints a
//! formatting mistake).

use super::JsonPatchError;
use super::decode::{Operation, PlaceError};
use super::pointer::{self, Pointer};
use crate::limits::{MAX_COPY_BYTES, MAX_DEPTH, MAX_STEPS};
use crate::node::{Crash, Node};
use crate::text;

/// Why an operation ends the patch.
enum Stop {
    Text(String),
    Crash(&'static str),
    TooDeep,
}

impl From<Crash> for Stop {
    fn from(_: Crash) -> Self {
        Self::Crash("a list that is compared holds null")
    }
}

/// Puts a sentence before the text of an operation that failed.
fn context<T>(result: Result<T, String>, before: impl FnOnce() -> String) -> Result<T, Stop> {
    result.map_err(|text| Stop::Text(format!("{}: {text}", before())))
}

/// Applies `operations` to `document`, which was scanned.
pub(crate) fn apply(operations: &[Operation<'_>], document: &[u8]) -> Result<Vec<u8>, JsonPatchError> {
    let mut root = Node::root(document.trim_ascii());
    if document.first() == Some(&b'[') {
        root.open_list();
    } else if matches!(root, Node::Nil) {
        root = Node::NullObject;
    } else if !root.open_object() {
        let kind = text::kind_name(document.trim_ascii());
        let error = format!("json: cannot unmarshal {kind} into Go value of type jsonpatch.partialDoc");
        return Err(JsonPatchError::Document(error));
    }
    let mut run = Run { root, copied: 0, steps: 0 };
    for (index, operation) in operations.iter().enumerate() {
        run.operation(operation).map_err(|stop| match stop {
            Stop::Text(text) => JsonPatchError::Operation { index, text },
            Stop::Crash(why) => JsonPatchError::Crash { index, why },
            Stop::TooDeep => JsonPatchError::TooDeep { index },
        })?;
        if run.steps > MAX_STEPS {
            return Err(JsonPatchError::TooMuchWork { index });
        }
    }
    let mut out = Vec::with_capacity(document.len());
    run.root.write(&mut out);
    Ok(out)
}

struct Run<'a> {
    root: Node<'a>,
    /// Bytes that `copy` has added.
    copied: usize,
    /// Elements moved or looked at.
    steps: usize,
}

/// An object or list, and the name or index of a place in it.
struct Place<'n, 'a> {
    container: &'n mut Node<'a>,
    key: String,
    /// Levels of nesting down to the container, itself included.
    level: usize,
}

impl<'a> Run<'a> {
    fn operation(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        match operation.kind().as_str() {
            "add" => self.add(operation),
            "remove" => self.remove(operation),
            "replace" => self.replace(operation),
            "move" => self.shift(operation),
            "test" => self.test(operation),
            "copy" => self.copy(operation),
            kind => Err(Stop::Text(format!("Unexpected kind: {kind}"))),
        }
    }

    fn add(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        // Compat: upstream says that a path is missing also when it is no string.
        let path = operation
            .path()
            .map_err(|_| Stop::Text("add operation failed to decode path: missing value".to_owned()))?;
        let Some(place) = find(&mut self.root, &mut self.steps, &path) else {
            let text = format!("add operation does not apply: doc is missing path: \"{path}\": missing value");
            return Err(Stop::Text(text));
        };
        place.insert(operation.value(), &mut self.steps, || format!("error in add for path: '{path}'"))?;
        Ok(())
    }

    fn remove(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        let path = operation
            .path()
            .map_err(|_| Stop::Text("remove operation failed to decode path: missing value".to_owned()))?;
        let Some(place) = find(&mut self.root, &mut self.steps, &path) else {
            let text = format!("remove operation does not apply: doc is missing path: \"{path}\": missing value");
            return Err(Stop::Text(text));
        };
        context(place.take(&mut self.steps), || format!("error in remove for path: '{path}'"))?;
        Ok(())
    }

    fn replace(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        let path =
            operation.path().map_err(|error| place_error("replace operation failed to decode path", "path", error))?;
        if path.is_empty() {
            let mut value = operation.value();
            if matches!(value, Node::Nil) {
                return Err(Stop::Crash("the root cannot be replaced without a value"));
            }
            if !value.open() {
                let text = "replace operation value must be object or array: %!w(<nil>)".to_owned();
                return Err(Stop::Text(text));
            }
            self.steps += value.width();
            self.root = value;
            return Ok(());
        }
        let Some(place) = find(&mut self.root, &mut self.steps, &path) else {
            let text = format!("replace operation does not apply: doc is missing path: {path}: missing value");
            return Err(Stop::Text(text));
        };
        let level = place.level;
        let value = operation.value();
        let missing =
            || Stop::Text(format!("replace operation does not apply: doc is missing key: {path}: missing value"));
        match place.container {
            // Compat: a member that is not there is "replaced" all the same.
            Node::Object(members) => {
                fits(level, &value, &mut self.steps)?;
                members.insert(place.key, value);
            }
            Node::List(items) => {
                let at = pointer::existing(&place.key, items.len()).map_err(|_| missing())?;
                fits(level, &value, &mut self.steps)?;
                if let Some(item) = items.get_mut(at) {
                    *item = value;
                }
            }
            Node::Nil | Node::Null | Node::NullObject | Node::Raw { .. } => return Err(into_null()),
        }
        Ok(())
    }

    /// `move`.
    fn shift(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        let from =
            operation.from().map_err(|error| place_error("move operation failed to decode from", "from", error))?;
        let Some(place) = find(&mut self.root, &mut self.steps, &from) else {
            let text = format!("move operation does not apply: doc is missing from path: {from}: missing value");
            return Err(Stop::Text(text));
        };
        let key = place.key.clone();
        let value = context(place.take(&mut self.steps), || format!("error in move for path: '{key}'"))?;
        let path =
            operation.path().map_err(|error| place_error("move operation failed to decode path", "path", error))?;
        let Some(place) = find(&mut self.root, &mut self.steps, &path) else {
            let text = format!("move operation does not apply: doc is missing destination path: {path}: missing value");
            return Err(Stop::Text(text));
        };
        place.insert(value, &mut self.steps, || format!("error in move for path: '{path}'"))?;
        Ok(())
    }

    fn test(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        let path =
            operation.path().map_err(|error| place_error("test operation failed to decode path", "path", error))?;
        let failed = || Stop::Text(format!("testing value {path} failed: test failed"));
        let mut value = operation.value();
        if path.is_empty() {
            if matches!(value, Node::Nil) {
                return Err(Stop::Crash("the root cannot be compared without a value"));
            }
            return if self.root.equal(&mut value)? { Ok(()) } else { Err(failed()) };
        }
        let Some(place) = find(&mut self.root, &mut self.steps, &path) else {
            return Err(Stop::Text(format!("test operation does not apply: is missing path: {path}: missing value")));
        };
        let current = context(place.get(), || format!("error in test for path: '{path}'"))?;
        let same = match (current, &mut value) {
            (None | Some(Node::Nil), value) => matches!(value, Node::Nil | Node::Null),
            (Some(_), Node::Nil) => false,
            (Some(current), value) => current.equal(value)?,
        };
        if same { Ok(()) } else { Err(failed()) }
    }

    fn copy(&mut self, operation: &Operation<'a>) -> Result<(), Stop> {
        let from =
            operation.from().map_err(|error| place_error("copy operation failed to decode from", "from", error))?;
        let Some(place) = find(&mut self.root, &mut self.steps, &from) else {
            let text = format!("copy operation does not apply: doc is missing from path: {from}: missing value");
            return Err(Stop::Text(text));
        };
        context(place.get().map(|_| ()), || format!("error in copy for from: '{from}'"))?;
        let path = operation
            .path()
            .map_err(|_| Stop::Text("copy operation failed to decode path: missing value".to_owned()))?;
        if find(&mut self.root, &mut self.steps, &path).is_none() {
            let text = format!("copy operation does not apply: doc is missing destination path: {path}: missing value");
            return Err(Stop::Text(text));
        }
        let value = match find(&mut self.root, &mut self.steps, &from).and_then(|place| place.get().ok().flatten()) {
            None | Some(Node::Nil) => Node::Nil,
            Some(source) => {
                let depth = source.depth(&mut self.steps);
                let mut out = Vec::new();
                source.write(&mut out);
                let empty = matches!(source, Node::Null | Node::NullObject);
                self.copied += out.len();
                if self.copied > MAX_COPY_BYTES {
                    return Err(Stop::Text(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {MAX_COPY_BYTES}",
                        self.copied
                    )));
                }
                if empty { Node::NullObject } else { Node::Raw { text: out.into(), depth } }
            }
        };
        if let Some(place) = find(&mut self.root, &mut self.steps, &path) {
            place.insert(value, &mut self.steps, || "error while adding value during copy".to_owned())?;
        }
        Ok(())
    }
}

/// The container of the place that `path` points to; nothing when there is none.
fn find<'n, 'a>(root: &'n mut Node<'a>, steps: &mut usize, path: &str) -> Option<Place<'n, 'a>> {
    let Pointer { through, last } = Pointer::parse(path)?;
    let level = 1 + through.len();
    let mut container = root;
    for token in &through {
        let next = match container {
            Node::Object(members) => members.get_mut(token)?,
            Node::List(items) => {
                let at = pointer::existing(token, items.len()).ok()?;
                items.get_mut(at)?
            }
            Node::Nil | Node::Null | Node::NullObject | Node::Raw { .. } => return None,
        };
        let closed = matches!(next, Node::Raw { .. });
        if !next.open() {
            return None;
        }
        if closed {
            *steps += next.width();
        }
        container = next;
    }
    Some(Place { container, key: last, level })
}

impl<'n, 'a> Place<'n, 'a> {
    /// The value at the place; nothing when an object has no such member.
    fn get(self) -> Result<Option<&'n mut Node<'a>>, String> {
        match self.container {
            Node::Object(members) => Ok(members.get_mut(&self.key)),
            Node::List(items) => {
                let at = pointer::existing(&self.key, items.len())?;
                Ok(items.get_mut(at))
            }
            Node::Nil | Node::Null | Node::NullObject | Node::Raw { .. } => Ok(None),
        }
    }

    /// Takes the value at the place out of the document.
    fn take(self, steps: &mut usize) -> Result<Node<'a>, String> {
        let gone = |key: &str| format!("Unable to remove nonexistent key: {key}: missing value");
        match self.container {
            Node::Object(members) => members.remove(&self.key).ok_or_else(|| gone(&self.key)),
            Node::List(items) => {
                let at = pointer::existing(&self.key, items.len())?;
                *steps += items.len() - at;
                Ok(items.remove(at))
            }
            Node::Nil | Node::Null | Node::NullObject | Node::Raw { .. } => Err(gone(&self.key)),
        }
    }

    /// Puts a value at the place: over a member, before an element.
    fn insert(self, value: Node<'a>, steps: &mut usize, before: impl FnOnce() -> String) -> Result<(), Stop> {
        match self.container {
            Node::Object(members) => {
                fits(self.level, &value, steps)?;
                members.insert(self.key, value);
            }
            Node::List(items) => {
                let at = context(pointer::insertion(&self.key, items.len()), before)?;
                fits(self.level, &value, steps)?;
                *steps += items.len() - at;
                items.insert(at, value);
            }
            Node::Nil | Node::Null | Node::NullObject | Node::Raw { .. } => return Err(into_null()),
        }
        Ok(())
    }
}

/// Whether a value can stand in a container at `level` without making the document too deep.
fn fits(level: usize, value: &Node<'_>, steps: &mut usize) -> Result<(), Stop> {
    if level + value.depth(steps) > MAX_DEPTH { Err(Stop::TooDeep) } else { Ok(()) }
}

const fn into_null() -> Stop {
    Stop::Crash("nothing can be put into a copied null")
}

fn place_error(before: &str, member: &str, error: PlaceError) -> Stop {
    let comma = if member == "from" { "," } else { "" };
    Stop::Text(match error {
        PlaceError::Missing => format!("{before}: operation{comma} missing {member} field: missing value"),
        PlaceError::NoString(text) => format!("{before}: {text}"),
    })
}
