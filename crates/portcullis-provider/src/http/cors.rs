//! Cross-origin requests to the endpoints that scripts may call.
//!
//! Compat: the answers of Go's `gorilla/handlers` CORS, which Dex uses on discovery, keys, token, userinfo and `/`. One
//! addition: `Vary: Origin` whenever the answer depends on it, so that caches do not mix origins up.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::reply::Reply;

const SIMPLE_HEADERS: &[&str] = &["accept", "accept-language", "content-language", "origin"];
const SIMPLE_METHODS: &[&str] = &["GET", "HEAD", "POST"];

/// What is allowed. Without origins nothing is, and no header is added.
#[derive(Debug, Clone)]
pub(crate) struct Cors {
    origins: Vec<String>,
    headers: Vec<HeaderName>,
}

/// What to do with a request.
pub(crate) enum Decision {
    /// Answer it, and add these headers.
    Serve(Vec<(HeaderName, HeaderValue)>),
    /// Answer with this.
    Answer(Box<Reply>),
}

impl Cors {
    pub(crate) fn new(origins: &[String], headers: &[String]) -> Self {
        let headers = headers.iter().filter_map(|h| HeaderName::from_bytes(h.as_bytes()).ok()).collect();
        Self { origins: origins.to_vec(), headers }
    }

    pub(crate) fn decide(&self, method: &Method, headers: &HeaderMap) -> Decision {
        if self.origins.is_empty() {
            return Decision::Serve(Vec::new());
        }
        let any = self.origins.iter().any(|o| o == "*");
        let mut added = Vec::new();
        if !any {
            added.push((header::VARY, HeaderValue::from_static("Origin")));
        }
        let origin = headers
            .get(header::ORIGIN)
            .filter(|origin| any || self.origins.iter().any(|o| o.as_bytes() == origin.as_bytes()));
        let Some(origin) = origin.filter(|o| !o.is_empty()) else {
            return match *method {
                Method::OPTIONS => Decision::Answer(Box::new(plain(StatusCode::OK, added))),
                _ => Decision::Serve(added),
            };
        };
        if *method == Method::OPTIONS {
            let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) else {
                return Decision::Answer(Box::new(plain(StatusCode::BAD_REQUEST, added)));
            };
            if !SIMPLE_METHODS.iter().any(|m| m.as_bytes() == wanted.as_bytes()) {
                return Decision::Answer(Box::new(plain(StatusCode::METHOD_NOT_ALLOWED, added)));
            }
            match self.allowed_headers(headers) {
                Err(()) => return Decision::Answer(Box::new(plain(StatusCode::FORBIDDEN, added))),
                Ok(Some(list)) => added.push((header::ACCESS_CONTROL_ALLOW_HEADERS, list)),
                Ok(None) => {}
            }
        }
        let allowed = if any { HeaderValue::from_static("*") } else { origin.clone() };
        added.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed));
        match *method {
            Method::OPTIONS => Decision::Answer(Box::new(plain(StatusCode::OK, added))),
            _ => Decision::Serve(added),
        }
    }

    /// The wanted headers if all are allowed.
    fn allowed_headers(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, ()> {
        let wanted =
            headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).map_or(Ok(""), |h| h.to_str()).map_err(|_| ())?;
        let mut out: Vec<String> = Vec::new();
        for name in wanted.split(',').map(|n| n.trim().to_ascii_lowercase()).filter(|n| !n.is_empty()) {
            if SIMPLE_HEADERS.contains(&name.as_str()) {
                continue;
            }
            if !self.headers.iter().any(|h| h.as_str() == name) {
                return Err(());
            }
            out.push(name);
        }
        if out.is_empty() { Ok(None) } else { HeaderValue::from_str(&out.join(",")).map(Some).map_err(|_| ()) }
    }
}

fn plain(status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>) -> Reply {
    let mut reply = Reply::new(bytes::Bytes::new());
    *reply.status_mut() = status;
    reply.headers_mut().extend(headers);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(origins: &[&str], method: Method, headers: &[(&str, &str)]) -> (Option<u16>, Vec<String>) {
        let cors =
            Cors::new(&origins.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>(), &["Authorization".to_owned()]);
        let map: HeaderMap = headers
            .iter()
            .map(|(k, v)| (HeaderName::from_bytes(k.as_bytes()).unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect();
        let show = |h: &HeaderName, v: &HeaderValue| format!("{h}: {}", v.to_str().unwrap());
        match cors.decide(&method, &map) {
            Decision::Serve(added) => (None, added.iter().map(|(h, v)| show(h, v)).collect()),
            Decision::Answer(reply) => {
                (Some(reply.status().as_u16()), reply.headers().iter().map(|(h, v)| show(h, v)).collect())
            }
        }
    }

    #[test]
    fn without_origins_nothing_is_added() {
        assert_eq!(decide(&[], Method::GET, &[("origin", "https://a")]), (None, vec![]));
        assert_eq!(decide(&[], Method::OPTIONS, &[("origin", "https://a")]), (None, vec![]));
    }

    #[test]
    fn listed_origins_are_answered_and_others_are_not() {
        let ok = "access-control-allow-origin: https://a".to_owned();
        let vary = "vary: Origin".to_owned();
        assert_eq!(decide(&["https://a"], Method::POST, &[("origin", "https://a")]), (None, vec![vary.clone(), ok]));
        for other in ["https://b", "https://a.evil", "null", "HTTPS://A"] {
            assert_eq!(
                decide(&["https://a"], Method::POST, &[("origin", other)]),
                (None, vec![vary.clone()]),
                "{other}"
            );
        }
        assert_eq!(
            decide(&["*"], Method::GET, &[("origin", "https://z")]),
            (None, vec!["access-control-allow-origin: *".to_owned()])
        );
        assert_eq!(decide(&["*"], Method::GET, &[]), (None, vec![]));
    }

    #[test]
    fn preflights_are_answered_as_gorilla_does() {
        let origin = ("origin", "https://a");
        let method = |m| ("access-control-request-method", m);
        let headers = |h| ("access-control-request-headers", h);
        for (request, want) in [
            (vec![origin], 400),
            (vec![origin, method("POST")], 200),
            (vec![origin, method("DELETE")], 405),
            (vec![origin, method("GET"), headers("authorization, accept")], 200),
            (vec![origin, method("GET"), headers("x-evil")], 403),
            (vec![("origin", "https://b"), method("GET")], 200),
        ] {
            let (status, added) = decide(&["https://a"], Method::OPTIONS, &request);
            assert_eq!(status, Some(want), "{request:?}");
            let allowed = added.iter().any(|h| h.starts_with("access-control-allow-origin"));
            assert_eq!(allowed, want == 200 && request[0] == origin, "{request:?}");
        }
        let (_, added) = decide(&["*"], Method::OPTIONS, &[origin, method("GET"), headers("Authorization")]);
        assert_eq!(added, ["access-control-allow-headers: authorization", "access-control-allow-origin: *"]);
    }
}
