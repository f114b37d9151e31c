//! What an evaluation costs, and where it ends because it costs too much.
//!
//! Compat: cel-go `interpreter/runtimecost.go` 0.29.2 with `CostEstimator` of `k8s.io/apiserver/pkg/cel/library/cost.go` 0.37.2
//! and the trackers of cel-go's list and set libraries. Upstream charges a call by the values that it finds on a stack of
//! all that was evaluated, and charges nothing if it does not find them there; the stack is kept here, too, so that both
//! stop at the same step.

use crate::ast::Id;
use crate::error::EvalError;
use crate::value::Value;

pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
const TRAVERSAL: f64 = 0.1;
const REGEX: f64 = 0.25;

/// Ends the evaluation.
#[derive(Debug)]
pub(crate) struct Fatal(pub(crate) EvalError);

/// A value that was evaluated, or nothing where that failed.
type Seen = Option<Value>;

struct Entry {
    id: Id,
    value: Seen,
    /// The entry of the same node below, plus one.
    below: u32,
}

/// The cost so far.
pub(crate) struct Tracker {
    cost: u64,
    limit: u64,
    stack: Vec<Entry>,
    /// For each node its last entry, plus one.
    last: Vec<u32>,
    scratch: Vec<Seen>,
    /// Off where upstream loses sight of the evaluation.
    pub(crate) on: bool,
}

impl Tracker {
    pub(crate) fn new(limit: u64) -> Self {
        Self { cost: 0, limit, stack: Vec::with_capacity(16), last: Vec::new(), scratch: Vec::new(), on: true }
    }

    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn charge(&mut self, cost: u64) {
        if self.on {
            self.cost = self.cost.saturating_add(cost);
        }
    }

    fn position(&self, id: Id) -> Option<usize> {
        let last = usize::try_from(id).ok().and_then(|index| self.last.get(index).copied()).unwrap_or_default();
        usize::try_from(last).ok()?.checked_sub(1)
    }

    fn set_last(&mut self, id: Id, position: u32) {
        let Ok(index) = usize::try_from(id) else { return };
        if index >= self.last.len() {
            self.last.resize(index + 1, 0);
        }
        if let Some(last) = self.last.get_mut(index) {
            *last = position;
        }
    }

    fn pop(&mut self) -> Seen {
        let entry = self.stack.pop()?;
        self.set_last(entry.id, entry.below);
        entry.value
    }

    /// Takes the last entry of `id`, and all above it.
    fn take(&mut self, id: Id) -> Option<Seen> {
        let position = self.position(id)?;
        while self.stack.len() > position + 1 {
            self.pop();
        }
        Some(self.pop())
    }

    pub(crate) fn drop(&mut self, id: Id) {
        if self.on {
            self.take(id);
        }
    }

    /// Takes the arguments of a call, the last one first; nothing if one is not there.
    fn take_args(&mut self, ids: impl DoubleEndedIterator<Item = Id>) -> bool {
        self.scratch.clear();
        for id in ids.rev() {
            match self.take(id) {
                Some(seen) => self.scratch.push(seen),
                None => return false,
            }
        }
        self.scratch.reverse();
        true
    }

    pub(crate) fn drop_args(&mut self, ids: impl DoubleEndedIterator<Item = Id>) {
        if self.on {
            self.take_args(ids);
        }
    }

    /// Charges a call whose arguments are the nodes `ids`.
    pub(crate) fn call(
        &mut self,
        function: &str,
        overload: &str,
        ids: impl DoubleEndedIterator<Item = Id>,
        result: &Result<Value, EvalError>,
    ) -> Result<(), Fatal> {
        if self.on && self.take_args(ids) {
            let args = std::mem::take(&mut self.scratch);
            let cost = call_cost(function, overload, &args, result.as_ref().ok());
            self.scratch = args;
            self.charge(cost?);
        }
        Ok(())
    }

