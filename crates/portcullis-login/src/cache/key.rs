//! kubelogin's token cache key: the file name under which a login is found again.
//!
//! Compat: SHA-256 over the gob stream of `tokencache.Key`, layout of kubelogin v1.36.0 and later (reference section
//! 3.2). Go writes maps in random order, so with two or more entries kubelogin's own name changes from run to run; ours
//! is the one with sorted keys, and [`CacheKey::candidates`] lists every order that kubelogin may have used, for maps of
//! up to four entries.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

use super::gob::Struct;

/// `auto`, `no` or `S256`, with the numbers of kubelogin's `oidc.PKCEMethod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PkceOption {
    /// Use S256 when the provider lists it.
    #[default]
    Auto,
    /// Never use PKCE.
    No,
    /// Always use S256.
    S256,
}

/// TLS renegotiation as asked for on the command line. Part of the key only: rustls has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Renegotiation {
    /// Not asked for.
    #[default]
    Never,
    /// `--tls-renegotiation-once`.
    Once,
    /// `--tls-renegotiation-freely`.
    Freely,
}

/// Everything that tells one cached login from another.
#[derive(Debug, Clone, Default)]
pub(crate) struct CacheKey {
    /// `--oidc-issuer-url`.
    pub(crate) issuer_url: String,
    /// `--oidc-client-id`.
    pub(crate) client_id: String,
    /// `--oidc-client-secret`.
    pub(crate) client_secret: String,
    /// `--oidc-extra-scope`, in order.
    pub(crate) extra_scopes: Vec<String>,
    /// `--oidc-redirect-url`.
    pub(crate) redirect_url: String,
    /// `--oidc-pkce-method`.
    pub(crate) pkce: PkceOption,
    /// `--oidc-use-access-token`.
    pub(crate) use_access_token: bool,
    /// `--oidc-request-header`; `None` is Go's nil map.
    pub(crate) request_headers: Option<BTreeMap<String, String>>,
    /// `--certificate-authority`, after tilde expansion.
    pub(crate) ca_files: Vec<String>,
    /// `--certificate-authority-data`.
    pub(crate) ca_data: Vec<String>,
    /// `--insecure-skip-tls-verify`.
    pub(crate) skip_tls_verify: bool,
    /// `--tls-renegotiation-*`.
    pub(crate) renegotiation: Renegotiation,
    /// `--username` of the password grant.
    pub(crate) username: String,
    /// `--oidc-auth-request-extra-params`; `None` is Go's nil map.
    pub(crate) extra_params: Option<BTreeMap<String, String>>,
}

impl CacheKey {
    /// The file name that we write: 64 lowercase hex digits.
    pub(crate) fn file_name(&self) -> String {
        let headers = self.request_headers.as_ref().map(sorted);
        let params = self.extra_params.as_ref().map(sorted);
        self.hash(headers.as_deref(), params.as_deref())
    }

    /// Whether kubelogin may have stored this login under several names.
    pub(crate) fn is_ambiguous(&self) -> bool {
        [&self.request_headers, &self.extra_params].iter().any(|map| map.as_ref().is_some_and(|map| map.len() > 1))
    }

    /// Every name that kubelogin may have used, our own first, for maps of at most [`MAX_PERMUTED`] entries.
    pub(crate) fn candidates(&self) -> Vec<String> {
        let headers = orders(self.request_headers.as_ref());
        let params = orders(self.extra_params.as_ref());
        let mut names = Vec::with_capacity(headers.len() * params.len());
        for header_order in &headers {
            for param_order in &params {
                names.push(self.hash(header_order.as_deref(), param_order.as_deref()));
            }
        }
        names
    }

