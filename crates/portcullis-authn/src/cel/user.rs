//! The variable `user`: what a token's mappings have made.
//!
//! Compat: `buildUserType` and `newUserInfoValue` of `k8s.io/apiserver` v0.37: all four fields are always there.

use std::sync::Arc;

use portcullis_cel::{Fields, List, Map, Type, Value};
use portcullis_kube::user_info::UserInfo;

use super::{USER, Variable};

/// The name of its type.
pub(super) const TYPE: &str = "kubernetes.UserInfo";

/// Its fields.
pub(super) fn fields() -> Vec<(Arc<str>, Type)> {
    let texts = || Type::list(Type::String);
    vec![
        ("username".into(), Type::String),
        ("uid".into(), Type::String),
        ("groups".into(), texts()),
        ("extra".into(), Type::map(Type::String, texts())),
    ]
}

/// A user as the variable of rules about users.
pub(crate) fn user(user: &UserInfo) -> Variable<impl FnOnce() -> Value> {
    Variable::new(USER, || {
        let list = |texts: &[String]| List::of_strings(texts.iter().map(String::as_str));
        let extra = user.extra.iter().map(|(key, values)| (Arc::from(key.as_str()), list(values)));
        let values = [
            ("username", Value::from(user.username.as_str())),
            ("uid", Value::from(user.uid.as_str())),
            ("groups", Value::List(list(&user.groups))),
            ("extra", Value::Map(Map::of_string_lists(extra))),
        ];
        let fields = Fields::new(TYPE, values.map(|(name, value)| (Arc::from(name), value)));
        Value::Object(Arc::new(fields))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Rule, check_rules, user_expression};
    use super::*;

    #[test]
    fn rules_see_every_field() {
        let info = UserInfo {
            username: "jane".into(),
            groups: vec!["dev".into()],
            extra: [("acme.io/team".to_owned(), vec!["red".to_owned()])].into(),
            ..UserInfo::default()
        };
        for (expression, want) in [
            ("user.username == 'jane'", true),
            ("has(user.uid) && user.uid == ''", true),
            ("user.groups.all(g, !g.startsWith('system:'))", true),
            ("'red' in user.extra['acme.io/team']", true),
            ("user.groups.size() == 0", false),
        ] {
            let compiled = user_expression(String::new(), expression).map_err(|broken| broken.error).expect(expression);
            let rule = Rule { expression: compiled, message: String::new() };
            assert_eq!(check_rules(&[rule], &user(&info)).is_ok(), want, "{expression}");
        }
    }
}
