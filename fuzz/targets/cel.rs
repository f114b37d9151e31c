//! CEL: any text either compiles or says where it does not, and what compiles ends within its cost and in bounded memory, with
//! the same outcome each time.
//!
//! The input is an expression and, behind a NUL, a JSON object of claims.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use portcullis_cel::{Environment, EvalError, Fields, ObjectType, Type, Value};
use portcullis_fuzz::Limit;

/// Cost that an input may have; the step that passes it is the last.
const COST: u64 = 20_000;

/// Memory that an input may take, in bytes: the longest list that one function makes is one of a million numbers.
const MEMORY: usize = 256 << 20;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (expression, claims) = text.split_once('\0').unwrap_or((text, "{}"));
    let _limit = Limit::of(MEMORY + 64 * data.len());
    let user = ObjectType { name: "kubernetes.UserInfo".into(), fields: vec![("username".into(), Type::String)] };
    let environment = Environment::new()
        .object(user)
        .variable("user", Type::object("kubernetes.UserInfo"))
        .variable("claims", Type::map(Type::String, Type::Any));
    let program = match environment.compile(expression) {
        Ok(program) => program,
        Err(issues) => {
            assert!(issues.iter().next().is_some(), "what does not compile says why");
            assert!(!issues.to_string().is_empty());
            return;
        }
    };
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(claims) else { return };
    let fields = members.iter().map(|(name, value)| (Arc::from(name.as_str()), Value::from_json(value)));
    let variables = ("claims", Value::Object(Arc::new(Fields::new("kubernetes.claims", fields))));
    let evaluation = program.evaluate_counted(&variables, COST);
    let over = evaluation.cost > COST;
    match &evaluation.result {
        Err(EvalError::CostLimit) => assert!(over, "the limit ends nothing that keeps to it"),
        // What a step made was too large, which is found before its cost is.
        Err(EvalError::TooLarge(_)) => {}
        _ => assert!(!over, "the limit ends what passes it"),
    }
    let again = program.evaluate_counted(&variables, COST);
    assert_eq!(again.cost, evaluation.cost);
    assert_eq!(format!("{:?}", again.result), format!("{:?}", evaluation.result));
});
