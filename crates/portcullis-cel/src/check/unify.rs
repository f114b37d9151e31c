//! Which types may stand for which, with type parameters bound on the way.
//!
//! Compat: cel-go `checker/types.go` 0.29.2.

use std::collections::HashMap;
use std::sync::Arc;

use crate::types::Type;

/// Types that parameters stand for. What a failed attempt bound is undone.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    bound: HashMap<Arc<str>, Type>,
    undo: Vec<(Arc<str>, Option<Type>)>,
}

impl Bindings {
    fn find(&self, name: &str) -> Option<&Type> {
        self.bound.get(name)
    }

    fn bind(&mut self, name: &Arc<str>, to: Type) {
        let old = self.bound.insert(Arc::clone(name), to);
        self.undo.push((Arc::clone(name), old));
    }

    /// Whether a value of `from` may be given where `to` is expected; binds parameters if so.
    pub(super) fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.all_assignable(&[to], &[from])
    }

    pub(super) fn all_assignable(&mut self, left: &[&Type], right: &[&Type]) -> bool {
        self.undo.clear();
        let fits = self.fit_all(left, right);
        if !fits {
            while let Some((name, old)) = self.undo.pop() {
                match old {
                    Some(old) => self.bound.insert(name, old),
                    None => self.bound.remove(&name),
                };
            }
        }
        fits
    }

    fn fit_all(&mut self, left: &[&Type], right: &[&Type]) -> bool {
        left.len() == right.len() && left.iter().zip(right).all(|(a, b)| self.fit(a, b))
    }

    fn fit(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(name) = b {
            let (valid, bound) = self.substitute_for(a, b, name);
            if valid {
                return true;
            }
            if bound {
                return false;
            }
        }
        if let Type::Param(name) = a {
            return self.substitute_for(b, a, name).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => {
                matches!(other, Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp)
            }
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(x), Type::List(y)) => self.fit(x, y),
            (Type::Map(k, v), Type::Map(l, w)) => self.fit(k, l) && self.fit(v, w),
            (Type::Opaque(x, p), Type::Opaque(y, q)) => {
                x == y && self.fit_all(&p.iter().collect::<Vec<_>>(), &q.iter().collect::<Vec<_>>())
            }
            _ => a == b,
        }
    }

    /// Whether `param` may stand for `wanted`, and whether it already stood for something.
    fn substitute_for(&mut self, wanted: &Type, param: &Type, name: &Arc<str>) -> (bool, bool) {
        if wanted == param {
            return (true, true);
        }
        if let Some(bound) = self.find(name).cloned() {
            if *wanted == bound {
                return (true, true);
            }
            if self.fit(wanted, &bound) {
                let general = most_general(wanted, &bound);
                if self.not_referenced(param, &general) {
                    self.bind(name, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.not_referenced(param, wanted) {
            self.bind(name, wanted.clone());
            return (true, false);
        }
        (false, false)
    }

    fn not_referenced(&self, param: &Type, within: &Type) -> bool {
        if param == within {
            return false;
        }
        match within {
            Type::Param(name) => self.find(name).is_none_or(|bound| self.not_referenced(param, bound)),
            other => other.params().into_iter().all(|inner| self.not_referenced(param, inner)),
        }
    }

    /// How many types `of` is made of, counted up to `limit`.
    pub(super) fn size(&self, of: &Type, limit: usize) -> usize {
        let mut size = 1;
        if let Type::Param(name) = of {
            if let Some(bound) = self.find(name)
                && limit > 1
            {
                size += self.size(bound, limit - 1);
            }
            return size;
        }
        for param in of.params() {
            if size >= limit {
                break;
            }
            size += self.size(param, limit - size);
        }
        size
    }

    /// `of` with parameters replaced by what they stand for, and with `free` ones by `dyn` if that is wanted.
    pub(super) fn substitute(&self, of: &Type, free_to_dyn: bool) -> Type {
        match of {
            Type::Param(name) => match self.find(name) {
                Some(bound) => self.substitute(bound, free_to_dyn),
                None if free_to_dyn => Type::Dyn,
                None => of.clone(),
            },
            Type::List(element) => Type::list(self.substitute(element, free_to_dyn)),
            Type::Map(key, value) => Type::map(self.substitute(key, free_to_dyn), self.substitute(value, free_to_dyn)),
            Type::Type(Some(inner)) => self.substitute(inner, free_to_dyn).type_of(),
            Type::Opaque(name, params) => {
                Type::Opaque(Arc::clone(name), params.iter().map(|param| self.substitute(param, free_to_dyn)).collect())
            }
            other => other.clone(),
        }
    }
}

/// `of` with the parameters of a declaration renamed.
pub(super) fn rename(of: &Type, names: &HashMap<&str, Type>) -> Type {
    match of {
        Type::Param(name) => names.get(&**name).cloned().unwrap_or_else(|| of.clone()),
        Type::List(element) => Type::list(rename(element, names)),
        Type::Map(key, value) => Type::map(rename(key, names), rename(value, names)),
        Type::Type(Some(inner)) => rename(inner, names).type_of(),
        Type::Opaque(name, params) => {
            Type::Opaque(Arc::clone(name), params.iter().map(|param| rename(param, names)).collect())
        }
        other => other.clone(),
    }
}

pub(super) fn most_general(a: &Type, b: &Type) -> Type {
    if less_specific(a, b) { a.clone() } else { b.clone() }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || matches!(a, Type::Param(_)) {
        return true;
    }
    if b.is_dyn() || matches!(b, Type::Param(_)) {
        return false;
    }
    match (a, b) {
        (Type::Opaque(x, p), Type::Opaque(y, q)) => {
            x == y && p.len() == q.len() && p.iter().zip(q.iter()).all(|(a, b)| less_specific(a, b))
        }
        (Type::List(x), Type::List(y)) => less_specific(x, y),
        (Type::Map(k, v), Type::Map(l, w)) => less_specific(k, l) && less_specific(v, w),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}
