//! Lists.

use std::sync::{Arc, Mutex};

use crate::limits::LIST_LENGTH;
use crate::value::Value;

/// Concatenations above one another that are kept; deeper ones are written out.
const MAX_CONCAT_DEPTH: usize = 32;

/// A list of values. Joining two lists copies neither.
#[derive(Clone)]
pub struct List(Repr);

#[derive(Clone)]
enum Repr {
    Flat {
        items: Arc<[Value]>,
        weight: u64,
        origin: Origin,
    },
    Concat(Arc<Concat>),
    /// What a macro gathers in: adding to it changes it, for everybody who has it. Compat: `mutableList` in cel-go
    /// `common/types/list.go`.
    Mutable(Arc<Mutex<Vec<Value>>>),
}

struct Concat {
    left: List,
    right: List,
    length: usize,
    weight: u64,
    depth: usize,
}

/// Where the elements come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Values,
    /// `host`: given by the caller, and reached by selection.
    Strings {
        host: bool,
    },
    Json {
        unescape: bool,
    },
}

/// How upstream holds a list, which decides what it can be turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// Of values (`[]ref.Val`): written in the expression, or made by a macro.
    Values,
    /// Of text (`[]string`): made by `split`, `findAll`, a query of a URL, or given by the caller.
    Strings,
    /// Of anything (`[]interface {}`): from JSON, or two lists joined.
    Anything,
}

impl List {
    /// A list of values.
    pub fn new(values: Vec<Value>) -> Self {
        Self::flat(values, Origin::Values)
    }

    fn flat(values: Vec<Value>, origin: Origin) -> Self {
        let weight = values.iter().fold(0u64, |sum, value| sum.saturating_add(value.weight()));
        Self(Repr::Flat { items: values.into(), weight, origin })
    }

