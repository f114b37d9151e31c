//! Providers, tokens, callbacks and machines that misbehave.

use std::time::Duration;

use portcullis_runtime::Timestamp;
use serde_json::{Value, json};

use crate::authcode::wait_for;
use crate::issuer::Issuer;
use crate::world::{Behaviour, NOW, World, get};

const CHAIN: &str = "error: get-token: authentication error: authcode-browser error: authentication error: authorization code flow error: ";

#[test]
fn tokens_that_are_not_for_us_are_refused_with_kubelogins_words() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let table: [(&str, Value, &str); 7] = [
        (
            "aud",
            json!("other"),
            "could not verify the ID token: oidc: expected audience \"kubernetes\" got [\"other\"]",
        ),
        (
            "iss",
            json!("https://other"),
            "could not verify the ID token: oidc: id token issued by a different provider, expected ",
        ),
        (
            "exp",
            json!(NOW - 60),
            "could not verify the ID token: oidc: token is expired (Token Expiry: 2019-12-31 23:59:00 +0000 UTC)",
        ),
        ("nbf", json!(NOW + 3600), "could not verify the ID token: oidc: current time "),
        ("nonce", json!("other"), "nonce did not match (wants "),
        ("nonce", Value::Null, "nonce did not match (wants "),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA"), "could not verify the ID token: access token hash does not match"),
    ];
    for (claim, value, want) in table {
        issuer.behave(|behaviour| {
            behaviour.claims = serde_json::Map::new();
            behaviour.claims.insert(claim.to_owned(), value.clone());
        });
        let finished = world.get_token(&issuer, &[]).fails();
        assert!(finished.error().starts_with(&format!("{CHAIN}{want}")), "{claim}: {}", finished.stderr);
        assert_eq!(world.page().status, 500);
        assert!(!world.cache_files().iter().any(|name| name.len() == 64), "nothing unverified is cached");
    }
}

#[test]
fn a_wrong_clock_is_hinted_at() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    issuer.behave(|behaviour| behaviour.lifetime = -7200);
    let finished = world.get_token(&issuer, &[]).fails();
    assert!(
        finished.stderr.contains("token is expired")
            && finished.stderr.contains("\nhint: a new token cannot be outdated")
    );
}

#[test]
fn a_clock_that_went_back_keeps_the_cached_token() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let token = world.get_token(&issuer, &[]).ok().token();
    world.hand.set(Timestamp::from_unix_seconds(0));
    assert_eq!(world.get_token(&issuer, &[]).ok().token(), token);
}

#[test]
fn a_provider_that_is_down_or_lies_is_named() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let prefix = "error: get-token: authentication error: oidc error: oidc discovery error: ";
    issuer.behave(|behaviour| behaviour.discovery_failure = Some((500, "oh\u{1b}[2J no")));
    let failing = world.get_token(&issuer, &[]).fails();
    assert!(failing.error().starts_with(&format!("{prefix}500 Internal Server Error: oh")), "{}", failing.stderr);
    assert!(!failing.stderr.contains('\u{1b}'));

    issuer.behave(|behaviour| {
        behaviour.discovery_failure = None;
        behaviour.claimed_issuer = Some("https://other".to_owned());
    });
    let lying = world.get_token(&issuer, &[]).fails();
    assert!(lying.error().starts_with(prefix) && lying.error().contains("did not match"), "{}", lying.stderr);

    let url = issuer.url.clone();
    drop(issuer);
    let down = world
        .run(&["get-token", &format!("--oidc-issuer-url={url}"), "--oidc-client-id=x", "--token-cache-storage=none"])
        .fails();
    assert!(down.error().starts_with(prefix), "{}", down.stderr);
    assert_eq!(
        down.stderr.lines().last(),
        Some(
            "hint: is the provider running, and the port-forward if it is behind one? One on this machine is started by `portcullis up`"
        )
    );
    let far =
        ["get-token", "--oidc-issuer-url=https://issuer.invalid", "--oidc-client-id=x", "--token-cache-storage=none"];
    let unreachable = world.run(&far).fails();
    assert!(unreachable.error().starts_with(prefix), "{}", unreachable.stderr);
    assert_eq!(
        unreachable.stderr.lines().last(),
        Some("hint: is the provider running, and can this machine reach it?"),
        "nothing on this machine would help"
    );
    assert!(world.opened().is_empty());
}

