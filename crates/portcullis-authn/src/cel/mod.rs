//! The CEL expressions of one issuer: compiled when the configuration is loaded, evaluated for each of its tokens.
//!
//! Flow: [`crate::rules`] compiles each expression where it stands → [`Expressions`], a part of [`crate::ValidConfig`] →
//! [`crate::mapping`] asks them, in upstream's order, for the user's parts and whether the rules hold.
//!
//! Compat: `k8s.io/apiserver/pkg/authentication/cel` v0.37 and what `oidc.go` makes of its results.

mod claims;
mod user;

use std::cell::LazyCell;
use std::sync::LazyLock;

use portcullis_cel::{Activation, Environment, ListKind, ObjectType, Program, Type, Value, limits};
use portcullis_kube::field::FieldError;

pub(crate) use claims::claims;
pub(crate) use user::user;

/// What the variable of mappings and claim rules is called.
const CLAIMS: &str = "claims";
/// What the variable of user rules is called.
const USER: &str = "user";

static OF_CLAIMS: LazyLock<Environment> =
    LazyLock::new(|| Environment::new().variable(CLAIMS, Type::map(Type::String, Type::Any)));

static OF_USER: LazyLock<Environment> = LazyLock::new(|| {
    let object = ObjectType { name: user::TYPE.into(), fields: user::fields() };
    Environment::new().object(object).variable(USER, Type::object(user::TYPE))
});

/// A compiled expression. It is the same as another when it is written in the same way.
#[derive(Debug, Clone)]
pub(crate) struct Expression(Program);

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source() == other.0.source()
    }
}

impl Eq for Expression {}

/// An expression that has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) expression: Expression,
    /// What is said when it does not.
    pub(crate) message: String,
}

/// The expressions of one issuer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expressions {
    pub(crate) username: Option<Expression>,
    pub(crate) groups: Option<Expression>,
    pub(crate) uid: Option<Expression>,
    /// Keys and what gives their values, in the file's order.
    pub(crate) extra: Vec<(String, Expression)>,
    pub(crate) claim_rules: Vec<Rule>,
    pub(crate) user_rules: Vec<Rule>,
}

impl Expressions {
    /// Those that may decide about the user name that `username` makes.
    pub(crate) fn deciding<'a>(&'a self, username: &'a Expression) -> impl Iterator<Item = &'a Expression> {
        let extra = self.extra.iter().map(|(_, expression)| expression);
        extra.chain(self.claim_rules.iter().map(|rule| &rule.expression)).chain([username])
    }

    /// As [`crate::ValidConfig::unverified_addresses`].
    pub(crate) fn unverified_addresses(&self) -> Option<&'static str> {
        let username = self.username.as_ref()?;
        let asks = |expression: &Expression| expression.names("email_verified");
        (username.names("email") && !self.deciding(username).any(asks)).then_some(
            "the expression of the user name reads email in a form that kube-apiserver's own rule does not see, and none asks for \
             email_verified: whoever gives somebody else's address to the provider becomes that user",
        )
    }
}

/// What an expression must come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It is looked at when it is there.
    Anything,
    Truth,
}

/// An expression that does not compile.
pub(crate) struct Broken {
    pub(crate) error: FieldError,
    /// What to write instead, as far as that is known.
    pub(crate) hints: Vec<String>,
}

/// Compiles an expression over `claims`, found at `path`.
pub(crate) fn claims_expression(path: String, expression: &str, wanted: Wanted) -> Result<Expression, Broken> {
    compile(&OF_CLAIMS, path, expression, wanted)
}

/// Compiles an expression over `user`, found at `path`.
pub(crate) fn user_expression(path: String, expression: &str) -> Result<Expression, Broken> {
    compile(&OF_USER, path, expression, Wanted::Truth)
}

