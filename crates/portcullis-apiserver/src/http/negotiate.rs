//! `Accept`: JSON or YAML, as an object, a table, or metadata only.
//!
//! Two look at it, one after the other: the router, which takes exact media types and `*/*` alone, and the handler, which
//! reads clauses with their parameters.
//!
//! Compat: `go-restful`'s `matchesAccept`, `munnerz/goautoneg` and `apiserver/pkg/endpoints/handlers/negotiation`. Protobuf is
//! never served; a clause for it is passed over.

use portcullis_kube::go::parse_bool;

/// What objects are written in.
pub(crate) const TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Clauses that are sorted as Go's `sort.Sort` sorts a short list, whose order is not one that sorting means. A longer list
/// is sorted by what that order says first.
const SHORT: usize = 12;

/// How the bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    /// Indented, for people.
    Pretty,
    Yaml,
}

impl Encoding {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Pretty => "application/json",
            Self::Yaml => "application/yaml",
        }
    }
}

/// A version of `meta.k8s.io`, in which tables and metadata are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub(crate) const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What of the objects is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table(MetaVersion),
    /// `PartialObjectMetadata`.
    Metadata(MetaVersion),
    /// `PartialObjectMetadataList`.
    MetadataList(MetaVersion),
    /// `APIGroupDiscoveryList`.
    Discovery,
}

/// The forms that a path has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forms {
    /// The object alone.
    Object,
    /// Metadata too.
    Metadata,
    /// Metadata and tables too.
    All,
    /// Aggregated discovery alone.
    Discovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) form: Form,
}

