//! A key-encryption key that stays in Vault, or in OpenBao: the transit engine wraps and opens data keys.
//!
//! `POST /v1/<mount>/encrypt/<key>` and `/decrypt/<key>`, plaintext in base64, as Vault's API documents them. The token is
//! renewed by whoever has issued it (an agent that writes it to a file, as a rule): the file is read for each request. No
//! redirect is followed, because the token would go with it.

use std::{fmt, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use portcullis_runtime::{
    Secret,
    http_client::{HttpClient, HttpClientConfig, HttpClientError, HttpResponse, ProxyFromEnv, Roots},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    DataKeyBytes,
    wrap::{KeyWrapper, WrapError, WrapFuture, check_key_id},
};

/// From the start of a request to the end of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest answer; one has some hundred bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Largest token or CA file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Longest wrapped data key that is taken from Vault.
const MAX_WRAPPED_BYTES: usize = 4096;
/// Longest text of Vault's that is shown, in characters.
const MAX_SHOWN: usize = 200;
/// What everything that transit has encrypted begins with.
const PREFIX: &str = "vault:v";

/// Where the token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VaultToken {
    /// The token itself.
    Value(Secret),
    /// A file, read for each request.
    File(PathBuf),
}

/// A key of Vault's transit engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultTransitOptions {
    /// The key-encryption key's id; `vault:<mount>/<key>` when absent.
    pub id: Option<String>,
    /// Vault's address, such as `https://vault:8200`.
    pub address: String,
    /// Where the transit engine is mounted: `transit` as a rule.
    pub mount: String,
    /// The key's name.
    pub key: String,
    /// The namespace; none when absent.
    pub namespace: Option<String>,
    /// The token.
    pub token: VaultToken,
    /// The certificate authorities that Vault's certificate may come from; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// The proxies of the environment.
    pub proxy: ProxyFromEnv,
}

/// A key of Vault's transit engine, ready to be used.
pub struct VaultTransit {
    id: String,
    source: String,
    encrypt: String,
    decrypt: String,
    namespace: Option<String>,
    token: VaultToken,
    client: HttpClient,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: Secret,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<String>,
}

impl VaultTransit {
    /// Reads the CA file; asks nobody.
    ///
    /// # Errors
    /// [`WrapError::Source`] when something of the options cannot be used.
    pub fn new(options: &VaultTransitOptions) -> Result<Self, WrapError> {
        let address = options.address.trim_end_matches('/');
        if !(address.starts_with("https://") || address.starts_with("http://")) || address.contains(['?', '#', '@']) {
            return Err(broken(
                format!("{:?} is no address of a Vault", shown(address)),
                "write https://HOST:PORT, without user and query",
            ));
        }
        let mount = options.mount.trim_matches('/');
        for (what, text) in [("mount", mount), ("key", options.key.as_str())] {
            let plain = text.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !plain || text.contains(':') || check_key_id(text).is_err() || (what == "key" && text.contains('/')) {
                return Err(broken(
                    format!("{:?} cannot be the {what} of a transit key", shown(text)),
                    "use letters, digits, - _ and .",
                ));
            }
        }
        let id = options.id.clone().unwrap_or_else(|| format!("vault:{mount}/{}", options.key));
        check_key_id(&id).map_err(|error| broken(error.to_string(), "give the key an `id`"))?;
        let roots = match &options.ca_file {
            None => Roots::System,
            Some(file) => {
                let unreadable = |why: String| {
                    broken(format!("the CA file {}: {why}", file.display()), "name a file with certificates in PEM")
                };
                let pem = read(file).map_err(|error| unreadable(error.to_string()))?;
                Roots::only_pem(&pem).map_err(|error| unreadable(error.to_string()))?
            }
        };
        let client = HttpClient::new(HttpClientConfig {
            roots,
            timeout: TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            max_body: MAX_ANSWER_BYTES,
            max_redirects: 0,
            proxy: options.proxy.clone(),
            idle_connections: 1,
            ..HttpClientConfig::default()
        });
        let client = client.map_err(|error| broken(error.to_string(), "check the CA file and the proxy"))?;
        let at = |operation: &str| format!("{address}/v1/{mount}/{operation}/{}", options.key);
        Ok(Self {
            id,
            source: format!("Vault's {mount}/{} at {address}", options.key),
            encrypt: at("encrypt"),
            decrypt: at("decrypt"),
            namespace: options.namespace.clone().filter(|namespace| !namespace.is_empty()),
            token: options.token.clone(),
            client,
        })
    }