fn compile(environment: &Environment, path: String, expression: &str, wanted: Wanted) -> Result<Expression, Broken> {
    let broken = |error: FieldError| Broken { error, hints: Vec::new() };
    match environment.compile(expression) {
        Ok(program) if wanted == Wanted::Truth && *program.output_type() != Type::Bool => {
            Err(broken(FieldError::invalid(path, expression, "must evaluate to bool")))
        }
        Ok(program) => Ok(Expression(program)),
        Err(issues) => match issues.instantiation_failure() {
            Some(text) => Err(broken(FieldError::internal(path, format!("program instantiation failed: {text}")))),
            None => Err(Broken {
                error: FieldError::invalid(path, expression, format!("compilation failed: {issues}")),
                hints: issues.hints().into_iter().map(str::to_owned).collect(),
            }),
        },
    }
}

impl Expression {
    /// Whether `claims.<claim>` or `claims.?<claim>` stands in it; `claims['<claim>']` does not count.
    pub(crate) fn selects(&self, claim: &str) -> bool {
        self.0.selects(CLAIMS, claim)
    }

    /// Whether `claim` stands in it as a member or as a whole text: what [`Expression::selects`] sees, and forms that it does not
    /// (`claims['<claim>']`, `dyn(claims).<claim>`).
    pub(crate) fn names(&self, claim: &str) -> bool {
        let source = self.source();
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        source.match_indices(claim).any(|(at, _)| {
            let before = source.get(..at).unwrap_or_default();
            let after = source.get(at.saturating_add(claim.len())..).unwrap_or_default();
            (before.ends_with(['.', '?']) && !after.starts_with(of_name))
                || (before.ends_with(['\'', '"']) && after.starts_with(['\'', '"']))
        })
    }

    /// What it comes to; the error is upstream's.
    pub(crate) fn evaluate(&self, variable: &dyn Activation) -> Result<Value, String> {
        let result = self.0.evaluate(variable, limits::PER_CALL_COST);
        result.map_err(|error| format!("expression '{}' resulted in error: {error}", self.source()))
    }

    /// As it is written.
    pub(crate) fn source(&self) -> &str {
        self.0.source()
    }
}

/// A variable, whose value is made when an expression first looks at it.
pub(crate) struct Variable<F> {
    name: &'static str,
    value: LazyCell<Value, F>,
}

impl<F: FnOnce() -> Value> Variable<F> {
    fn new(name: &'static str, make: F) -> Self {
        Self { name, value: LazyCell::new(make) }
    }
}

impl<F: FnOnce() -> Value> Activation for Variable<F> {
    fn resolve(&self, name: &str) -> Option<Value> {
        (name == self.name).then(|| (*self.value).clone())
    }
}

/// Whether all rules hold. The error is upstream's, which evaluates all of them before it looks at the first.
pub(crate) fn check_rules(rules: &[Rule], variable: &dyn Activation) -> Result<(), String> {
    let evaluate = |rule: &Rule| rule.expression.evaluate(variable);
    let values = rules.iter().map(evaluate).collect::<Result<Vec<_>, _>>()?;
    for (rule, value) in rules.iter().zip(values) {
        match value {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                let (expression, message) = (rule.expression.source(), &rule.message);
                return Err(format!("validation expression '{expression}' failed: {message}"));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

/// A text or a list of texts; nothing, empty texts and empty lists are none.
pub(crate) fn texts(value: &Value) -> Result<Vec<String>, String> {
    const WANTED: &str = "expression must return a string or a list of strings";
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.to_string()]),
        // Compat: upstream has forgotten the lists that Go's functions make.
        Value::List(list) if list.kind() != ListKind::Strings => {
            let texts = list.iter().map(|element| text(&element).ok_or_else(|| WANTED.to_owned()));
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
        }
        _ => Err(WANTED.to_owned()),
    }
}