/// A clause that names a type and a subtype.
#[derive(Debug)]
pub(crate) struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    /// Compat: a clause that is no media type is passed over, and so is a parameter without a value.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let mut types = parts.next().unwrap_or_default().splitn(2, '/');
        let kind = types.next().unwrap_or_default().trim_matches(' ');
        let subtype = match types.next().unwrap_or_default() {
            "" if kind == "*" => "*",
            "" => return None,
            // One slash at its end counts for nothing.
            subtype => subtype.strip_suffix('/').unwrap_or(subtype),
        };
        if subtype.contains('/') {
            return None;
        }
        let mut clause = Self { kind, subtype: subtype.trim_matches(' '), params: Vec::new(), quality: 1.0 };
        for part in parts {
            let Some((name, value)) = part.split_once('=').filter(|(_, value)| !value.is_empty()) else { continue };
            let value = value.strip_suffix('=').unwrap_or(value);
            if value.contains('=') {
                continue;
            }
            match name.trim_matches(' ') {
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                name => clause.params.push((name, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    /// The last value of a parameter that has one.
    fn param(&self, name: &str) -> Option<&'a str> {
        self.params.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Whether it means a media type. Compat: as negotiation reads it, where only the subtype may be a wildcard alone.
    fn takes(&self, kind: &str, subtype: &str) -> bool {
        match (self.kind, self.subtype) {
            ("*", "*") => true,
            (own, "*") => own == kind,
            own => own == (kind, subtype),
        }
    }

    /// The same, as OpenAPI's handlers read it: each half may be a wildcard.
    pub(crate) fn takes_either(&self, kind: &str, subtype: &str) -> bool {
        [kind, "*"].contains(&self.kind) && [subtype, "*"].contains(&self.subtype)
    }

    /// Compat: `goautoneg`'s order, which is none: with different qualities both may come before the other.
    fn before(&self, other: &Self) -> bool {
        self.quality > other.quality
            || (self.kind != "*" && other.kind == "*")
            || (self.subtype != "*" && other.subtype == "*")
    }

    /// The form that it asks for, if a path with `forms` has it in a media type.
    fn form(&self, subtype: &str, forms: Forms) -> Option<Form> {
        let filled = |name: &str| self.param(name).filter(|value| !value.is_empty());
        let streams = subtype != "yaml";
        if filled("stream").is_some_and(|stream| !streams || stream != "watch") {
            return None;
        }
        let of_objects = matches!(forms, Forms::Metadata | Forms::All);
        if filled("sv").is_some_and(|version| !of_objects || version != "v1") {
            return None;
        }
        let asked = [self.param("as"), self.param("g"), self.param("v")];
        if asked == [None; 3] {
            return (forms != Forms::Discovery).then_some(Form::Object);
        }
        let [kind, group, version] = asked.map(Option::unwrap_or_default);
        if forms == Forms::Discovery {
            let discovery = ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2");
            return ((kind, group, version) == discovery).then_some(Form::Discovery);
        }
        let version = match (group, version) {
            _ if !of_objects => return None,
            ("meta.k8s.io", "v1") => MetaVersion::V1,
            ("meta.k8s.io", "v1beta1") => MetaVersion::V1Beta1,
            _ => return None,
        };
        match kind {
            "Table" => (forms == Forms::All).then_some(Form::Table(version)),
            "PartialObjectMetadata" => Some(Form::Metadata(version)),
            "PartialObjectMetadataList" => Some(Form::MetadataList(version)),
            _ => None,
        }
    }
}

/// The clauses of an `Accept` header, best first.
pub(crate) fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause<'_>> =
        header.split(',').map(|text| text.trim_matches(' ')).filter_map(Clause::read).collect();
    if out.len() > SHORT {
        out.sort_by(|left, right| {
            let wild = |clause: &Clause<'_>| (clause.kind == "*", clause.subtype == "*");
            right.quality.total_cmp(&left.quality).then_with(|| wild(left).cmp(&wild(right)))
        });
        return out;
    }
    for start in 1..out.len() {
        let mut at = start;
        while let Some([left, right]) = out.get(at.wrapping_sub(1)..=at)
            && right.before(left)
        {
            out.swap(at - 1, at);
            at -= 1;
        }
    }
    out
}

/// Whether a person is reading: `pretty`, or a browser or curl without it.
///
/// Compat: unlike other booleans, `pretty` is read by `strconv.ParseBool`.
pub(crate) fn wants_pretty(pretty: &str, user_agent: &str) -> bool {
    match pretty {
        "" => ["curl", "Wget", "Mozilla/5.0"].iter().any(|agent| user_agent.starts_with(agent)),
        value => parse_bool(value).unwrap_or(false),
    }
}

/// Whether the router lets a request through to a path that produces those media types.
///
/// Compat: no wildcard counts but `*/*`, and no parameter.
pub(crate) fn routed(header: &str, produced: &[&str]) -> bool {
    let mut types = header.split(',').map(|part| part.split(';').next().unwrap_or_default().trim_matches(' '));
    header.is_empty() || types.any(|media_type| media_type == "*/*" || produced.contains(&media_type))
}

/// What a handler serves for `header`; `None` is a 406.
pub(crate) fn negotiate(header: &str, pretty: bool, forms: Forms) -> Option<Accepted> {
    let json = |pretty| if pretty { Encoding::Pretty } else { Encoding::Json };
    if header.is_empty() {
        return (forms != Forms::Discovery).then_some(Accepted { encoding: json(pretty), form: Form::Object });
    }
    clauses(header).into_iter().find_map(|clause| {
        ["json", "yaml"].into_iter().filter(|subtype| clause.takes("application", subtype)).find_map(|subtype| {
            let form = clause.form(subtype, forms)?;
            let pretty = pretty || clause.param("pretty") == Some("1");
            Some(Accepted { encoding: if subtype == "yaml" { Encoding::Yaml } else { json(pretty) }, form })
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: MetaVersion = MetaVersion::V1;

    #[test]
    fn headers_that_clients_send_get_what_the_real_server_gives() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let typed = "application/vnd.kubernetes.protobuf,application/json";
        let json = |form| Some(Accepted { encoding: Encoding::Json, form });
        for (header, want) in [
            (kubectl, json(Form::Table(V1))),
            (typed, json(Form::Object)),
            ("", json(Form::Object)),
            ("*/*", json(Form::Object)),
            ("*", json(Form::Object)),
            ("application/*", json(Form::Object)),
            ("text/html, application/json;q=0.5", json(Form::Object)),
            ("application/yaml;q=0.4, application/json", json(Form::Object)),
            ("application/json;stream=watch", json(Form::Object)),
            ("application/json;sv=v1", json(Form::Object)),
            ("application/json;pretty=1", Some(Accepted { encoding: Encoding::Pretty, form: Form::Object })),
            ("application/yaml", Some(Accepted { encoding: Encoding::Yaml, form: Form::Object })),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", json(Form::Metadata(V1))),
            ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", json(Form::MetadataList(V1))),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", json(Form::Table(MetaVersion::V1Beta1))),
            ("application/json;as=Odd;v=v1;g=meta.k8s.io", None),
            ("application/json;as=Table;v=v1", None),
            ("application/json;v=v1", None),
            ("application/json;stream=odd", None),
            ("application/yaml;stream=watch", None),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/foo", None),
            (",", None),
        ] {
            assert_eq!(negotiate(header, false, Forms::All), want, "{header}");
        }
        assert_eq!(negotiate("application/json;as=Table;v=v1;g=meta.k8s.io", false, Forms::Metadata), None);
        assert_eq!(negotiate("application/json;as=Table;v=v1;g=meta.k8s.io", false, Forms::Object), None);
        assert_eq!(negotiate("application/json;sv=v1", false, Forms::Object), None);
    }

    #[test]
    fn the_router_takes_exact_types_only() {
        for (header, want) in [
            ("", true),
            ("*/*", true),
            ("text/html, */* ;q=0", true),
            ("application/json;odd", true),
            ("application/*", false),
            ("*", false),
            (",", false),
            ("APPLICATION/JSON", false),
        ] {
            assert_eq!(routed(header, &TYPES), want, "{header}");
        }
    }

    #[test]
    fn clauses_are_read_as_go_reads_them() {
        let read = |header: &str| {
            let read = clauses(header).into_iter();
            read.map(|clause| format!("{}/{} {} {:?}", clause.kind, clause.subtype, clause.quality, clause.params))
                .collect::<Vec<_>>()
        };
        assert_eq!(read("a/b/c, a, a/, *, a/b/"), ["a/b 1 []", "*/* 1 []"]);
        assert_eq!(
            read("a/b;q=x;c;d=;e==;f=g=h;i=j=;k= l "),
            ["a/b 0 [(\"e\", \"\"), (\"i\", \"j\"), (\"k\", \"l\")]"]
        );
        assert_eq!(read("a/b;q=0.5,c/d"), ["c/d 1 []", "a/b 0.5 []"]);
        // What is exact passes a wildcard whatever their qualities are.
        assert_eq!(read("*/*,a/b;q=0.1"), ["a/b 0.1 []", "*/* 1 []"]);
    }

    #[test]
    fn a_long_list_is_sorted_too() {
        let header = format!("{}application/yaml;q=0.5,application/json", "a/b,".repeat(2 * SHORT));
        assert_eq!(negotiate(&header, false, Forms::Object).map(|accepted| accepted.encoding), Some(Encoding::Json));
    }

    #[test]
    fn people_get_indentation() {
        for (pretty, agent, want) in [
            ("", "curl/8", true),
            ("", "kubectl/v1.37", false),
            ("true", "", true),
            ("yes", "", false),
            ("false", "curl/8", false),
        ] {
            assert_eq!(wants_pretty(pretty, agent), want);
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "[a-z/;=,*. q0-9]{0,80}") {
            let _ = negotiate(&header, false, Forms::All);
        }
    }
}