    fn hash(&self, headers: Option<&[(String, String)]>, params: Option<&[(String, String)]>) -> String {
        let mut body = vec![0xff, 0x80];
        let mut key = Struct::new(&mut body);
        key.nested(1, |provider| {
            provider.string(1, &self.issuer_url);
            provider.string(2, &self.client_id);
            provider.string(3, &self.client_secret);
            provider.strings(4, &self.extra_scopes);
            provider.string(5, &self.redirect_url);
            provider.int(
                6,
                match self.pkce {
                    PkceOption::Auto => 0,
                    PkceOption::No => 1,
                    PkceOption::S256 => 2,
                },
            );
            provider.bool(7, self.use_access_token);
            provider.map(8, headers);
        });
        key.nested(2, |tls| {
            tls.strings(1, &self.ca_files);
            tls.strings(2, &self.ca_data);
            tls.bool(3, self.skip_tls_verify);
            tls.int(
                4,
                match self.renegotiation {
                    Renegotiation::Never => 0,
                    Renegotiation::Once => 1,
                    Renegotiation::Freely => 2,
                },
            );
        });
        key.string(3, &self.username);
        key.map(4, params);
        key.end();

        let mut stream = PREFIX.to_vec();
        super::gob::uint(&mut stream, u64::try_from(body.len()).unwrap_or(u64::MAX));
        stream.extend_from_slice(&body);
        crate::encoding::hex(digest::digest(&digest::SHA256, &stream).as_ref())
    }
}

/// Maps with more entries than this are looked up under their sorted order only: 5! names per map are too many to probe.
pub(crate) const MAX_PERMUTED: usize = 4;