    /// Remembers what a node came to, and looks whether that was too much.
    pub(crate) fn push(&mut self, id: Id, value: Seen) -> Result<(), Fatal> {
        if !self.on {
            return Ok(());
        }
        let below = self.position(id).and_then(|position| u32::try_from(position + 1).ok()).unwrap_or_default();
        self.stack.push(Entry { id, value, below });
        self.set_last(id, u32::try_from(self.stack.len()).unwrap_or(u32::MAX));
        if self.cost > self.limit { Err(Fatal(EvalError::CostLimit)) } else { Ok(()) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "upstream computes with doubles")]
fn times(size: u64, factor: f64) -> f64 {
    size as f64 * factor
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes times small factors")]
fn floor(value: f64) -> u64 {
    value as u64
}

fn ceil(value: f64) -> u64 {
    floor(value.ceil())
}

/// The size that a value is charged by; what has none counts as one.
fn size(value: Option<&Seen>) -> u64 {
    let found = value.and_then(Option::as_ref).and_then(Value::size);
    found.map_or(1, |size| u64::try_from(size).unwrap_or(u64::MAX))
}

/// The same, looking into optional values, as only cel-go's own functions are charged.
fn deep_size(value: Option<&Seen>) -> u64 {
    match value {
        Some(Some(Value::Optional(Some(inner)))) => deep_size(Some(&Some(Value::clone(inner)))),
        other => size(other),
    }
}

/// A walk through all of a value.
fn traversal(value: &Value) -> u64 {
    match value {
        Value::String(text) => floor(times(u64::try_from(text.len()).unwrap_or(u64::MAX), TRAVERSAL)),
        Value::Bytes(bytes) => floor(times(u64::try_from(bytes.len()).unwrap_or(u64::MAX), TRAVERSAL)),
        Value::List(list) => list.iter().map(|item| traversal(&item)).sum(),
        Value::Map(_) | Value::Gathering(_) => {
            value.as_map().unwrap_or_default().iter().map(|(key, value)| traversal(&key) + traversal(&value)).sum()
        }
        Value::Object(object) => object
            .names()
            .iter()
            .map(|name| match object.field(name) {
                Some(Ok(value)) => {
                    let below = match &value {
                        Value::String(inner) => object.field(inner).and_then(Result::ok),
                        _ => None,
                    };
                    traversal(&value) + below.map_or(1, |value| traversal(&value))
                }
                _ => 2,
            })
            .sum(),
        _ => 1,
    }
}

/// What breaks down where a list is expected and something else is there.
fn no_list(value: Option<&Value>) -> Fatal {
    let kind = value.map_or("*types.Err", Value::go_type);
    let adds = matches!(
        value,
        Some(
            Value::Bytes(_)
                | Value::Double(_)
                | Value::Duration(_)
                | Value::Int(_)
                | Value::String(_)
                | Value::Timestamp(_)
                | Value::Uint(_)
        )
    );
    let missing = if adds { "Contains" } else { "Add" };
    let text = format!("interface conversion: {kind} is not traits.Lister: missing method {missing}");
    Fatal(EvalError::Internal(text.into()))
}

fn allocating(factor: f64, size: u64) -> u64 {
    let factor = if factor < 0.0 { 1.0 } else { factor };
    floor(times(size, factor)).saturating_add(1 + LIST)
}

/// Functions that look at each pair of a list.
fn self_compare(list: Option<&Seen>) -> Result<u64, Fatal> {
    let Some(Some(Value::List(items))) = list else { return Err(no_list(list.and_then(Option::as_ref))) };
    let size = size(list);
    let long = matches!(items.get(0), Some(Value::String(_) | Value::Bytes(_)));
    let factor = if long { 2.0 + TRAVERSAL } else { 2.0 };
    Ok(allocating(factor, size.saturating_mul(size)))
}

#[expect(clippy::cast_precision_loss, reason = "as upstream does")]
fn overload_cost(overload: &str, args: &[Seen], result: Option<&Value>) -> Result<Option<u64>, Fatal> {
    let result_size = || result.and_then(Value::size).map_or(1, |size| u64::try_from(size).unwrap_or(u64::MAX));
    Ok(Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, result_size()),
        "list_flatten" => allocating(1.0, size(args.first())),
        "list_flatten_int" => match args.get(1) {
            Some(Some(Value::Int(depth))) => allocating(*depth as f64, size(args.first())),
            other => {
                let kind = other.and_then(Option::as_ref).map_or("*types.Err", Value::go_type);
                let text = format!("interface conversion: ref.Val is {kind}, not types.Int");
                return Err(Fatal(EvalError::Internal(text.into())));
            }
        },
        "list_distinct" => self_compare(args.first())?,
        "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list" => {
            let pairs = size(args.first()).saturating_mul(size(args.get(1)));
            let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
            floor(times(pairs, factor)).saturating_add(1)
        }
        other if other.starts_with("list_") && other.ends_with("_sort") => self_compare(args.first())?,
        other if other.ends_with("_sortByAssociatedKeys") => self_compare(args.get(1))?,
        _ => return Ok(None),
    }))
}

