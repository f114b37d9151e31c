//! The program as a process: streams, exit codes, signals.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test program")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-oidc_login"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const ISSUER: &str = "http://127.0.0.1:19100";

/// kubelogin's own name for the login of [`ISSUER`] and the client `kubernetes` (reference vector 10).
const KEY: &str = "cce95718cde5529fde650aa28be2caf165f5acdfb19612d37926f7761baac52b";

fn get_token(home: &Path) -> Command {
    let mut command = program(home);
    command.args(["get-token", &format!("--oidc-issuer-url={ISSUER}"), "--oidc-client-id=kubernetes"]);
    command
}

#[test]
fn a_login_that_kubelogin_cached_is_printed_without_any_provider() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".kube/cache/oidc-login");
    std::fs::create_dir_all(&dir).unwrap();
    // {"iss":"http://127.0.0.1:19100","exp":4102444800}: expires in 2100.
    let token = "e30.eyJpc3MiOiJodHRwOi8vMTI3LjAuMC4xOjE5MTAwIiwiZXhwIjo0MTAyNDQ0ODAwfQ.c2ln";
    std::fs::write(dir.join(KEY), format!("{{\"id_token\":\"{token}\",\"refresh_token\":\"r\"}}")).unwrap();
    let Output { status, stdout, stderr } = get_token(home.path()).output().unwrap();
    assert_eq!(
        text(&stdout),
        format!(
            "{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"spec\":{{\"interactive\":false}},\"status\":{{\"expirationTimestamp\":\"2100-01-01T00:00:00Z\",\"token\":\"{token}\"}}}}\n"
        )
    );
    assert_eq!((status.code(), text(&stderr)), (Some(0), String::new()));
}

#[test]
fn errors_go_to_stderr_with_exit_code_1() {
    let home = tempfile::tempdir().unwrap();
    let Output { status, stdout, stderr } = program(home.path()).args(["get-token", "--nope"]).output().unwrap();
    assert_eq!((status.code(), text(&stdout)), (Some(1), String::new()));
    assert_eq!(text(&stderr), "error: unknown flag: --nope\n");
}

#[test]
fn a_closed_stdout_is_a_failure_and_no_panic() {
    let home = tempfile::tempdir().unwrap();
    let full = File::options().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let Output { status, stderr, .. } =
        program(home.path()).arg("--help").stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text(&stderr).starts_with("error: write error: "), "{}", text(&stderr));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_wait_for_a_lock_at_once_with_kubelogins_words() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join(".kube/cache/oidc-login");
    std::fs::create_dir_all(&dir).unwrap();
    let holder = File::create(dir.join(format!("{KEY}.lock"))).unwrap();
    holder.lock().unwrap();
    let mut child = get_token(home.path()).arg("-v1").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for another process") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before it waited");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(rest, "error: get-token: could not lock the token cache: context canceled\n");
}