fn sorted(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn orders(map: Option<&BTreeMap<String, String>>) -> Vec<Option<Vec<(String, String)>>> {
    let Some(map) = map else { return vec![None] };
    let pairs = sorted(map);
    if pairs.len() > MAX_PERMUTED {
        return vec![Some(pairs)];
    }
    permutations(&pairs).into_iter().map(Some).collect()
}

/// All orders of `pairs`, the given one first.
fn permutations(pairs: &[(String, String)]) -> Vec<Vec<(String, String)>> {
    if pairs.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (position, first) in pairs.iter().enumerate() {
        let rest: Vec<_> =
            pairs.iter().enumerate().filter(|(other, _)| *other != position).map(|(_, pair)| pair.clone()).collect();
        for mut tail in permutations(&rest) {
            tail.insert(0, first.clone());
            all.push(tail);
        }
    }
    all
}

/// The type definitions that open the stream: constant for this struct layout.
const PREFIX: &[u8] = b"\
\x5c\x7f\x03\x01\x01\x03Key\x01\xff\x80\x00\x01\x04\x01\x08Provider\x01\xff\x82\x00\x01\x0fTLSClientConfig\x01\xff\x88\x00\
\x01\x08Username\x01\x0c\x00\x01\x16AuthRequestExtraParams\x01\xff\x86\x00\x00\x00\
\xff\x99\xff\x81\x03\x01\x01\x08Provider\x01\xff\x82\x00\x01\x08\x01\x09IssuerURL\x01\x0c\x00\x01\x08ClientID\x01\x0c\x00\
\x01\x0cClientSecret\x01\x0c\x00\x01\x0bExtraScopes\x01\xff\x84\x00\x01\x0bRedirectURL\x01\x0c\x00\x01\x0aPKCEMethod\x01\x04\x00\
\x01\x0eUseAccessToken\x01\x02\x00\x01\x0eRequestHeaders\x01\xff\x86\x00\x00\x00\
\x16\xff\x83\x02\x01\x01\x08[]string\x01\xff\x84\x00\x01\x0c\x00\x00\
\x21\xff\x85\x04\x01\x01\x11map[string]string\x01\xff\x86\x00\x01\x0c\x01\x0c\x00\x00\
\x5c\xff\x87\x03\x01\x01\x06Config\x01\xff\x88\x00\x01\x04\x01\x0eCACertFilename\x01\xff\x84\x00\x01\x0aCACertData\x01\xff\x84\x00\
\x01\x0dSkipTLSVerify\x01\x02\x00\x01\x0dRenegotiation\x01\x04\x00\x00\x00";

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
        Some(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|text| (*text).to_owned()).collect()
    }

    fn base() -> CacheKey {
        CacheKey {
            issuer_url: "https://issuer.example.com".to_owned(),
            client_id: "kubernetes".to_owned(),
            ..CacheKey::default()
        }
    }

    #[test]
    fn the_prefix_is_the_published_one() {
        assert_eq!(PREFIX.len(), 398);
        assert_eq!(
            crate::encoding::hex(digest::digest(&digest::SHA256, PREFIX).as_ref()),
            "adbceff8d95e0d2eb7edb076f713ad27bcde11159cd18951c4d9a25d62c079de"
        );
    }

    #[test]
    fn all_twelve_reference_vectors_hold() {
        let loopback = || CacheKey { issuer_url: "http://127.0.0.1:19100".to_owned(), ..base() };
        let table = [
            (CacheKey::default(), "39ae47fb10b83de91e38c3b3a07be7cf4c36143471e11ec8ccc77124f656f70f"),
            (base(), "e86f17bb894f37a5c90b523f0f8aa372904cf54f7123d57c4f408614db582fd4"),
            (
                CacheKey { client_secret: "s3cr3t".to_owned(), extra_scopes: list(&["email", "groups"]), ..base() },
                "309e52b0514a6a9291b5c746d35e7a8ee98ab7204255cf3376b3f39d0bed3336",
            ),
            (
                CacheKey { pkce: PkceOption::S256, use_access_token: true, ..base() },
                "5c2a62417ef256ec7e0e6e7071ea574a822792e20659623b8f4d7e4d58640e24",
            ),
            (
                CacheKey { request_headers: map(&[("Origin", "localhost")]), ..base() },
                "25c842bccc7d3af345bff473e026cc86b1a00af8c58deaff284a0770dea536a1",
            ),
            (
                CacheKey { request_headers: map(&[]), ..base() },
                "886642a20f6dec79f3bb4a2551c87a8942949a7141950707cd5949042a6687e1",
            ),
            (
                CacheKey {
                    ca_files: list(&["/ca.pem"]),
                    ca_data: list(&["QQ=="]),
                    skip_tls_verify: true,
                    renegotiation: Renegotiation::Once,
                    ..base()
                },
                "cc9ea87182ba5bfa0da2f7cff78aa82854f5374e971de6f73d0c0509c2389df8",
            ),
            (
                CacheKey {
                    redirect_url: "http://localhost:8000".to_owned(),
                    username: "u".to_owned(),
                    extra_params: map(&[("ttl", "86400")]),
                    ..base()
                },
                "e159b624a1c5566ef7ed0f0f813dbd19083cf79b184a9204397b0f8e7008c2f4",
            ),
            (
                CacheKey { extra_params: map(&[("a", "1"), ("b", "2")]), ..CacheKey::default() },
                "2085644d99dfb12cf8d54fa7460b01f124312a5422a05feaa5d0d5ffe96148bb",
            ),
            (loopback(), "cce95718cde5529fde650aa28be2caf165f5acdfb19612d37926f7761baac52b"),
            (
                CacheKey { client_secret: "sec".to_owned(), extra_params: map(&[]), ..loopback() },
                "1a52987d16468b7edfd2442d2c4a86aec875c8810d2cb14bc8d991d9ba64ccde",
            ),
            (
                CacheKey { issuer_url: format!("https://{}.example.com", "x".repeat(200)), ..base() },
                "ff26c989e9fdf19bf7563aefe1622d8cad3e8a64227b5d69923155c9abe13aa2",
            ),
        ];
        assert_eq!(table.len(), 12);
        for (key, want) in &table {
            assert_eq!(key.file_name(), *want, "{key:?}");
        }
    }

    #[test]
    fn every_order_of_small_maps_is_a_candidate_and_the_sorted_one_comes_first() {
        let key = CacheKey {
            extra_params: map(&[("a", "1"), ("b", "2"), ("c", "3")]),
            request_headers: map(&[("x", "1"), ("y", "2")]),
            ..base()
        };
        let names = key.candidates();
        assert_eq!(names.len(), 12);
        assert_eq!(names.first(), Some(&key.file_name()));
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 12);
        assert!(key.is_ambiguous());
        assert!(!base().is_ambiguous());
        assert_eq!(base().candidates(), [base().file_name()]);
    }

    #[test]
    fn maps_beyond_the_limit_are_looked_up_sorted_only() {
        let at_limit: Vec<(String, &str)> = (0..MAX_PERMUTED).map(|number| (number.to_string(), "v")).collect();
        let over: Vec<(String, &str)> = (0..=MAX_PERMUTED).map(|number| (number.to_string(), "v")).collect();
        let count = |entries: &[(String, &str)]| {
            let entries: Vec<(&str, &str)> = entries.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            CacheKey { extra_params: map(&entries), ..base() }.candidates().len()
        };
        assert_eq!(count(&at_limit), 24);
        assert_eq!(count(&over), 1);
    }
}
