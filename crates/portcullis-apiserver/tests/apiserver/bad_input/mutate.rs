//! Mistakes in JSON texts that no tree can hold: the tree carries marks, and texts are put in their places.

use serde_json::Value;

/// A tree with marks.
pub(super) struct Text {
    pub(super) tree: Value,
    raws: Vec<(String, Vec<u8>)>,
}

impl Text {
    pub(super) fn new(tree: Value) -> Self {
        Self { tree, raws: Vec::new() }
    }

    /// Puts bytes, which need not be JSON, where a value stands.
    pub(super) fn put(&mut self, pointer: &str, raw: impl AsRef<[u8]>) {
        let mark = format!("@@{}@@", self.raws.len());
        if let Some(place) = self.tree.pointer_mut(pointer) {
            *place = Value::from(mark.as_str());
        }
        self.raws.push((format!("\"{mark}\""), raw.as_ref().to_vec()));
    }

    /// Adds bytes as a further member of an object: `"name":value`.
    pub(super) fn add_member(&mut self, pointer: &str, raw: impl AsRef<[u8]>) {
        let mark = format!("@@{}@@", self.raws.len());
        if let Some(Value::Object(members)) = self.tree.pointer_mut(pointer) {
            members.insert(mark.clone(), Value::Null);
        }
        self.raws.push((format!("\"{mark}\":null"), raw.as_ref().to_vec()));
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = self.tree.to_string().into_bytes();
        for (mark, raw) in &self.raws {
            if let Some(at) = out.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                out.splice(at..at + mark.len(), raw.iter().copied());
            }
        }
        out
    }
}

/// Pointers to all values in a tree but the tree itself.
pub(super) fn pointers(tree: &Value) -> Vec<String> {
    fn walk(value: &Value, at: &str, out: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(members) => {
                members.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
            _ => Vec::new(),
        };
        for (key, value) in children {
            let pointer = format!("{at}/{key}");
            out.push(pointer.clone());
            walk(value, &pointer, out);
        }
    }
    let mut out = Vec::new();
    walk(tree, "", &mut out);
    out
}

/// Pointers to the objects in a tree, itself included.
pub(super) fn objects(tree: &Value) -> Vec<String> {
    let mut out: Vec<String> =
        pointers(tree).into_iter().filter(|at| tree.pointer(at).is_some_and(Value::is_object)).collect();
    out.insert(0, String::new());
    out
}
