//! `Accept`: JSON or YAML, as an object, a table, or metadata only.
//!
//! Compat: `apiserver/pkg/endpoints/handlers/negotiation`; clauses by descending `q`, the first that can be served wins.
//! Protobuf is never served; clients that ask for it name JSON as the next choice.

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

/// What of the objects is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table,
    /// `PartialObjectMetadata` or its list.
    Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) form: Form,
}

/// Clauses of one header that are looked at.
const MAX_CLAUSES: usize = 64;

pub(crate) struct Clause<'a> {
    pub(crate) media_type: &'a str,
    pub(crate) params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// The clauses of an `Accept` header, best first.
pub(crate) fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut out: Vec<Clause<'_>> = header
        .split(',')
        .take(MAX_CLAUSES)
        .map(|text| {
            let mut parts = text.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let params: Vec<_> =
                parts.filter_map(|part| part.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
            let quality = params.iter().find(|(key, _)| *key == "q").and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
            Clause { media_type, params, quality }
        })
        .filter(|clause| !clause.media_type.is_empty())
        .collect();
    out.sort_by(|left, right| right.quality.total_cmp(&left.quality));
    out
}

/// Whether a person is reading: `pretty`, or a browser or curl without it.
///
/// Compat: unlike other booleans, `pretty` is read by `strconv.ParseBool`.
pub(crate) fn wants_pretty(pretty: &str, user_agent: &str) -> bool {
    match pretty {
        "" => ["curl", "Wget", "Mozilla/5.0"].iter().any(|agent| user_agent.starts_with(agent)),
        value => matches!(value, "1" | "t" | "T" | "TRUE" | "true" | "True"),
    }
}

/// What is served for `header`; `None` is a 406. Forms other than the object only where `forms` allows them.
pub(crate) fn negotiate(header: &str, pretty: bool, forms: bool) -> Option<Accepted> {
    let json = if pretty { Encoding::Pretty } else { Encoding::Json };
    if header.trim().is_empty() {
        return Some(Accepted { encoding: json, form: Form::Object });
    }
    clauses(header).into_iter().find_map(|clause| {
        let encoding = match clause.media_type {
            "application/json" | "application/*" | "*/*" => json,
            "application/yaml" => Encoding::Yaml,
            _ => return None,
        };
        let form = match clause.param("as") {
            "" => Form::Object,
            _ if !forms || clause.param("g") != "meta.k8s.io" || clause.param("v") != "v1" => return None,
            "Table" => Form::Table,
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata,
            _ => return None,
        };
        Some(Accepted { encoding, form })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_that_clients_send_get_what_the_real_server_gives() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let typed = "application/vnd.kubernetes.protobuf,application/json";
        let json = |form| Some(Accepted { encoding: Encoding::Json, form });
        for (header, want) in [
            (kubectl, json(Form::Table)),
            (typed, json(Form::Object)),
            ("", json(Form::Object)),
            ("*/*", json(Form::Object)),
            ("text/html, application/json;q=0.5", json(Form::Object)),
            ("application/yaml;q=0.4, application/json", json(Form::Object)),
            ("application/yaml", Some(Accepted { encoding: Encoding::Yaml, form: Form::Object })),
            ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", json(Form::Metadata)),
            ("application/json;as=Odd;v=v1;g=meta.k8s.io", None),
            ("application/vnd.kubernetes.protobuf", None),
            ("text/foo", None),
        ] {
            assert_eq!(negotiate(header, false, true), want, "{header}");
        }
        assert_eq!(negotiate("application/json;as=Table;v=v1;g=meta.k8s.io", false, false), None);
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
            let _ = negotiate(&header, false, true);
        }
    }
}
