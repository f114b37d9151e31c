//! The API's description as data: every schema and every path of a real kube-apiserver's stable group-versions.
//!
//! `data.gz` is made by `examples/openapi_gen.rs`. Unpacked, it is text, a record a line, fields separated by tabs:
//!
//! | Record | Fields | Meaning |
//! |---|---|---|
//! | `F` | JSON | a fragment; paths refer to fragments by number, in the order in which they stand |
//! | `S` | name, JSON | a schema |
//! | `D` | place, head, tail | a document, such as `apis/apps/v1`: what stands in it before its paths and after its schemas |
//! | `V` | name, JSON | a schema that is another one in this document |
//! | `P` | path | a path of this document |
//! | `O` | method, JSON | an operation of this path (or `parameters`), with fragments as `\x01number\x02` |
//!
//! JSON is as the real server wrote it, so that documents made of it are its bytes. It stays packed until it is asked for,
//! and is dropped when the documents are made.

use std::collections::BTreeMap;

use crate::http::gzip;

static DATA: &[u8] = include_bytes!("data.gz");

/// Most that the data may unpack to, in bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Start and end of a reference to a fragment. JSON has no such characters.
pub(super) const FRAGMENT: (char, char) = ('\u{1}', '\u{2}');

/// The data, read. It borrows the unpacked text.
#[derive(Debug, Default)]
pub(super) struct Archive<'t> {
    pub(super) fragments: Vec<&'t str>,
    pub(super) schemas: BTreeMap<&'t str, &'t str>,
    pub(super) documents: BTreeMap<&'t str, Document<'t>>,
}

/// One group-version's document.
#[derive(Debug, Default)]
pub(super) struct Document<'t> {
    pub(super) head: &'t str,
    pub(super) tail: &'t str,
    pub(super) schemas: BTreeMap<&'t str, &'t str>,
    /// In the real server's order.
    pub(super) paths: Vec<PathItem<'t>>,
}

/// A path and its operations.
#[derive(Debug)]
pub(super) struct PathItem<'t> {
    pub(super) path: &'t str,
    /// Method (or `parameters`) and JSON.
    pub(super) operations: Vec<(&'t str, &'t str)>,
}

/// The data as text; `None` when it is damaged, which a test excludes.
pub(super) fn unpack() -> Option<String> {
    String::from_utf8(gzip::decompress(DATA, MAX_BYTES)?).ok()
}

/// What identifies the data.
pub(super) fn digest() -> String {
    crate::discovery::hash(DATA)
}

impl<'t> Archive<'t> {
    /// Reads the text. Lines that are not understood are left out; a test shows that there is none.
    pub(super) fn parse(text: &'t str) -> Self {
        let mut archive = Self::default();
        let mut place = "";
        for line in text.lines() {
            let mut fields = line.split('\t');
            let record = (fields.next(), fields.next(), fields.next(), fields.next());
            match record {
                (Some("F"), Some(json), None, _) => archive.fragments.push(json),
                (Some("S"), Some(name), Some(json), None) => {
                    archive.schemas.insert(name, json);
                }
                (Some("D"), Some(name), Some(head), Some(tail)) => {
                    place = name;
                    archive.documents.insert(name, Document { head, tail, ..Document::default() });
                }
                _ => {
                    if let Some(document) = archive.documents.get_mut(place) {
                        document.record(record);
                    }
                }
            }
        }
        archive
    }
}

impl<'t> Document<'t> {
    fn record(&mut self, record: (Option<&'t str>, Option<&'t str>, Option<&'t str>, Option<&'t str>)) {
        match record {
            (Some("V"), Some(name), Some(json), None) => {
                self.schemas.insert(name, json);
            }
            (Some("P"), Some(path), None, _) => self.paths.push(PathItem { path, operations: Vec::new() }),
            (Some("O"), Some(method), Some(json), None) => {
                if let Some(item) = self.paths.last_mut() {
                    item.operations.push((method, json));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_is_understood() {
        let text = unpack().unwrap();
        let archive = Archive::parse(&text);
        let documents = archive.documents.values();
        let paths: usize = documents.clone().map(|document| document.paths.len()).sum();
        let operations: usize = documents.clone().flat_map(|d| &d.paths).map(|item| item.operations.len()).sum();
        let own: usize = documents.map(|document| document.schemas.len()).sum();
        let read = archive.fragments.len() + archive.schemas.len() + archive.documents.len() + paths + operations + own;
        assert_eq!(read, text.lines().count());
        assert!(archive.documents.len() > 20 && archive.schemas.len() > 500);
    }

    #[test]
    fn the_data_fits_its_limit_with_room() {
        assert!(u64::try_from(unpack().unwrap().len()).unwrap() < MAX_BYTES / 2);
        assert!(DATA.len() < 400_000, "the binary carries {} bytes", DATA.len());
    }
}