    fn token(&self) -> Result<Secret, WrapError> {
        let token = match &self.token {
            VaultToken::Value(token) => token.clone(),
            VaultToken::File(file) => {
                let unreadable = |why: String| WrapError::Source {
                    text: format!("the token file {}: {why}", file.display()),
                    hint: "see that Vault's agent runs and writes its token there, readable for this user",
                    temporary: true,
                };
                let bytes = Zeroizing::new(read(file).map_err(|error| unreadable(error.to_string()))?);
                let text = std::str::from_utf8(&bytes).map_err(|_| unreadable("it is not text".to_owned()))?;
                Secret::new(text.trim())
            }
        };
        let sendable = !token.is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
        if sendable { Ok(token) } else { Err(broken("the token is empty, or no token".to_owned(), TOKEN)) }
    }

    async fn ask(&self, url: &str, body: Zeroizing<String>) -> Result<HttpResponse, WrapError> {
        let token = self.token()?;
        let mut headers =
            vec![("content-type", "application/json"), ("x-vault-request", "true"), ("x-vault-token", token.expose())];
        if let Some(namespace) = &self.namespace {
            headers.push(("x-vault-namespace", namespace));
        }
        let body = Bytes::from_owner(Wiped(body));
        let response = self.client.request(http::Method::POST, url, &headers, Some(body)).await.map_err(unreachable)?;
        if response.is_success() { Ok(response) } else { Err(refused(url, &response)) }
    }

    async fn encrypted(&self, key: &DataKeyBytes) -> Result<String, WrapError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.as_slice()));
        let body = Zeroizing::new(format!("{{\"plaintext\":\"{}\"}}", plaintext.as_str()));
        let response = self.ask(&self.encrypt, body).await?;
        let Encrypted { ciphertext } = data(&self.encrypt, &response)?;
        if ciphertext.len() > MAX_WRAPPED_BYTES || version_of(&ciphertext).is_none() {
            return Err(foreign(&self.encrypt));
        }
        Ok(ciphertext)
    }

    async fn decrypted(&self, wrapped: &str) -> Result<DataKeyBytes, WrapError> {
        if version_of(wrapped).is_none() {
            return Err(WrapError::Wrong);
        }
        let body = serde_json::json!({ "ciphertext": wrapped }).to_string();
        let response = self.ask(&self.decrypt, Zeroizing::new(body)).await?;
        let Decrypted { plaintext } = data(&self.decrypt, &response)?;
        let bytes = STANDARD.decode(plaintext.expose()).map(Zeroizing::new).map_err(|_| foreign(&self.decrypt))?;
        bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| WrapError::Wrong)
    }
}

impl KeyWrapper for VaultTransit {
    fn id(&self) -> &str {
        &self.id
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn wrap<'a>(&'a self, _name: &'a str, key: &'a DataKeyBytes) -> WrapFuture<'a, String> {
        Box::pin(self.encrypted(key))
    }

    fn open<'a>(&'a self, _name: &'a str, wrapped: &'a str) -> WrapFuture<'a, DataKeyBytes> {
        Box::pin(self.decrypted(wrapped))
    }

    fn version(&self, wrapped: &str) -> Option<u64> {
        version_of(wrapped)
    }
}