    /// A list of text that is given to an expression, of [`ListKind::Strings`].
    pub fn of_strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::flat(texts.into_iter().map(Value::from).collect(), Origin::Strings { host: true })
    }

    /// The same, made by a function.
    pub(crate) fn made_of_strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self::flat(texts.into_iter().map(Value::from).collect(), Origin::Strings { host: false })
    }

    pub(crate) fn from_json(values: Vec<Value>) -> Self {
        Self::flat(values, Origin::Json { unescape: true })
    }

    pub(crate) fn mutable() -> Self {
        Self(Repr::Mutable(Arc::default()))
    }

    /// How upstream holds the list.
    pub fn kind(&self) -> ListKind {
        match &self.0 {
            Repr::Flat { origin: Origin::Strings { .. }, .. } => ListKind::Strings,
            Repr::Flat { origin: Origin::Json { .. }, .. } | Repr::Concat(_) => ListKind::Anything,
            Repr::Flat { origin: Origin::Values, .. } | Repr::Mutable(_) => ListKind::Values,
        }
    }

    pub(crate) fn go_type(&self) -> &'static str {
        match &self.0 {
            _ if self.is_wrapped() => "*oidc.unescapeLister",
            Repr::Flat { .. } => "*types.baseList",
            Repr::Concat(_) => "*types.concatList",
            Repr::Mutable(_) => "*types.mutableList",
        }
    }

    fn unescapes(&self) -> bool {
        matches!(self.0, Repr::Flat { origin: Origin::Json { unescape: true }, .. })
    }

    /// Whether upstream wraps the list in a type that hides that it can be empty.
    pub(crate) fn is_wrapped(&self) -> bool {
        self.unescapes() || matches!(self.0, Repr::Flat { origin: Origin::Strings { host: true }, .. })
    }

    pub(crate) fn is_concat(&self) -> bool {
        matches!(self.0, Repr::Concat(_))
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Flat { items, .. } => items.len(),
            Repr::Concat(concat) => concat.length,
            Repr::Mutable(items) => items.lock().map(|items| items.len()).unwrap_or_default(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the elements come from JSON, of which nothing has been made yet.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.0, Repr::Flat { origin: Origin::Json { .. }, .. })
    }

    /// What upstream's wrapper holds.
    fn unwrapped(&self) -> Self {
        match reached(Value::List(self.clone()), false) {
            Value::List(list) => list,
            _ => self.clone(),
        }
    }

    /// The element at `index`, reached by selection: maps from JSON below it find escaped names.
    pub fn get(&self, index: usize) -> Option<Value> {
        match &self.0 {
            Repr::Concat(concat) => {
                let left = concat.left.len();
                if index < left { concat.left.get(index) } else { concat.right.get(index - left) }
            }
            Repr::Flat { items, origin: Origin::Json { unescape }, .. } => {
                items.get(index).map(|value| reached(value.clone(), *unescape))
            }
            Repr::Flat { items, .. } => items.get(index).cloned(),
            Repr::Mutable(items) => items.lock().ok()?.get(index).cloned(),
        }
    }

    /// The elements one by one, as macros and functions see them.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let plain = self.unescapes();
        // What is added during the walk is not part of it.
        (0..self.len()).filter_map(move |index| {
            let value = self.get(index)?;
            Some(if plain { reached(value, false) } else { value })
        })
    }

    /// How much there is to look at in a walk through all of the list, counted once for each place that it is reached from.
    pub(crate) fn weight(&self) -> u64 {
        match &self.0 {
            Repr::Flat { weight, .. } => *weight,
            Repr::Concat(concat) => concat.weight,
            // Functions see none but the one that they append to.
            Repr::Mutable(_) => 1,
        }
    }

    /// How many elements joining the two copies.
    pub(crate) fn copied_by_join(&self, other: &Self) -> u64 {
        let mutable = matches!(self.0, Repr::Mutable(_));
        let deep = !mutable && self.depth().max(other.depth()) >= MAX_CONCAT_DEPTH;
        if deep { u64::try_from(self.len() + other.len()).unwrap_or(u64::MAX) } else { 1 }
    }

    /// The two lists as one; nothing if that is longer than [`LIST_LENGTH`].
    pub(crate) fn join(&self, other: &Self) -> Option<Self> {
        if let Repr::Mutable(items) = &self.0 {
            let added: Vec<Value> = match &other.0 {
                Repr::Mutable(others) => others.lock().map(|items| items.clone()).unwrap_or_default(),
                _ => (0..other.len()).filter_map(|index| other.get(index)).collect(),
            };
            if let Ok(mut items) = items.lock() {
                items.extend(added);
            }
            return Some(self.clone());
        }
        if self.is_empty() {
            return Some(other.clone());
        }
        // It is not the wrapper to which upstream adds, but the list in it.
        if other.is_empty() {
            return Some(self.unwrapped());
        }
        let depth = self.depth().max(other.depth()) + 1;
        let length = self.len() + other.len();
        if length > LIST_LENGTH {
            return None;
        }
        if depth > MAX_CONCAT_DEPTH {
            let left = self.unwrapped();
            let items: Vec<Value> = (0..left.len())
                .filter_map(|i| left.get(i))
                .chain((0..other.len()).filter_map(|i| other.get(i)))
                .collect();
            let flat = Self::new(items);
            let weight = flat.weight();
            let nothing = Self::new(Vec::new());
            return Some(Self(Repr::Concat(Arc::new(Concat { left: flat, right: nothing, length, weight, depth: 1 }))));
        }
        let weight = self.weight().saturating_add(other.weight());
        let (left, right) = (self.unwrapped(), other.clone());
        Some(Self(Repr::Concat(Arc::new(Concat { left, right, length, weight, depth }))))
    }

    fn depth(&self) -> usize {
        match &self.0 {
            Repr::Concat(concat) => concat.depth,
            _ => 0,
        }
    }

    /// The list when the macro that gathers it ends.
    pub(crate) fn settled(self) -> Self {
        match &self.0 {
            Repr::Mutable(items) => Self::new(items.lock().map(|items| items.clone()).unwrap_or_default()),
            _ => self,
        }
    }
}

/// A value that the caller gave as it is when reached by selection, or by a macro.
pub(crate) fn reached(value: Value, unescape: bool) -> Value {
    match value {
        Value::List(List(Repr::Flat { items, weight, origin: Origin::Json { .. } })) => {
            Value::List(List(Repr::Flat { items, weight, origin: Origin::Json { unescape } }))
        }
        Value::List(List(Repr::Flat { items, weight, origin: Origin::Strings { .. } })) => {
            Value::List(List(Repr::Flat { items, weight, origin: Origin::Strings { host: unescape } }))
        }
        Value::Map(map) => Value::Map(map.reached(unescape)),
        other => other,
    }
}
