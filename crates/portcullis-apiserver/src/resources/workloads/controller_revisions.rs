//! Controller revisions: what a set looked like once. Data is whatever its controller keeps.

use portcullis_kube::field::FieldError;
use portcullis_kube::names;
use serde_json::Value;

use super::super::check::{Path, Wrong, meta};
use super::super::rules::Rules;
use super::super::tree::{Members, at};

pub(crate) const RULES: Rules = Rules { validate, validate_update, ..Rules::NAMESPACED };

fn common(new: &Members, wrong: &mut Wrong) {
    meta::object_meta(new, true, names::dns_subdomain, wrong);
    wrong.not_negative(&Path::new("revision"), at(new, &["revision"]).and_then(Value::as_i64));
}

fn validate(new: &Members, wrong: &mut Wrong) {
    common(new, wrong);
    match at(new, &["data"]) {
        Some(Value::Object(_)) => {}
        None | Some(Value::Null) => wrong.push(FieldError::required("data", "data is mandatory")),
        Some(_) => wrong.push(FieldError::required("data", "data must be a valid JSON object")),
    }
}

fn validate_update(new: &Members, old: &Members, wrong: &mut Wrong) {
    meta::object_meta_update(new, old, wrong);
    common(new, wrong);
    let data = |members: &Members| at(members, &["data"]).cloned().unwrap_or_default();
    if data(new) != data(old) {
        wrong.invalid_value(&Path::new("data"), &data(new), super::super::check::IMMUTABLE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_an_object_and_stays() {
        let of = |data: Value| {
            let revision = json!({"metadata": {"name": "r", "namespace": "d", "resourceVersion": "1"}, "data": data, "revision": -1});
            revision.as_object().unwrap().clone()
        };
        let count = |check: &dyn Fn(&mut Wrong)| {
            let mut wrong = Wrong::default();
            check(&mut wrong);
            wrong.finish().len()
        };
        assert_eq!(count(&|wrong| validate(&of(json!({})), wrong)), 1);
        assert_eq!(count(&|wrong| validate(&of(json!([])), wrong)), 2);
        assert_eq!(count(&|wrong| validate_update(&of(json!({"a": 1})), &of(json!({})), wrong)), 2);
    }
}
