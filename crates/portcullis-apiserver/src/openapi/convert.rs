//! Schemas of OpenAPI v3 in the words of v2.
//!
//! Compat: what `kube-openapi` writes for the same Go type differs by rule: a reference with a description is `allOf` with
//! one entry in v3 and `$ref` beside it in v2, v2 has no defaults (`handler.PruneDefaults`) and no `oneOf`. Where the
//! rules do not give the real server's schema, the data has it. `examples/openapi_gen.rs` uses this very file to find out.

use serde_json::{Map, Value};

const V3: &str = "#/components/schemas/";
const V2: &str = "#/definitions/";

/// A schema of v3, with all that is in it, as v2 has it.
pub(crate) fn to_v2(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (name, value) in members {
        match name.as_str() {
            "default" => {}
            "oneOf" => {
                // Compat: a type of several JSON types is called a string.
                out.insert("type".to_owned(), Value::from("string"));
            }
            "$ref" => {
                out.insert("$ref".to_owned(), reference(value));
            }
            "allOf" => match value.as_array().map(Vec::as_slice) {
                Some([Value::Object(only)]) if only.contains_key("$ref") => {
                    out.insert("$ref".to_owned(), only.get("$ref").map(reference).unwrap_or_default());
                }
                Some(all) => {
                    out.insert("allOf".to_owned(), all.iter().map(to_v2).collect());
                }
                None => {}
            },
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let converted: Map<String, Value> =
                    properties.map(|(name, value)| (name.clone(), to_v2(value))).collect();
                out.insert("properties".to_owned(), Value::Object(converted));
            }
            "items" | "additionalProperties" => {
                out.insert(name.clone(), to_v2(value));
            }
            _ => {
                out.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

fn reference(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    Value::from(text.strip_prefix(V3).map_or_else(|| text.to_owned(), |name| format!("{V2}{name}")))
}
