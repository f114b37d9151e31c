//! `portcullis.encryption`: which keys seal the store's secrets. Ours; Dex keeps them in clear.
//!
//! The first of `keys` wraps what is wrapped anew, the others open what was wrapped before. Where the file names none, the
//! environment may, as charts do it: `PORTCULLIS_ENCRYPTION_KEY`, `…_KEY_FILE` or `…_VAULT_KEY`, and `…_OLD_KEY` and
//! `…_OLD_KEY_FILE`. `PORTCULLIS_ENCRYPTION_SEAL` counts where the file says nothing of `seal`, wherever the keys are. Vault is addressed by the variables of its own command line.

use std::path::PathBuf;
use std::time::Duration;

use portcullis_runtime::http_client::ProxyFromEnv;
use portcullis_runtime::{Rng, Secret, Timestamp};
use portcullis_storage::{KeyEncryption, KeyEncryptionKey, VaultToken, VaultTransit, VaultTransitOptions};

use super::document::Node;
use super::duration::parse_duration;
use super::problem::Place;
use super::raw::{RawEncryption, RawEncryptionKey, RawVault};
use super::reader::{Field, Keys, Reader, Unknown};
use super::settings::{Encryption, EncryptionKey, KeySource};
use super::validate::{Findings, text};

/// Most keys that are configured at once: each is asked for each data key at every start.
const MAX_KEYS: usize = 8;
/// Shortest life of a data key: as long as one is kept after it has stopped sealing.
const MIN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const ONE_SOURCE: &str = "give the key by one of `file`, `env` (the name of an environment variable) and `vault`";

/// Reads `portcullis.encryption`.
pub(super) fn read<'a>(r: &mut Reader<'a>, own: &Keys<'a>) -> Option<RawEncryption> {
    let (node, path) = own.node("encryption")?;
    let k = r.keys(node, &path, &["keys", "seal", "dataKeyLifetime", "replaceDataKeysBefore"], Unknown::Refuse)?;
    let keys = r.list(&k, "keys").map(|list| list.value).unwrap_or_default();
    Some(RawEncryption {
        keys: keys.into_iter().filter_map(|(node, path)| key(r, node, &path)).collect(),
        seal: r.bool(&k, "seal"),
        data_key_lifetime: r.string(&k, "dataKeyLifetime"),
        replace_before: r.string(&k, "replaceDataKeysBefore"),
    })
}

fn key<'a>(r: &mut Reader<'a>, node: &'a Node, path: &str) -> Option<RawEncryptionKey> {
    let k = r.keys(node, path, &["id", "file", "env", "vault"], Unknown::Refuse)?;
    let vault = k.node("vault").and_then(|(node, path)| {
        let known = &["address", "mount", "key", "namespace", "token", "tokenFile", "caFile"];
        let v = r.keys(node, &path, known, Unknown::Refuse)?;
        Some(RawVault {
            address: r.string(&v, "address"),
            mount: r.string(&v, "mount"),
            key: r.string(&v, "key"),
            namespace: r.string(&v, "namespace"),
            token: r.string(&v, "token").map(|field| field.map(Secret::from)),
            token_file: r.string(&v, "tokenFile"),
            ca_file: r.string(&v, "caFile"),
        })
    });
    let (file, env) = (r.string(&k, "file"), r.string(&k, "env"));
    Some(RawEncryptionKey { place: r.place(path, node.line), id: r.string(&k, "id"), file, env, vault })
}

