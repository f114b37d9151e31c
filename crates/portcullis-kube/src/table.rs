//! `meta.k8s.io/v1` Table: rows and columns that kubectl prints as they come.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::meta::ListMeta;
use crate::wire::nullable;

/// Group and version.
pub const API_VERSION: &str = "meta.k8s.io/v1";

/// A table of objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Table {
    /// `Table`.
    pub kind: String,
    /// [`API_VERSION`], or `meta.k8s.io/v1beta1` when the client asked for that.
    pub api_version: String,
    /// That of the list.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ListMeta,
    /// The columns; empty in later events of a watch.
    #[serde(deserialize_with = "nullable")]
    pub column_definitions: Vec<ColumnDefinition>,
    /// The rows.
    #[serde(deserialize_with = "nullable")]
    pub rows: Vec<Row>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            kind: "Table".to_owned(),
            api_version: API_VERSION.to_owned(),
            metadata: ListMeta::default(),
            column_definitions: Vec::new(),
            rows: Vec::new(),
        }
    }
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ColumnDefinition {
    /// Printed in capitals.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `name` for the column that names the object.
    pub format: String,
    /// For people.
    pub description: String,
    /// Above 0: only with `-o wide`.
    pub priority: i32,
}

impl ColumnDefinition {
    /// A column of strings that is always shown.
    pub fn new(name: &str, kind: &str, description: &str) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned(), description: description.to_owned(), ..Self::default() }
    }
}

/// A row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Row {
    /// One value a column: string, number, boolean or `null`.
    pub cells: Vec<Value>,
    /// For example `Completed`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub conditions: Vec<RowCondition>,
    /// What `includeObject` asked for; `null` for `None`.
    pub object: Value,
}

/// A condition of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RowCondition {
    /// `Completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// For programs.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_prints_as_the_server_does() {
        let table = Table {
            metadata: ListMeta { resource_version: "7".to_owned(), ..ListMeta::default() },
            column_definitions: vec![ColumnDefinition {
                format: "name".to_owned(),
                ..ColumnDefinition::new("Name", "string", "d")
            }],
            rows: vec![Row { cells: vec!["p".into(), 1.into(), Value::Null], ..Row::default() }],
            ..Table::default()
        };
        let want = r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"columnDefinitions":[{"name":"Name","type":"string","format":"name","description":"d","priority":0}],"rows":[{"cells":["p",1,null],"object":null}]}"#;
        assert_eq!(serde_json::to_string(&table).unwrap(), want);
        assert_eq!(serde_json::from_str::<Table>(want).unwrap(), table);
    }
}