#[test]
fn a_refusal_by_the_provider_is_told_and_its_page_is_an_error() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    issuer.behave(|behaviour| behaviour.answer = Some("error=access_denied&error_description=nope&state=STATE"));
    let finished = world.get_token(&issuer, &[]).fails();
    assert_eq!(
        finished.error(),
        format!("{CHAIN}oauth2 error: authorization error: authorization error from server: access_denied nope")
    );
    let page = world.page();
    assert_eq!(page.status, 500);
    assert!(page.body.contains("authorization error") && !page.body.contains("nope"));
}

#[test]
fn an_answer_without_our_state_ends_the_sign_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    for answer in ["code=x&state=WRONG", "error=access_denied&state=WRONG"] {
        issuer.behave(|behaviour| behaviour.answer = Some(answer));
        let finished = world.get_token(&issuer, &[]).fails();
        assert!(
            finished
                .error()
                .starts_with(&format!("{CHAIN}oauth2 error: authorization error: state does not match (wants ")),
            "{}",
            finished.stderr
        );
        assert!(finished.error().ends_with(" but got WRONG)"));
        assert_eq!(world.page().status, 500);
        assert!(issuer.requests("/token").is_empty());
    }
}

#[test]
fn other_requests_to_the_local_server_do_not_disturb_the_sign_in() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    world.browser_does(Behaviour::DoesNothing);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let (env, arguments) = (world.env(), world.arguments(&issuer, &["--skip-open-browser=false"]));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            crate::world::run_in(&env, &arguments, Box::new(std::io::empty()))
        });
        let url = wait_for(|| world.opened().first().cloned());
        assert_eq!(get(&format!("{url}favicon.ico"), &[], 0).status, 404);
        let index = get(&format!("{url}?state=x"), &[], 0);
        assert_eq!(index.status, 302);
        assert!(index.headers["location"].to_str().unwrap().starts_with(&format!("{}/auth?", issuer.url)));
        let over_ipv4 = url.replace("localhost", "127.0.0.1");
        assert_eq!(get(&over_ipv4, &[], 0).status, 302);
        assert_eq!(get(&url, &[], 10).status, 200);
        run.join().unwrap().ok();
    });
}

#[test]
fn busy_ports_are_all_named() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let holders =
        [std::net::TcpListener::bind("127.0.0.1:0").unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap()];
    let [first, second] = holders.each_ref().map(|holder| holder.local_addr().unwrap().to_string());
    let arguments = [
        "get-token".to_owned(),
        format!("--oidc-issuer-url={}", issuer.url),
        "--oidc-client-id=kubernetes".to_owned(),
        "--token-cache-storage=none".to_owned(),
        format!("--listen-address={first},{second}"),
    ];
    let finished = world.run(&arguments.each_ref().map(String::as_str)).fails();
    assert!(
        finished.error().starts_with(&format!(
            "{CHAIN}oauth2 error: authorization error: could not start a local server: no available port: could not listen: listen tcp {first}: bind: address already in use\nlisten tcp {second}: bind: address already in use\nhint: "
        )),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_provider_that_hangs_is_cut_off_by_the_time_limit() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    issuer.behave(|behaviour| behaviour.token_delay = Duration::from_secs(600));
    let finished = world.get_token(&issuer, &["--authentication-timeout-sec=1"]).fails();
    assert_eq!(
        finished.error(),
        format!("{CHAIN}oauth2 error: could not exchange the code and token: context deadline exceeded")
    );
}

#[test]
fn no_verbosity_shows_a_secret() {
    let world = World::new();
    let issuer = Issuer::plain(&world.clock);
    let flags = ["-v9", "--oidc-client-secret=s3cr3t-value", "--grant-type=authcode"];
    let finished = world.get_token(&issuer, &flags).ok();
    assert!(finished.stderr.lines().all(|line| line.starts_with("I0101 00:00:00.000000 ")), "{}", finished.stderr);
    let token = finished.token();
    for secret in ["s3cr3t-value", "REFRESH_TOKEN", "CODE_1", token.as_str()] {
        assert!(!finished.stderr.contains(secret), "{secret}");
    }
    let password = world.get_token(&issuer, &["-v9", "--username=u", "--password=pass-value"]).ok();
    assert!(!password.stderr.contains("pass-value"));
}
