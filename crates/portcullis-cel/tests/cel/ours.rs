//! Our answer, in the form of upstream's.

use std::sync::Arc;

use portcullis_cel::{Environment, Fields, List, ListKind, Map, ObjectType, Type, Value, limits};

use crate::oracle::{Case, Outcome};

/// The variable `claims`.
pub(crate) fn claims() -> Environment {
    Environment::new().variable("claims", Type::map(Type::String, Type::Any))
}

/// The variable `user` and its type.
pub(crate) fn user() -> Environment {
    let texts = || Type::list(Type::String);
    let fields = [
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", texts()),
        ("extra", Type::map(Type::String, texts())),
    ];
    let fields = fields.into_iter().map(|(name, type_)| (name.into(), type_)).collect();
    Environment::new()
        .object(ObjectType { name: "kubernetes.UserInfo".into(), fields })
        .variable("user", Type::object("kubernetes.UserInfo"))
}

/// A value for the variable, from JSON.
pub(crate) fn variable(name: &str, json: &str) -> Value {
    let json: serde_json::Value = serde_json::from_str(json).expect("the values are JSON");
    let members = json.as_object().expect("the values are objects");
    if name == "claims" {
        let fields = members.iter().map(|(name, value)| (Arc::from(name.as_str()), Value::from_json(value)));
        return Value::Object(Arc::new(Fields::new("kubernetes.claims", fields)));
    }
    let text = |name: &str| Value::from(json[name].as_str().unwrap_or_default());
    let list = |value: &serde_json::Value| {
        List::of_strings(value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str))
    };
    let extra = json["extra"].as_object().into_iter().flatten();
    let extra = Map::of_string_lists(extra.map(|(name, value)| (name.as_str().into(), list(value))));
    let fields = [
        ("username", text("username")),
        ("uid", text("uid")),
        ("groups", Value::List(list(&json["groups"]))),
        ("extra", Value::Map(extra)),
    ];
    let fields = fields.into_iter().map(|(name, value)| (Arc::from(name), value));
    Value::Object(Arc::new(Fields::new("kubernetes.UserInfo", fields)))
}

pub(crate) fn answer(case: &Case) -> Outcome {
    let mut outcome = Outcome {
        stage: String::new(),
        text: String::new(),
        first: String::new(),
        line: 0,
        column: 0,
        output: String::new(),
        value: String::new(),
        native: String::new(),
        cost: 0,
    };
    let environment = if case.variable == "claims" { claims() } else { user() };
    let program = match environment.compile(&case.expression) {
        Ok(program) => program,
        Err(issues) => {
            if let Some(text) = issues.instantiation_failure() {
                outcome.stage = "program".to_owned();
                outcome.text = format!("program instantiation failed: {text}");
                return outcome;
            }
            outcome.stage = "compile".to_owned();
            outcome.text = format!("compilation failed: {issues}");
            if let Some(first) = issues.iter().next() {
                outcome.first.clone_from(&first.message);
                outcome.line = i64::from(first.location.line);
                outcome.column = i64::from(first.location.column);
            }
            return outcome;
        }
    };
    outcome.output = program.output_type().to_string();
    let variables = (case.variable, variable(case.variable, case.value));
    let evaluation = program.evaluate_counted(&variables, limits::PER_CALL_COST);
    outcome.cost = evaluation.cost;
    match evaluation.result {
        Ok(value) => {
            outcome.stage = "value".to_owned();
            outcome.value = encode(&value);
            if let Value::List(list) = &value {
                outcome.native = match list.kind() {
                    ListKind::Strings => "[]string",
                    ListKind::Values => "[]ref.Val",
                    ListKind::Anything => "[]interface {}",
                }
                .to_owned();
            }
        }
        Err(error) => {
            outcome.stage = "error".to_owned();
            outcome.text = error.to_string();
        }
    }
    outcome
}

/// A value as `cel-oracle` writes it.
pub(crate) fn encode(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => format!("int({value})"),
        Value::Uint(value) => format!("uint({value})"),
        Value::Double(value) => format!("double({})", double(*value)),
        Value::String(text) => serde_json::Value::from(&**text).to_string(),
        Value::Bytes(bytes) => {
            format!("bytes({})", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Value::Duration(nanoseconds) => format!("duration({nanoseconds})"),
        Value::Timestamp(time) => format!("timestamp({time})"),
        Value::Type(name) => format!("type({name})"),
        Value::Optional(None) => "optional()".to_owned(),
        Value::Optional(Some(value)) => format!("optional({})", encode(value)),
        Value::Url(url) => format!("url({})", serde_json::Value::from(url.to_string())),
        Value::Ip(_) => format!("ip({value:?})"),
        Value::Cidr(_) => format!("cidr({value:?})"),
        Value::Quantity(_) => format!("quantity({value:?})"),
        Value::Semver(_) => format!("semver({value:?})"),
        Value::Format(_) => format!("format({value:?})"),
        Value::Object(object) => format!("object({})", object.type_name()),
        Value::List(list) => format!("[{}]", list.iter().map(|item| encode(&item)).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let mut parts: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", encode(&key), encode(&value))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // Of two shortest texts Go takes the even one.
    let text = format!("{value:e}");
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let rounded = format!("{value:.*e}", digits - 1);
    let text = if rounded.parse() == Ok(value) { rounded } else { text };
    let (digits, exponent) = text.split_once('e').expect("an exponent is written");
    let exponent: i32 = exponent.parse().expect("exponents are numbers");
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
