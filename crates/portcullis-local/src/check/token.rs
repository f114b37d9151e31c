//! Where the token comes from: a file, standard input, or the exec plugin of a kubeconfig. Never the command line, which
//! others on the machine can read.
//!
//! It is never printed: not in errors either, which is why nothing here quotes what it reads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_kube::exec_credential::EXEC_INFO_VARIABLE;
use portcullis_kube::kubeconfig::{BYTES_LIMIT as KUBECONFIG_LIMIT, Cluster, Exec, Kubeconfig};
use portcullis_kube::yaml;
use portcullis_runtime::Secret;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::config::FILE_LIMIT;
use super::error::CheckError;

/// Bytes that a token's file, or a plugin's answer, may have: more than any token that is not refused for its size.
pub(crate) const TOKEN_LIMIT: u64 = 2 * 1024 * 1024;

/// Where the token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFrom {
    /// A file with the token, with an ExecCredential, or with the answer of a token endpoint.
    File(PathBuf),
    /// The same on standard input.
    Stdin,
    /// The plugin of a user in a kubeconfig; that of the current context without a name.
    Exec {
        /// The file.
        kubeconfig: PathBuf,
        /// The user.
        user: Option<String>,
    },
}

impl TokenFrom {
    /// Reads `KUBECONFIG[:USER]`. A colon inside the path is part of it.
    #[must_use]
    pub fn exec(text: &str) -> Self {
        let user = text.rsplit_once(':').filter(|(file, user)| !file.is_empty() && !user.contains(['/', '\\']));
        match user {
            Some((file, user)) if !Path::new(text).exists() => {
                Self::Exec { kubeconfig: file.into(), user: Some(user.to_owned()).filter(|user| !user.is_empty()) }
            }
            _ => Self::Exec { kubeconfig: text.into(), user: None },
        }
    }
}

/// A token, and where it is from, for people.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) text: Secret,
    pub(crate) from: String,
}

/// Gets the token. A plugin may use the terminal, and is waited for.
pub(crate) async fn get(from: &TokenFrom, stdin: impl Read) -> Result<Token, CheckError> {
    match from {
        TokenFrom::File(path) => {
            let read = |source| CheckError::Read { named_by: "--token-file".to_owned(), path: path.clone(), source };
            read_token(File::open(path).map_err(read)?, &path.display().to_string(), read)
        }
        TokenFrom::Stdin => {
            let read = |source| CheckError::Read { named_by: "--token-file".to_owned(), path: "-".into(), source };
            read_token(stdin, "standard input", read)
        }
        TokenFrom::Exec { kubeconfig, user } => from_kubeconfig(kubeconfig, user.as_deref()).await,
    }
}

fn read_token(
    source: impl Read,
    from: &str,
    failed: impl Fn(std::io::Error) -> CheckError,
) -> Result<Token, CheckError> {
    let mut bytes = zeroizing(Vec::new());
    source.take(TOKEN_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    token_in(&bytes, from)
}

/// The token in what was read.
fn token_in(bytes: &[u8], from: &str) -> Result<Token, CheckError> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > TOKEN_LIMIT) {
        return Err(CheckError::TooLarge { path: from.to_owned(), limit: TOKEN_LIMIT });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| CheckError::NotText(from.to_owned()))?;
    // A file ends with a line break, which is not the token's.
    let text = text.trim();
    let text = if text.starts_with('{') { in_json(text, from)? } else { text.to_owned() };
    if text.is_empty() {
        return Err(CheckError::NoToken(from.to_owned()));
    }
    Ok(Token { text: Secret::new(text), from: from.to_owned() })
}

fn in_json(text: &str, from: &str) -> Result<String, CheckError> {
    let none = || CheckError::NoTokenInJson(from.to_owned());
    let value: Value = serde_json::from_str(text).map_err(|_| none())?;
    let token = value.pointer("/status/token").or_else(|| value.get("id_token"));
    token.and_then(Value::as_str).map(|token| token.trim().to_owned()).ok_or_else(none)
}

