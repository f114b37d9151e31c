//! Prints a Kubernetes Table as `kubectl get --all-namespaces` does.
//!
//! Columns of priority 0, upper-case headings, three spaces between columns, no trailing spaces (kubectl's
//! `printers.TabularOutput` pads the last column too; that is invisible and left out).

use serde_json::Value;

/// Spaces between columns, as kubectl's tab writer has them.
const PADDING: usize = 3;
/// The least width of a column, likewise.
const MIN_WIDTH: usize = 6;

/// Why a table cannot be printed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The answer is not a `meta.k8s.io` Table.
    #[error("the API server did not answer with a table but with {0:?}")]
    NotATable(String),
}

/// The lines of the table, with a NAMESPACE column first; `No resources found` when it has no rows.
///
/// # Errors
/// The value is not a Table.
pub fn render(table: &Value) -> Result<Vec<String>, TableError> {
    let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
    let (Some(columns), "Table") = (table.get("columnDefinitions").and_then(Value::as_array), kind) else {
        return Err(TableError::NotATable(kind.to_owned()));
    };
    let shown: Vec<(usize, &str)> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.get("priority").and_then(Value::as_i64).unwrap_or(0) == 0)
        .map(|(index, column)| (index, column.get("name").and_then(Value::as_str).unwrap_or_default()))
        .collect();
    let rows = table.get("rows").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return Ok(vec!["No resources found".to_owned()]);
    }
    let mut lines = vec![
        std::iter::once("NAMESPACE".to_owned())
            .chain(shown.iter().map(|(_, name)| name.to_uppercase()))
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        let namespace = row.pointer("/object/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        let cells = shown
            .iter()
            .map(|(index, _)| row.get("cells").and_then(|cells| cells.get(index)).map(cell).unwrap_or_default());
        lines.push(std::iter::once(namespace.to_owned()).chain(cells).collect());
    }
    Ok(align(&lines))
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}

/// Text of an object may hold control characters; a terminal must not act on them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn align(lines: &[Vec<String>]) -> Vec<String> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
            .max(MIN_WIDTH - PADDING)
            + PADDING
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let join = |line: &Vec<String>| {
        let padded: String = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.trim_end().to_owned()
    };
    lines.iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_guides_table_looks_as_kubectl_prints_it() {
        let table = json!({
            "kind": "Table",
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Ready"}, {"name": "Restarts"}, {"name": "IP", "priority": 1}],
            "rows": [{"cells": ["dex-0", "1/1", 0, "127.0.0.1"], "object": {"metadata": {"namespace": "kube-system"}}}]
        });
        assert_eq!(
            render(&table).unwrap(),
            ["NAMESPACE     NAME    READY   RESTARTS", "kube-system   dex-0   1/1     0"]
        );
    }

    #[test]
    fn an_empty_table_says_so_and_another_kind_is_an_error() {
        assert_eq!(render(&json!({"kind": "Table", "columnDefinitions": []})).unwrap(), ["No resources found"]);
        assert_eq!(render(&json!({"kind": "PodList"})), Err(TableError::NotATable("PodList".to_owned())));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let table =
            json!({"kind": "Table", "columnDefinitions": [{"name": "Name"}], "rows": [{"cells": ["a\u{1b}[31mb"]}]});
        assert!(!render(&table).unwrap().join("\n").replace('\n', "").contains('\u{1b}'));
    }
}
