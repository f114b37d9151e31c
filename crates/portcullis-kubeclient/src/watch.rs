//! A watch: the changes of a collection, one by one, from a version on.

use std::marker::PhantomData;

use portcullis_kube::Status;
use portcullis_runtime::http_client::HttpLines;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::ClientError;

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The object is new, or as it is now.
    Applied(T),
    /// The object is gone; this is how it was last.
    Deleted(T),
    /// Everything up to this version has been told.
    Bookmark(String),
}

/// A watch that has begun. Dropping it ends it.
#[derive(Debug)]
pub struct Watch<T> {
    lines: Box<HttpLines>,
    of: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: portcullis_kube::meta::ListMeta,
}

impl<T: DeserializeOwned> Watch<T> {
    pub(crate) const fn new(lines: Box<HttpLines>) -> Self {
        Self { lines, of: PhantomData }
    }

    /// The next change; `None` when the server has ended the watch, which it does after the time that was asked for. Safe
    /// to drop while it waits.
    ///
    /// # Errors
    /// [`ClientError::Expired`] when the version has been forgotten and the collection must be listed anew; see
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Event<T>>, ClientError> {
        let line = self.lines.next().await.map_err(|error| ClientError::of_transport(&error))?;
        line.map(|line| event(&line)).transpose()
    }
}

fn event<T: DeserializeOwned>(line: &[u8]) -> Result<Event<T>, ClientError> {
    // serde's words can hold values; its place cannot.
    let unreadable = |error: serde_json::Error| ClientError::Unreadable { what: format!("column {}", error.column()) };
    let Frame { kind, object } = serde_json::from_slice(line).map_err(unreadable)?;
    let object = object.get();
    match kind {
        "ADDED" | "MODIFIED" => serde_json::from_str(object).map(Event::Applied).map_err(unreadable),
        "DELETED" => serde_json::from_str(object).map(Event::Deleted).map_err(unreadable),
        "BOOKMARK" => {
            let bookmark: Bookmark = serde_json::from_str(object).map_err(unreadable)?;
            Ok(Event::Bookmark(bookmark.metadata.resource_version))
        }
        "ERROR" => Err(ClientError::of_status(&serde_json::from_str::<Status>(object).map_err(unreadable)?)),
        _ => Err(ClientError::Unreadable { what: "an event of an unknown type".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(line: &str) -> Result<Event<Value>, ClientError> {
        event(line.as_bytes())
    }

    #[test]
    fn events_are_what_their_type_says() {
        assert_eq!(read(r#"{"type":"ADDED","object":{"a":1}}"#), Ok(Event::Applied(json!({"a": 1}))));
        assert_eq!(read(r#"{"object":{"a":2},"type":"MODIFIED"}"#), Ok(Event::Applied(json!({"a": 2}))));
        assert_eq!(read(r#"{"type":"DELETED","object":{}}"#), Ok(Event::Deleted(json!({}))));
        let bookmark =
            r#"{"type":"BOOKMARK","object":{"kind":"X","metadata":{"resourceVersion":"12","annotations":{}}}}"#;
        assert_eq!(read(bookmark), Ok(Event::Bookmark("12".to_owned())));
    }

    #[test]
    fn a_forgotten_version_is_told_from_other_troubles_and_nothing_is_quoted() {
        let error = |code: u16| {
            read(&format!(
                r#"{{"type":"ERROR","object":{{"kind":"Status","status":"Failure","message":"m","code":{code}}}}}"#
            ))
            .unwrap_err()
        };
        assert_eq!(error(410), ClientError::Expired);
        assert_eq!(error(429), ClientError::Throttled);
        assert_eq!(error(500), ClientError::Lost { reason: "500: m".to_owned() });
        for line in [r#"{"type":"ADDED","object":{"a":"hunter2"}"#, "", "[]", r#"{"type":"hunter2","object":{}}"#] {
            let error = read(line).unwrap_err();
            assert!(matches!(&error, ClientError::Unreadable { what } if !what.contains("hunter2")), "{error}");
        }
    }
}
