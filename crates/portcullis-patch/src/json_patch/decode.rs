//! Reading the operations, as loosely as json-patch does, and reporting on them, as strictly as kube-apiserver does.
//!
//! Compat: an operation is a map upstream: names are told apart by case, the last of two members counts, an operation
//! that is null has no members, and what is wrong with a member is found only when the operation is applied.

use crate::findings::{Findings, Step};
use crate::node::Node;
use crate::text::{self, Integers, Shape};

/// One operation, its members undecoded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Operation<'a> {
    op: Member<'a>,
    path: Member<'a>,
    from: Member<'a>,
    value: Member<'a>,
}

#[derive(Debug, Clone, Copy, Default)]
enum Member<'a> {
    #[default]
    Absent,
    Null,
    Given(Shape<'a>),
}

/// Why an operation's `path` or `from` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PlaceError {
    /// It is absent or null.
    Missing,
    /// It is no string. The text is that of Go's decoder.
    NoString(String),
}

impl<'a> Operation<'a> {
    /// The operation's name; `unknown` when there is none.
    pub(crate) fn kind(&self) -> String {
        match self.op {
            Member::Given(op) => string(op).unwrap_or_else(|_| "unknown".to_owned()),
            Member::Absent | Member::Null => "unknown".to_owned(),
        }
    }

    /// The pointer to the place that the operation changes.
    pub(crate) fn path(&self) -> Result<String, PlaceError> {
        self.path.place()
    }

    /// The pointer to the place that a `move` or `copy` reads.
    pub(crate) fn from(&self) -> Result<String, PlaceError> {
        self.from.place()
    }

    /// The value; [`Node::Nil`] when the operation has none.
    pub(crate) const fn value(&self) -> Node<'a> {
        match self.value {
            Member::Absent => Node::Nil,
            Member::Null => Node::Null,
            Member::Given(value) => Node::raw(value),
        }
    }
}

impl Member<'_> {
    fn place(self) -> Result<String, PlaceError> {
        match self {
            Self::Given(place) => string(place).map_err(PlaceError::NoString),
            Self::Absent | Self::Null => Err(PlaceError::Missing),
        }
    }
}

fn string(shape: Shape<'_>) -> Result<String, String> {
    if shape.text.first() == Some(&b'"') {
        return Ok(text::text_of(shape.text).into_owned());
    }
    Err(format!("json: cannot unmarshal {} into Go value of type string", text::kind_name(shape.text)))
}

/// The operations of `patch`, which was scanned; none when it is null.
///
/// # Errors
/// What Go's decoder says when it is no list of objects.
pub(crate) fn operations(patch: &[u8]) -> Result<Vec<Operation<'_>>, String> {
    if patch.first() == Some(&b'n') {
        return Ok(Vec::new());
    }
    let wrong = |text: &[u8], into| {
        format!("json: cannot unmarshal {} into Go value of type jsonpatch.{into}", text::kind_name(text))
    };
    let elements = text::elements(patch).ok_or_else(|| wrong(patch, "Patch"))?;
    elements
        .map(|element| {
            let mut operation = Operation::default();
            if element.is_null() {
                return Ok(operation);
            }
            for (name, value) in text::members(element.text).ok_or_else(|| wrong(element.text, "Operation"))? {
                let member = if value.is_null() { Member::Null } else { Member::Given(value) };
                match &*name {
                    "op" => operation.op = member,
                    "path" => operation.path = member,
                    "from" => operation.from = member,
                    "value" => operation.value = member,
                    _ => {}
                }
            }
            Ok(operation)
        })
        .collect()
}

/// What a strict decoder reports of `patch`, which was scanned.
///
/// # Errors
/// What it says of the first member of a wrong type.
pub(crate) fn report(patch: &[u8]) -> Result<Vec<String>, String> {
    let refused = |what: String| Err(format!("error decoding patch: json: cannot unmarshal {what}"));
    if patch.first() == Some(&b'n') {
        return Ok(Vec::new());
    }
    let Some(elements) = text::elements(patch) else {
        return refused(format!("{} into Go value of type []handlers.jsonPatchOp", text::kind_name(patch)));
    };
    let mut findings = Findings::default();
    for (index, element) in elements.enumerate() {
        if element.is_null() {
            continue;
        }
        let Some(members) = text::members(element.text) else {
            return refused(format!("{} into Go value of type handlers.jsonPatchOp", text::kind_name(element.text)));
        };
        findings.path = vec![Step::Element(index)];
        let mut seen = Vec::with_capacity(4);
        for (name, value) in members {
            if !matches!(&*name, "op" | "path" | "from" | "value") {
                findings.unknown(&name);
                continue;
            }
            if seen.contains(&name) {
                findings.duplicate(&name);
            }
            if name == "value" {
                findings.path.push(Step::Member(name.clone().into_owned()));
                let read = text::value_of(value.text, Integers::AsGo, Some(&mut findings));
                findings.path.pop();
                if let Err(number) = read {
                    return refused(format!("number {number} into Go struct field jsonPatchOp.value of type float64"));
                }
            } else if !value.is_null() && value.text.first() != Some(&b'"') {
                let kind = text::kind_name(value.text);
                return refused(format!("{kind} into Go struct field jsonPatchOp.{name} of type string"));
            }
            seen.push(name);
        }
    }
    Ok(findings.into_texts().into_iter().map(|text| format!("json patch {text}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_loosely() {
        let read =
            operations(br#"[null, {"op":"add","op":"test","Path":"/x","path":null,"value":null}, {"op":7}]"#).unwrap();
        assert_eq!(read.iter().map(Operation::kind).collect::<Vec<_>>(), ["unknown", "test", "unknown"]);
        assert_eq!(read[1].path(), Err(PlaceError::Missing));
        assert!(matches!(read[1].value(), Node::Null));
        assert!(matches!(read[2].value(), Node::Nil));
        assert_eq!(operations(b"null").unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_list_of_objects_is_refused_in_the_words_of_go() {
        for (patch, want) in [
            ("{}", "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
            ("\"\"", "json: cannot unmarshal string into Go value of type jsonpatch.Patch"),
            ("[{},1]", "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
            ("[[]]", "json: cannot unmarshal array into Go value of type jsonpatch.Operation"),
        ] {
            assert_eq!(operations(patch.as_bytes()).unwrap_err(), want);
        }
    }

    #[test]
    fn a_strict_reader_refuses_wrong_types_and_reports_the_rest() {
        for (patch, want) in [
            ("true", "bool into Go value of type []handlers.jsonPatchOp"),
            ("[3]", "number into Go value of type handlers.jsonPatchOp"),
            (r#"[{"op":[]}]"#, "array into Go struct field jsonPatchOp.op of type string"),
            (r#"[{"from":{}}]"#, "object into Go struct field jsonPatchOp.from of type string"),
            (r#"[{"value":[1e999]}]"#, "number 1e999 into Go struct field jsonPatchOp.value of type float64"),
        ] {
            let want = format!("error decoding patch: json: cannot unmarshal {want}");
            assert_eq!(report(patch.as_bytes()), Err(want));
        }
        let patch = br#"[null,{"op":"add","op":null,"vale":{"x":1,"x":2},"value":{"y":[{"z":1,"z":2}]}}]"#;
        assert_eq!(
            report(patch).unwrap(),
            [
                r#"json patch duplicate field "[1].op""#,
                r#"json patch unknown field "[1].vale""#,
                r#"json patch duplicate field "[1].value.y[0].z""#,
            ]
        );
    }
}