impl fmt::Debug for VaultTransit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultTransit").field("id", &self.id).field("source", &self.source).finish_non_exhaustive()
    }
}

/// A request's body, wiped when it has been sent.
struct Wiped(Zeroizing<String>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

const TOKEN: &str = "give a valid token in VAULT_TOKEN, or a file with one in VAULT_TOKEN_FILE";
const POLICY: &str = "see that the token is valid, and that its policy grants `update` on encrypt/KEY and decrypt/KEY below \
                      the transit mount; a token that has expired is renewed by Vault's agent, not by this program";
const MOUNT: &str = "check mount, key and namespace (VAULT_NAMESPACE); `vault secrets enable transit` makes the mount";
const UNSEAL: &str = "unseal Vault; what is open already goes on working here";
const REACH: &str = "see that Vault runs and can be reached from here (VAULT_ADDR, VAULT_CACERT)";
const MISSING: &str = "make the key with `vault write -f transit/keys/NAME`, or correct its name";
const TOO_OLD: &str = "lower the key's min_decryption_version until this program has wrapped its data keys anew";
const ODD: &str = "see that the address is Vault's own and not that of a proxy or login page";
const REDIRECT: &str = "name the active Vault itself: no redirect is followed, because the token would go with it";

fn version_of(wrapped: &str) -> Option<u64> {
    let (version, rest) = wrapped.strip_prefix(PREFIX)?.split_once(':')?;
    version.parse().ok().filter(|_| !rest.is_empty())
}

fn broken(text: String, hint: &'static str) -> WrapError {
    WrapError::Source { text, hint, temporary: false }
}

fn foreign(url: &str) -> WrapError {
    broken(format!("{url} gave an answer that is not Vault's"), ODD)
}

fn data<T: serde::de::DeserializeOwned>(url: &str, response: &HttpResponse) -> Result<T, WrapError> {
    serde_json::from_slice::<Answer<T>>(&response.body).map(|answer| answer.data).map_err(|_| foreign(url))
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` passes")]
fn unreachable(error: HttpClientError) -> WrapError {
    WrapError::Source { text: format!("Vault: {error}"), hint: REACH, temporary: error.is_transient() }
}

/// What an answer that is no success means. Vault's own words are shown, cut short.
fn refused(url: &str, response: &HttpResponse) -> WrapError {
    let status = response.status;
    let said = serde_json::from_slice::<Refusal>(&response.body).map(|refusal| refusal.errors.join("; "));
    let said = shown(said.as_deref().unwrap_or_default());
    let (what, hint, temporary) = match status {
        400 if said.contains("invalid ciphertext") => return WrapError::Wrong,
        400 if said.contains("key not found") => ("has no such key", MISSING, false),
        400 if said.contains("too old") => ("does not open this any more", TOO_OLD, false),
        400 => ("refused the request", MOUNT, false),
        301..=399 => ("sent the request elsewhere", REDIRECT, false),
        401 | 403 => ("refused the token", POLICY, false),
        404 => ("has nothing at this path", MOUNT, false),
        503 if said.contains("sealed") => ("is sealed", UNSEAL, true),
        429 | 412 | 472 | 473 => ("is busy, or a standby", REACH, true),
        500..=599 => ("failed", REACH, true),
        _ => ("gave an answer that is not understood", ODD, false),
    };
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    WrapError::Source { text: format!("Vault {what} ({status} from {url}{said})"), hint, temporary }
}

fn shown(text: &str) -> String {
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    plain.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

fn read(file: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn options() -> VaultTransitOptions {
        VaultTransitOptions {
            id: None,
            address: "https://vault.example:8200/".to_owned(),
            mount: "/kv/transit/".to_owned(),
            key: "portcullis".to_owned(),
            namespace: None,
            token: VaultToken::Value(Secret::new("s.token")),
            ca_file: None,
            proxy: ProxyFromEnv::default(),
        }
    }

    #[test]
    fn the_paths_are_those_of_the_transit_engine() {
        let vault = VaultTransit::new(&options()).unwrap();
        assert_eq!(vault.encrypt, "https://vault.example:8200/v1/kv/transit/encrypt/portcullis");
        assert_eq!(vault.decrypt, "https://vault.example:8200/v1/kv/transit/decrypt/portcullis");
        assert_eq!(vault.id(), "vault:kv/transit/portcullis");
        assert!(!format!("{vault:?} {:?}", options()).contains("s.token"));
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let new = |change: &dyn Fn(&mut VaultTransitOptions)| {
            let mut options = options();
            change(&mut options);
            VaultTransit::new(&options).map(|_| ()).unwrap_err()
        };
        for bad in ["", "vault:8200", "ftp://vault", "https://u:p@vault", "https://vault?x", "https://vault#x"] {
            assert!(new(&|o| bad.clone_into(&mut o.address)).to_string().contains("address"), "{bad}");
        }
        for bad in ["", "..", "a/../b", "a//b", "a?b", "a b", "ä", "a:b", &"a".repeat(129)] {
            assert!(new(&|o| bad.clone_into(&mut o.mount)).to_string().contains("mount"), "{bad}");
            assert!(new(&|o| bad.clone_into(&mut o.key)).to_string().contains("key"), "{bad}");
        }
        assert!(new(&|o| "a/b".clone_into(&mut o.key)).to_string().contains("key"));
        let no_file = new(&|o| o.ca_file = Some(PathBuf::from("/nowhere/ca.pem"))).to_string();
        assert!(no_file.contains("/nowhere/ca.pem"), "{no_file}");
    }

    #[test]
    fn each_refusal_has_its_text_and_its_hint() {
        let answer = |status, errors: &[&str]| {
            let body = serde_json::json!({ "errors": errors }).to_string().into();
            refused("https://v/x", &HttpResponse { status, headers: HeaderMap::new(), body, url: String::new() })
        };
        for (status, said, text, hint, temporary) in [
            (403, "1 error occurred:\n\t* permission denied\n\n", "refused the token", POLICY, false),
            (404, "no handler for route \"x\". route entry not found.", "nothing at this path", MOUNT, false),
            (503, "Vault is sealed", "is sealed", UNSEAL, true),
            (503, "", "failed", REACH, true),
            (500, "internal error", "failed", REACH, true),
            (429, "", "busy", REACH, true),
            (400, "encryption key not found", "no such key", MISSING, false),
            (400, "ciphertext or signature version is disallowed by policy (too old)", "any more", TOO_OLD, false),
            (400, "unsupported path", "refused the request", MOUNT, false),
            (307, "", "elsewhere", REDIRECT, false),
            (418, "", "not understood", ODD, false),
        ] {
            let WrapError::Source { text: got, hint: advice, temporary: later } = answer(status, &[said]) else {
                panic!("{status} {said}");
            };
            assert!(got.contains(text) && got.contains(&status.to_string()), "{got}");
            assert!(!got.contains('\n'), "{got}");
            assert_eq!((advice, later), (hint, temporary), "{status} {said}");
        }
        assert_eq!(answer(400, &["invalid ciphertext: unable to decrypt"]), WrapError::Wrong);
        assert!(answer(500, &["x".repeat(5000).as_str()]).to_string().len() < 300);
        let html = HttpResponse { status: 200, headers: HeaderMap::new(), body: "<html>".into(), url: String::new() };
        assert!(data::<Encrypted>("https://v/x", &html).is_err());
    }

    #[test]
    fn versions_are_read_from_what_transit_has_encrypted() {
        assert_eq!(version_of("vault:v3:abc"), Some(3));
        for other in ["", "vault:v:abc", "vault:v3:", "vault:v3", "vault:x:abc", "v3:abc", "vault:v-1:abc"] {
            assert_eq!(version_of(other), None, "{other}");
        }
    }
}