fn kubernetes_cost(function: &str, overload: &str, args: &[Seen], result: Option<&Value>) -> Option<u64> {
    let (first, second) = (args.first(), args.get(1));
    let scan = |factor: f64| first.map(|_| ceil(times(size(first), factor)));
    match function {
        "check" => Some(350_000),
        "fieldSelector" | "labelSelector" => second.map(|_| {
            let length = size(second);
            LIST + ceil(times(length, TRAVERSAL)) + ceil(times(ceil(times(length, 0.5)), 50.0))
        }),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            Some(first.map_or(0, |value| value.as_ref().map_or(1, traversal)))
        }
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP" | "isCIDR" | "quantity"
        | "isQuantity" | "semver" | "isSemver" => scan(TRAVERSAL),
        "ip" if overload != "cidr_ip" => scan(TRAVERSAL),
        "replace" | "split" | "ip.isCanonical" => first.map(|_| ceil(times(size(first), 2.0) * TRAVERSAL)),
        "join" => {
            let size = result.and_then(Value::size).map_or(1, |size| u64::try_from(size).unwrap_or(u64::MAX));
            Some(ceil(times(size, 2.0) * TRAVERSAL))
        }
        "find" | "findAll" => second.map(|_| {
            ceil((1.0 + times(size(first), 1.0)) * TRAVERSAL).saturating_mul(ceil(times(size(second), REGEX)))
        }),
        "containsIP" | "containsCIDR" => second.map(|_| {
            let (network, other) = (size(first), size(second));
            let mut cost = ceil(times(network + network, TRAVERSAL));
            if function == "containsCIDR" {
                cost += ceil(times(network, TRAVERSAL)) + 1;
            }
            if matches!(overload, "cidr_contains_ip_string" | "cidr_contains_cidr_string") {
                cost += ceil(times(other, TRAVERSAL));
            }
            cost
        }),
        "validate" => match (first, second) {
            (Some(Some(Value::Format(format))), Some(_)) => Some(
                ceil((1.0 + times(size(second), 1.0)) * TRAVERSAL)
                    .saturating_mul(ceil(times(format.regex_size, REGEX))),
            ),
            _ => None,
        },
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast"
        | "format.named"
        | "sign"
        | "asInteger"
        | "isInteger"
        | "asApproximateFloat"
        | "isGreaterThan"
        | "isLessThan"
        | "compareTo"
        | "add"
        | "sub"
        | "major"
        | "minor"
        | "patch"
        | "getScheme"
        | "getHostname"
        | "getHost"
        | "getPort"
        | "getEscapedPath"
        | "getQuery"
        | "serviceAccount"
        | "path"
        | "group"
        | "resource"
        | "subresource"
        | "namespace"
        | "name"
        | "allowed"
        | "reason"
        | "error"
        | "errored"
        | "ip" => Some(1),
        "_==_" => match first {
            Some(Some(
                Value::Quantity(_)
                | Value::Ip(_)
                | Value::Cidr(_)
                | Value::Format(_)
                | Value::Url(_)
                | Value::Semver(_),
            )) => Some(1),
            _ => None,
        },
        _ => None,
    }
}

fn call_cost(function: &str, overload: &str, args: &[Seen], result: Option<&Value>) -> Result<u64, Fatal> {
    if let Some(cost) = overload_cost(overload, args, result)? {
        return Ok(cost);
    }
    if let Some(cost) = kubernetes_cost(function, overload, args, result) {
        return Ok(cost);
    }
    let first = || deep_size(args.first());
    let second = || deep_size(args.get(1));
    Ok(match overload {
        "starts_with_string" | "ends_with_string" => ceil(times(second(), TRAVERSAL)),
        "string_to_bytes" | "bytes_to_string" | "strings_quote" | "string_format" => ceil(times(first(), TRAVERSAL)),
        "in_list" => second(),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => ceil(times(first().min(second()), TRAVERSAL)),
        "add_string" | "add_bytes" => ceil(times(first().saturating_add(second()), TRAVERSAL)),
        "matches" | "matches_string" => {
            ceil((1.0 + times(first(), 1.0)) * TRAVERSAL).saturating_mul(ceil(times(second(), REGEX)))
        }
        "contains_string" => ceil(times(first(), TRAVERSAL)).saturating_mul(ceil(times(second(), TRAVERSAL))),
        _ => 1,
    })
}