/// Checks it.
pub(super) fn validate(raw: &RawEncryption, f: &mut Findings<'_>) -> Encryption {
    let keys: Vec<EncryptionKey> = match raw.keys.as_slice() {
        [] => from_env(f),
        listed => listed.iter().filter_map(|key| listed_key(key, f)).collect(),
    };
    if raw.keys.len() > MAX_KEYS
        && let Some(key) = raw.keys.get(MAX_KEYS)
    {
        f.value(
            &key.place,
            format!("there are more than {MAX_KEYS} keys"),
            "remove those that are not needed any more",
        );
    }
    let seal = match &raw.seal {
        Some(field) => field.value,
        None => f.flag("PORTCULLIS_ENCRYPTION_SEAL", true),
    };
    if let Some(field) = raw.seal.as_ref().filter(|field| field.value && keys.is_empty()) {
        f.value(&field.place, "secrets are to be sealed, and there is no key for it", "list one under `keys`");
    }
    let lifetime = raw.data_key_lifetime.as_ref().and_then(|field| match parse_duration(&field.value) {
        Ok(lifetime) if lifetime >= MIN_LIFETIME => Some(lifetime),
        Ok(_) => {
            f.value(&field.place, "a data key seals for at least 24h", "write a duration such as 2160h");
            None
        }
        Err(error) => {
            f.value(&field.place, error.to_string(), "write a duration such as 2160h; there is no unit for days");
            None
        }
    });
    let replace_before = raw.replace_before.as_ref().and_then(|field| {
        let time = Timestamp::parse_rfc3339(&field.value);
        if time.is_none() {
            f.value(&field.place, "this is no time", "write it as RFC 3339 does, such as 2026-11-27T08:00:00Z");
        }
        time
    });
    Encryption { keys, seal, data_key_lifetime: lifetime.unwrap_or(KeyEncryption::DATA_KEY_LIFETIME), replace_before }
}

fn listed_key(raw: &RawEncryptionKey, f: &mut Findings<'_>) -> Option<EncryptionKey> {
    let id = raw.id.as_ref().map(|field| field.value.clone());
    let file = f.expand(text(raw.file.as_ref()));
    let from = match (file.as_str(), raw.env.as_ref(), raw.vault.as_ref()) {
        ("", Some(env), None) => of_variable(&env.place, &env.value, id.as_deref(), f)?,
        ("", None, Some(vault)) => of_vault(&raw.place, vault, id.clone(), f)?,
        ("", None, None) => {
            f.value(&raw.place, "the key is given nowhere", ONE_SOURCE);
            return None;
        }
        (file, None, None) => {
            check_id(&raw.place, id.as_deref(), f)?;
            KeySource::File(PathBuf::from(file))
        }
        _ => {
            f.value(&raw.place, "the key is given in more than one way", ONE_SOURCE);
            return None;
        }
    };
    Some(EncryptionKey { id, from })
}

/// The keys of the environment, the current one first.
fn from_env(f: &mut Findings<'_>) -> Vec<EncryptionKey> {
    let place = f.whole_file();
    let set = |name: &str| (f.env)(name).filter(|value| !value.is_empty());
    let (file, old_file) = (set("PORTCULLIS_ENCRYPTION_KEY_FILE"), set("PORTCULLIS_ENCRYPTION_OLD_KEY_FILE"));
    let vault = set("PORTCULLIS_ENCRYPTION_VAULT_KEY");
    let mount = set("PORTCULLIS_ENCRYPTION_VAULT_MOUNT");
    let (value, old_value) =
        (set("PORTCULLIS_ENCRYPTION_KEY").is_some(), set("PORTCULLIS_ENCRYPTION_OLD_KEY").is_some());
    let mut current = Vec::new();
    if value {
        current.extend(of_variable(&place, "PORTCULLIS_ENCRYPTION_KEY", None, f));
    }
    current.extend(file.map(|file| KeySource::File(PathBuf::from(file))));
    if let Some(key) = vault {
        let field = |value| Field { value, place: place.clone() };
        let raw = RawVault { key: Some(field(key)), mount: mount.map(field), ..RawVault::default() };
        current.extend(of_vault(&place, &raw, None, f));
    }
    if current.len() > 1 {
        let message = "more than one of PORTCULLIS_ENCRYPTION_KEY, PORTCULLIS_ENCRYPTION_KEY_FILE and \
                       PORTCULLIS_ENCRYPTION_VAULT_KEY is set";
        f.value(&place, message, "set one of them; several keys go under portcullis.encryption.keys");
    }
    let mut older = Vec::new();
    if old_value {
        older.extend(of_variable(&place, "PORTCULLIS_ENCRYPTION_OLD_KEY", None, f));
    }
    older.extend(old_file.map(|file| KeySource::File(PathBuf::from(file))));
    if current.is_empty() && !older.is_empty() {
        f.value(
            &place,
            "PORTCULLIS_ENCRYPTION_OLD_KEY names a key that was used before, and there is no current one",
            "set PORTCULLIS_ENCRYPTION_KEY_FILE as well",
        );
    }
    current.into_iter().chain(older).map(|from| EncryptionKey { id: None, from }).collect()
}