async fn from_kubeconfig(path: &Path, user: Option<&str>) -> Result<Token, CheckError> {
    let file = path.display().to_string();
    let limit = u64::try_from(KUBECONFIG_LIMIT).unwrap_or(u64::MAX);
    let text = super::config::read_text(path, "--exec", limit)?;
    let kubeconfig = Kubeconfig::parse(&text, &file)?;
    let name = match user {
        Some(name) => name.to_owned(),
        None => kubeconfig.resolve(None)?.context.user,
    };
    let missing = || CheckError::NoPlugin { file: file.clone(), user: name.clone() };
    let user = kubeconfig.user(&name)?.ok_or_else(missing)?;
    let Some(exec) = user.exec else {
        if user.token.is_empty() {
            return Err(missing());
        }
        return token_in(user.token.expose().as_bytes(), &format!("the user {name:?} of {file}"));
    };
    let cluster = if exec.provide_cluster_info {
        // Compat: kubectl takes the cluster of the context, whoever `--user` names.
        let resolved = kubeconfig.resolve(None)?;
        let extension = extension(&text, &resolved.context.cluster);
        Some(cluster_info(&resolved.cluster, extension, path)?)
    } else {
        None
    };
    let answer = run(&exec, path, cluster).await?;
    token_in(&answer, &format!("the exec plugin of {name:?}"))
}

/// The cluster's extension that is meant for plugins; null without one.
fn extension(kubeconfig: &str, cluster: &str) -> Value {
    let root: Value = yaml::parse(kubeconfig, "kubeconfig", KUBECONFIG_LIMIT).unwrap_or_default();
    let named = |list: Option<&Value>, name: &str, member: &str| {
        let all = list.and_then(Value::as_array)?;
        let found = all.iter().find(|one| one.get("name").and_then(Value::as_str) == Some(name))?;
        found.get(member).cloned()
    };
    let cluster = named(root.get("clusters"), cluster, "cluster").unwrap_or_default();
    named(cluster.get("extensions"), "client.authentication.k8s.io/exec", "extension").unwrap_or_default()
}

/// What a plugin is told of the cluster.
///
/// Compat: `ConfigToExecCluster` of client-go: the content of a CA file instead of its path.
fn cluster_info(cluster: &Cluster, extension: Value, kubeconfig: &Path) -> Result<Value, CheckError> {
    let mut info = Map::new();
    info.insert("server".to_owned(), json!(cluster.server));
    let mut add = |name: &str, value: Value| {
        if value != json!("") && value != json!(false) {
            info.insert(name.to_owned(), value);
        }
    };
    add("tls-server-name", json!(cluster.tls_server_name));
    add("insecure-skip-tls-verify", json!(cluster.insecure_skip_tls_verify));
    if cluster.certificate_authority_data.is_empty() && !cluster.certificate_authority.is_empty() {
        let path = kubeconfig.parent().unwrap_or(Path::new("")).join(&cluster.certificate_authority);
        let pem = super::config::read_text(&path, "certificate-authority in the kubeconfig", FILE_LIMIT)?;
        add("certificate-authority-data", json!(STANDARD.encode(pem)));
    } else {
        add("certificate-authority-data", json!(cluster.certificate_authority_data));
    }
    add("proxy-url", json!(cluster.proxy_url));
    add("disable-compression", json!(cluster.disable_compression));
    info.insert("config".to_owned(), extension);
    Ok(Value::Object(info))
}

/// Runs a plugin as client-go does. `cluster` is what it is told of that.
async fn run(
    exec: &Exec,
    kubeconfig: &Path,
    cluster: Option<Value>,
) -> Result<zeroize::Zeroizing<Vec<u8>>, CheckError> {
    let plugin = |reason: String, hint: &str| CheckError::Plugin {
        command: exec.command.clone(),
        reason,
        hint: if exec.install_hint.is_empty() { hint.to_owned() } else { exec.install_hint.clone() },
    };
    // Compat: a relative path counts from the kubeconfig's folder, a bare name from PATH.
    let program = match kubeconfig.parent() {
        Some(folder) if exec.command.contains(std::path::is_separator) => folder.join(&exec.command),
        _ => PathBuf::from(&exec.command),
    };
    let mut spec = Map::from_iter([("interactive".to_owned(), json!(exec.interactive_mode != "Never"))]);
    spec.extend(cluster.map(|cluster| ("cluster".to_owned(), cluster)));
    let question = json!({ "kind": "ExecCredential", "apiVersion": exec.api_version, "spec": spec });
    let mut child = Command::new(program)
        .args(&exec.args)
        .envs(exec.env.iter().map(|(name, value)| (name, value)))
        .env(EXEC_INFO_VARIABLE, question.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| plugin(format!("cannot be run: {error}"), "install it, or put it on PATH"))?;
    let mut answer = zeroizing(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(TOKEN_LIMIT + 1).read_to_end(&mut answer).await;
        read.map_err(|error| plugin(format!("cannot be heard: {error}"), "run it by hand"))?;
    }
    if u64::try_from(answer.len()).is_ok_and(|length| length > TOKEN_LIMIT) {
        return Err(CheckError::TooLarge { path: "what the exec plugin printed".to_owned(), limit: TOKEN_LIMIT });
    }
    let status = child.wait().await.map_err(|error| plugin(format!("was lost: {error}"), "run it by hand"))?;
    if status.success() {
        Ok(answer)
    } else {
        Err(plugin(format!("failed: {status}"), "it has said why; run it by hand"))
    }
}