/// Compat: in a list, what Go holds as a string counts as one: the name of a type, and the text in an optional value.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) | Value::Type(text) => Some(text.to_string()),
        Value::Optional(Some(value)) => text(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(expression: &str) -> Expression {
        claims_expression(String::new(), expression, Wanted::Anything).map_err(|broken| broken.error).expect(expression)
    }

    fn broken(expression: &str, wanted: Wanted) -> (String, Vec<String>) {
        let broken = claims_expression("p".to_owned(), expression, wanted).expect_err(expression);
        (broken.error.to_string(), broken.hints)
    }

    #[test]
    fn what_does_not_compile_is_said_in_upstreams_words_and_with_a_hint() {
        let (text, hints) = broken("claims.groups.map(g, g)", Wanted::Anything);
        assert!(
            text.starts_with(
                r#"p: Invalid value: "claims.groups.map(g, g)": compilation failed: ERROR: <input>:1:7: "#
            ),
            "{text}"
        );
        assert!(hints[0].contains("dyn(claims.groups)"), "{hints:?}");
        assert_eq!(broken("claims.ok", Wanted::Truth).0, r#"p: Invalid value: "claims.ok": must evaluate to bool"#);
        let (text, _) = broken("'a'.matches('[')", Wanted::Truth);
        assert!(text.contains("compilation failed") || text.contains("Internal error"), "{text}");
        assert!(user_expression(String::new(), "claims.x == 'a'").is_err(), "rules about the user do not see claims");
        assert!(user_expression(String::new(), "!user.username.startsWith('system:')").is_ok());
    }

    #[test]
    fn selections_are_found_and_look_alikes_are_not() {
        for (expression, want) in [
            ("claims.email", true),
            ("claims.?email.orValue('')", true),
            ("has(claims.email) ? 'a' : 'b'", true),
            ("'x' + string(claims . email)", true),
            ("dyn(claims.list).exists(x, x == claims.email)", true),
            ("[claims.email]", true),
            ("{'a': claims.email}.a", true),
            ("(claims).email", true),
            ("claims['email']", false),
            ("dyn(claims).email", false),
            ("claims.x.email", false),
            ("'claims.email'", false),
            ("claims.email_verified", false),
            ("claims.sub", false),
            ("(true ? claims : claims).email", false),
            ("[claims][0].email", false),
            ("{'a': claims}['a'].email", false),
            ("[claims].exists(c, c.email == 'a') ? 'a' : 'b'", false),
            ("[{'email': 'a'}].exists(claims, claims.email == 'a') ? 'a' : 'b'", true),
            ("[claims.sub].map(x, claims.?email.orValue(x))[0]", true),
            ("optional.of(claims).optMap(c, c.sub).orValue(string(claims.email))", true),
        ] {
            assert_eq!(compiled(expression).selects("email"), want, "{expression}");
        }
    }

    #[test]
    fn lists_of_texts_are_those_that_go_sees() {
        let claims = claims(&[]);
        let texts = |expression: &str| compiled(expression).evaluate(&claims).map(|value| texts(&value));
        for (expression, want) in [
            ("'a'", Some(vec!["a"])),
            ("''", Some(vec![])),
            ("null", Some(vec![])),
            ("['a', '', 'b']", Some(vec!["a", "b"])),
            ("['a'] + ['b']", Some(vec!["a", "b"])),
            ("[type(1)]", Some(vec!["int"])),
            ("[optional.of('a')]", Some(vec!["a"])),
            ("'a,b'.split(',')", None),
            ("'a,b'.split(',').map(x, x)", Some(vec!["a", "b"])),
            ("[1]", None),
            ("1", None),
            ("optional.of('a')", None),
        ] {
            let got = texts(expression).expect(expression);
            assert_eq!(got.ok(), want.map(|list| list.into_iter().map(str::to_owned).collect()), "{expression}");
        }
    }

    #[test]
    fn all_rules_are_evaluated_before_one_is_looked_at() {
        let rule =
            |expression: &str, message: &str| Rule { expression: compiled(expression), message: message.to_owned() };
        let check = |rules: &[Rule]| check_rules(rules, &claims(&[]));
        assert_eq!(check(&[rule("true", "")]), Ok(()));
        assert_eq!(
            check(&[rule("false", "no"), rule("true", "")]),
            Err("validation expression 'false' failed: no".to_owned())
        );
        assert_eq!(
            check(&[rule("false", "no"), rule("claims.x == 'a'", "")]),
            Err("expression 'claims.x == 'a'' resulted in error: no such key: x".to_owned())
        );
    }
}