fn check_id(place: &Place, id: Option<&str>, f: &mut Findings<'_>) -> Option<()> {
    // Of these bytes, only the id can be wrong.
    match id.map(|id| KeyEncryptionKey::new(Some(id), "", &[0; 32], Rng::seeded(0))) {
        Some(Err(error)) => {
            f.value(place, error.to_string(), "write another `id`, or none");
            None
        }
        Some(Ok(_)) | None => Some(()),
    }
}

fn of_variable(place: &Place, name: &str, id: Option<&str>, f: &mut Findings<'_>) -> Option<KeySource> {
    let hint = "make a key with `openssl rand -base64 32`";
    let Some(value) = (f.env)(name).map(Secret::from) else {
        f.value(place, format!("the environment variable {name} is not set"), hint);
        return None;
    };
    match KeyEncryptionKey::parse(id, "", &value, Rng::seeded(0)) {
        Ok(_) => Some(KeySource::Variable { name: name.to_owned(), value }),
        Err(error) => {
            f.value(place, format!("{name}: {error}"), hint);
            None
        }
    }
}

fn of_vault(place: &Place, raw: &RawVault, id: Option<String>, f: &mut Findings<'_>) -> Option<KeySource> {
    let set = |name: &str| (f.env)(name).filter(|value| !value.is_empty());
    let or = |field: Option<&Field<String>>, name: &str| {
        Some(f.expand(text(field))).filter(|text| !text.is_empty()).or_else(|| set(name))
    };
    let address = or(raw.address.as_ref(), "VAULT_ADDR");
    let namespace = or(raw.namespace.as_ref(), "VAULT_NAMESPACE");
    let ca_file = or(raw.ca_file.as_ref(), "VAULT_CACERT").map(PathBuf::from);
    let file = |path: String| VaultToken::File(PathBuf::from(path));
    let written = raw.token.as_ref().map(|field| f.expand(field.value.expose())).filter(|token| !token.is_empty());
    let token = written
        .map(|token| VaultToken::Value(Secret::from(token)))
        .or_else(|| Some(f.expand(text(raw.token_file.as_ref()))).filter(|path| !path.is_empty()).map(file))
        .or_else(|| set("VAULT_TOKEN_FILE").map(file))
        .or_else(|| set("VAULT_TOKEN").map(|token| VaultToken::Value(Secret::from(token))));
    let mount = Some(f.expand(text(raw.mount.as_ref()))).filter(|mount| !mount.is_empty());
    let key = f.expand(text(raw.key.as_ref()));
    let proxy = ProxyFromEnv::read(f.env);
    let Some(address) = address else {
        f.value(place, "Vault's address is not given", "write `address`, or set VAULT_ADDR");
        return None;
    };
    let Some(token) = token else {
        f.value(place, "there is no token for Vault", "write `tokenFile`, or set VAULT_TOKEN_FILE or VAULT_TOKEN");
        return None;
    };
    if address.starts_with("http://") {
        f.notice(place, "data keys travel to Vault without encryption", "write an https address");
    }
    let options = VaultTransitOptions {
        id,
        address,
        mount: mount.unwrap_or_else(|| "transit".to_owned()),
        key,
        namespace,
        token,
        ca_file: None,
        proxy,
    };
    // The CA file is read when the store is opened.
    match VaultTransit::new(&options) {
        Ok(_) => Some(KeySource::Vault(Box::new(VaultTransitOptions { ca_file, ..options }))),
        Err(error) => {
            f.value(place, error.to_string(), "");
            None
        }
    }
}
