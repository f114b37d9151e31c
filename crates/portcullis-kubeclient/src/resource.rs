//! Resources by name, and which part of a list is asked for.

use portcullis_kube::meta::ListMeta;
use serde::{Deserialize, Deserializer};
use url::form_urlencoded;

/// A kind of object at one group and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; never the core one, which nothing here needs.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Plural name.
    pub plural: &'static str,
    /// Whether its objects are in namespaces; the client's own is meant then.
    pub namespaced: bool,
}

impl Resource {
    /// The path of the collection, or of one object or a part of it.
    pub(crate) fn path(&self, namespace: &str, name: Option<&str>, part: Part) -> String {
        let Self { group, version, plural, namespaced } = self;
        let mut path = format!("/apis/{group}/{version}/");
        if *namespaced {
            path.push_str("namespaces/");
            push_segment(&mut path, namespace);
            path.push('/');
        }
        path.push_str(plural);
        if let Some(name) = name {
            path.push('/');
            push_segment(&mut path, name);
        }
        if part == Part::Status {
            path.push_str("/status");
        }
        path
    }
}

/// Adds one segment of a path; everything but unreserved characters (RFC 3986 section 2.3) is encoded, so that no name
/// reaches another path. The two names that URLs take for steps are encoded as well.
fn push_segment(path: &mut String, segment: &str) {
    let step = matches!(segment, "." | "..");
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !step) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Which part of an object is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// The object; its status stays when that is a part of its own.
    #[default]
    Whole,
    /// Its status alone.
    Status,
}

/// How much of each object is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    #[default]
    Whole,
    /// Its metadata (`PartialObjectMetadata`).
    Metadata,
}

/// Which part of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery<'a> {
    /// A label selector; empty for everything.
    pub label_selector: &'a str,
    /// Most objects in one answer; 0 for no limit.
    pub limit: usize,
    /// Where the answer before ended.
    pub continue_token: Option<&'a str>,
    /// As of this version exactly; empty for now. Not with a way on, which has its version.
    pub at: &'a str,
    /// How much of each object.
    pub form: Form,
}

impl ListQuery<'_> {
    /// The query of its URL, without the question mark.
    pub(crate) fn text(&self) -> String {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        if !self.label_selector.is_empty() {
            pairs.append_pair("labelSelector", self.label_selector);
        }
        if self.limit > 0 {
            pairs.append_pair("limit", &self.limit.to_string());
        }
        if let Some(token) = self.continue_token {
            pairs.append_pair("continue", token);
        }
        if !self.at.is_empty() {
            pairs.append_pair("resourceVersion", self.at).append_pair("resourceVersionMatch", "Exact");
        }
        pairs.finish()
    }
}

/// A list, or a part of one.
#[derive(Clone, Debug, Deserialize)]
pub struct List<T> {
    /// Where it goes on, and the version that it shows.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    #[serde(bound(deserialize = "T: Deserialize<'de>"), default = "Vec::new", deserialize_with = "nullable")]
    pub items: Vec<T>,
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDGETS: Resource = Resource { group: "example.com", version: "v1", plural: "widgets", namespaced: true };

    #[test]
    fn no_name_reaches_another_path() {
        let cluster = Resource { namespaced: false, ..WIDGETS };
        for (resource, name, path) in [
            (WIDGETS, None, "/apis/example.com/v1/namespaces/ns/widgets"),
            (WIDGETS, Some("a.b-c"), "/apis/example.com/v1/namespaces/ns/widgets/a.b-c"),
            (WIDGETS, Some(".."), "/apis/example.com/v1/namespaces/ns/widgets/%2E%2E"),
            (WIDGETS, Some("a/../b?c#d%"), "/apis/example.com/v1/namespaces/ns/widgets/a%2F..%2Fb%3Fc%23d%25"),
            (WIDGETS, Some("é"), "/apis/example.com/v1/namespaces/ns/widgets/%C3%A9"),
            (cluster, Some("x"), "/apis/example.com/v1/widgets/x"),
        ] {
            assert_eq!(resource.path("ns", name, Part::Whole), path);
            assert_eq!(resource.path("ns", name, Part::Status), format!("{path}/status"));
        }
    }

    #[test]
    fn gos_null_list_is_an_empty_one() {
        for text in [r#"{"items":null,"metadata":{}}"#, "{}", r#"{"items":[]}"#] {
            assert!(serde_json::from_str::<List<u8>>(text).unwrap().items.is_empty(), "{text}");
        }
        let list: List<u8> = serde_json::from_str(r#"{"metadata":{"continue":"c"},"items":[1,2]}"#).unwrap();
        assert_eq!((list.items, list.metadata.continue_token.as_str()), (vec![1, 2], "c"));
    }
}