fn zeroizing(bytes: Vec<u8>) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    async fn from(bytes: &[u8]) -> Result<String, String> {
        match get(&TokenFrom::Stdin, bytes).await {
            Ok(token) => Ok(token.text.expose().to_owned()),
            Err(error) => {
                assert!(error.hint().is_some());
                Err(error.to_string())
            }
        }
    }

    #[tokio::test]
    async fn a_token_is_found_alone_or_in_json_and_never_quoted() {
        for good in [
            &b"a.b.c"[..],
            b" a.b.c\r\n",
            br#"{"kind":"ExecCredential","status":{"token":"a.b.c"}}"#,
            br#"{"access_token":"x","id_token":"a.b.c\n"}"#,
        ] {
            assert_eq!(from(good).await.as_deref(), Ok("a.b.c"));
        }
        for (bad, want) in [
            (&b" \n"[..], "there is no token in standard input"),
            (b"\xff", "standard input is not UTF-8 text"),
            (br#"{"access_token":"hush"}"#, "neither an ExecCredential nor"),
            (br#"{"hush"#, "neither an ExecCredential nor"),
        ] {
            let error = from(bad).await.unwrap_err();
            assert!(error.contains(want) && !error.contains("hush"), "{error}");
        }
        let most = usize::try_from(TOKEN_LIMIT).unwrap();
        assert_eq!(from(&vec![b'x'; most]).await.map(|token| token.len()), Ok(most));
        let error = from(&vec![b'x'; most + 1]).await.unwrap_err();
        assert_eq!(error, "standard input is larger than 2097152 bytes");
        let error = get(&TokenFrom::File("/nowhere/x".into()), &b""[..]).await.unwrap_err();
        assert_eq!(error.hint().unwrap(), "give --token-file the path of a file that this user can read");
    }

    #[test]
    fn a_user_is_named_after_the_last_colon() {
        let exec =
            |file: &str, user: Option<&str>| TokenFrom::Exec { kubeconfig: file.into(), user: user.map(Into::into) };
        assert_eq!(TokenFrom::exec("k"), exec("k", None));
        assert_eq!(TokenFrom::exec("a/k:oidc"), exec("a/k", Some("oidc")));
        assert_eq!(TokenFrom::exec("k:"), exec("k", None));
        assert_eq!(TokenFrom::exec("c:/k"), exec("c:/k", None));
        assert_eq!(TokenFrom::exec(":x"), exec(":x", None));
    }

    #[tokio::test]
    async fn a_plugin_is_told_of_the_cluster_where_the_kubeconfig_wants_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("plugin"), "#!/bin/sh\nprintf %s \"$KUBERNETES_EXEC_INFO\" >\"$OUT\"; echo a.b.c\n").unwrap();
        fs::set_permissions(path("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
        let told = async |cluster: Value, provide: bool| {
            let file = json!({
                "kind": "Config", "apiVersion": "v1", "current-context": "now",
                "contexts": [{"name": "now", "context": {"cluster": "c", "user": "nobody"}}],
                "clusters": [{"name": "other", "cluster": {"server": "https://b"}}, {"name": "c", "cluster": cluster}],
                "users": [{"name": "nobody", "user": {}}, {"name": "u", "user": {"exec": {"command": "./plugin",
                    "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "provideClusterInfo": provide,
                    "env": [{"name": "OUT", "value": path("out")}]}}}],
            });
            fs::write(path("config"), file.to_string()).unwrap();
            let from = TokenFrom::Exec { kubeconfig: path("config"), user: Some("u".to_owned()) };
            get(&from, &b""[..]).await.map_err(|error| error.to_string())?;
            let text = fs::read_to_string(path("out")).unwrap();
            Ok::<Value, String>(serde_json::from_str::<Value>(&text).unwrap()["spec"].clone())
        };
        let plain = json!({"server": "https://a"});
        assert_eq!(told(plain.clone(), false).await.unwrap(), json!({"interactive": false}));
        let want = json!({"interactive": false, "cluster": {"server": "https://a", "config": null}});
        assert_eq!(told(plain, true).await.unwrap(), want);
        fs::write(path("ca.pem"), "PEM").unwrap();
        let mut all = json!({"server": "https://a", "tls-server-name": "n", "insecure-skip-tls-verify": true,
            "certificate-authority": "ca.pem", "proxy-url": "http://p", "disable-compression": true,
            "extensions": [{"name": "x", "extension": 1},
                {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "y"}}]});
        let mut want = json!({"server": "https://a", "tls-server-name": "n", "insecure-skip-tls-verify": true,
            "certificate-authority-data": "UEVN", "proxy-url": "http://p", "disable-compression": true,
            "config": {"audience": "y"}});
        assert_eq!(told(all.clone(), true).await.unwrap()["cluster"], want);
        // Data wins over a file.
        all["certificate-authority-data"] = json!("REFUQQ==");
        want["certificate-authority-data"] = json!("REFUQQ==");
        assert_eq!(told(all, true).await.unwrap()["cluster"], want);
        let missing = json!({"server": "https://a", "certificate-authority": "nowhere.pem"});
        assert!(told(missing, true).await.unwrap_err().contains("nowhere.pem"));
    }

    #[tokio::test]
    async fn a_plugin_is_run_as_client_go_does() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        script(
            "good",
            r#"case $KUBERNETES_EXEC_INFO in *client.authentication.k8s.io/v1*) echo "{\"status\":{\"token\":\"$1.$X.c\"}}";; esac"#,
        );
        script("bad", "echo hush; exit 3");
        script("large", "yes x | head -c 2097153");
        let user = |name: &str, command: &str| {
            json!({"name": name, "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command,
                "args": ["a"], "env": [{"name": "X", "value": "b"}], "interactiveMode": "Never"}}})
        };
        let file = json!({
            "kind": "Config", "apiVersion": "v1", "current-context": "now",
            "contexts": [{"name": "now", "context": {"cluster": "c", "user": "good"}}],
            "clusters": [{"name": "c", "cluster": {"server": "https://a"}}],
            "users": [user("good", "./good"), user("bad", "./bad"), user("large", "./large"), user("none", "./none"),
                {"name": "token", "user": {"token": "d.e.f"}}, {"name": "empty", "user": {}}],
        });
        let path = folder.path().join("config");
        fs::write(&path, file.to_string()).unwrap();
        let ask = async |user: Option<&str>| {
            let from = TokenFrom::Exec { kubeconfig: path.clone(), user: user.map(Into::into) };
            get(&from, &b""[..]).await.map(|token| token.text.expose().to_owned()).map_err(|error| {
                assert!(error.hint().is_some());
                error.to_string()
            })
        };
        assert_eq!(ask(None).await.as_deref(), Ok("a.b.c"));
        assert_eq!(ask(Some("token")).await.as_deref(), Ok("d.e.f"));
        for (user, want) in [
            ("bad", "the exec plugin \"./bad\" failed: exit status: 3"),
            ("large", "what the exec plugin printed is larger than 2097152 bytes"),
            ("none", "the exec plugin \"./none\" cannot be run: No such file"),
            ("empty", "the user \"empty\" has no exec plugin and no token"),
            ("nobody", "the user \"nobody\" has no exec plugin and no token"),
        ] {
            let error = ask(Some(user)).await.unwrap_err();
            assert!(error.contains(want) && !error.contains("hush"), "{user}: {error}");
        }
    }
}
