//! Redirects of an endpoint, and who of those on the way sees the access token.

use portcullis_jose::{KeyKind, SigningKey};
use portcullis_testkit::{FakeIssuer, IssuerOptions, Reply};
use serde_json::json;

use super::{ENDPOINT, World, stranger};

const JANE: &str = r#"jane ["p:a", "p:b"]"#;

impl World {
    /// The access tokens that requests to `path` of the second issuer carried.
    fn seen_at(&self, path: &str) -> Vec<Option<String>> {
        let requests = self.claims.requests_to(path);
        requests.iter().map(|request| request.header("authorization").map(str::to_owned)).collect()
    }
}

#[tokio::test]
async fn the_access_token_goes_with_a_redirect_as_far_as_go_lets_it() {
    let world = World::warm().await;
    let sent = Some("Bearer s3cret".to_owned());
    let port = world.claims.issuer().rsplit(':').next().expect("a port").to_owned();
    let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
    // Another port of the same host is the same host; the endpoint itself is at the first issuer.
    for (n, status) in [301, 302, 303, 307, 308].into_iter().enumerate() {
        let path = format!("/there{n}");
        world.claims.reply(&path, Reply::bytes(signed.clone()));
        world.issuer.reply("/from", Reply::redirect(&world.claims.url(&path)).status(status));
        assert_eq!(world.ask(&world.token_to(&world.issuer.url("/from"))).await, JANE, "{status}");
        assert_eq!(world.seen_at(&path), std::slice::from_ref(&sent), "{status}");
    }
    // Another name is another host, and coming back does not bring the token back.
    world.claims.reply("/a", Reply::redirect(&format!("https://localhost:{port}/b")));
    world.claims.reply("/b", Reply::redirect(&world.claims.url("/c")));
    world.claims.reply("/c", Reply::bytes(signed.clone()));
    assert_eq!(world.ask(&world.token_to(&world.claims.url("/a"))).await, JANE);
    assert_eq!(
        (world.seen_at("/a"), world.seen_at("/b"), world.seen_at("/c")),
        (vec![sent.clone()], vec![None], vec![None])
    );
    // A relative place, and a user in the endpoint that the access token overrules.
    world.claims.reply("/d", Reply::redirect("e?x=y"));
    world.claims.reply("/e", Reply::bytes(signed.clone()));
    let with_user = world.claims.url("/d").replacen("https://", "https://user:password@", 1);
    assert_eq!(world.ask(&world.token_to(&with_user)).await, JANE);
    assert_eq!((world.seen_at("/d"), world.seen_at("/e")), (vec![sent.clone()], vec![sent]));
    // Without an access token the user counts, as for Go.
    world.claims.reply("/f", Reply::bytes(signed));
    let with_user = world.claims.url("/f").replacen("https://", "https://user:password@", 1);
    let token = world.issuer.sign(&world.pointing_to(&with_user, ""));
    assert_eq!(world.ask(&token).await, JANE);
    assert_eq!(world.seen_at("/f"), [Some("Basic dXNlcjpwYXNzd29yZA==".to_owned())]);
}

#[tokio::test]
async fn the_tenth_redirect_is_not_followed() {
    let world = World::warm().await;
    let signed = world.claims.sign(&world.groups(&json!(["a", "b"])));
    for n in 0..12 {
        world.claims.reply(&format!("/{n}"), Reply::redirect(&format!("/{}", n + 1)));
    }
    world.claims.reply("/12", Reply::bytes(signed));
    assert_eq!(world.ask(&world.token_to(&world.claims.url("/3"))).await, JANE, "nine are followed");
    let text = world.ask(&world.token_to(&world.claims.url("/2"))).await;
    let want = format!(
        "while getting distributed claim \"groups\": Get {:?}: stopped after 10 redirects",
        world.claims.url("/12")
    );
    assert_eq!(text, want);
    assert_eq!(world.claims.count("/12"), 1);
}

#[tokio::test]
async fn a_redirect_to_plain_http_is_refused_and_a_plain_endpoint_is_not() {
    let world = World::warm().await;
    let key = SigningKey::generate(KeyKind::P256, "k".to_owned()).expect("a key");
    let plain = FakeIssuer::start_with(IssuerOptions { plain: true, key: Some(key), ..IssuerOptions::default() }).await;
    plain.reply(ENDPOINT, Reply::bytes(world.claims.sign(&world.groups(&json!(["a", "b"])))));
    world.claims.reply("/down", Reply::redirect(&format!("{}?token=x", plain.url(ENDPOINT))));
    let text = world.ask(&world.token_to(&world.claims.url("/down"))).await;
    let want = format!(
        "while getting distributed claim \"groups\": Get {:?}: refused to follow a redirect from https to {}",
        world.claims.url("/down"),
        plain.url(ENDPOINT)
    );
    assert_eq!(text, want);
    assert_eq!(plain.count(ENDPOINT), 0);
    // Compat: the scheme of the endpoint itself is the issuer's choice.
    assert_eq!(world.ask(&world.token_to(&plain.url(ENDPOINT))).await, JANE);
}

#[tokio::test]
async fn a_place_that_is_no_url_and_one_that_is_not_trusted_are_named() {
    let stranger = stranger().await;
    let world = World::warm().await;
    let get = |url: &str| format!("while getting distributed claim \"groups\": Get {url:?}: ");
    world.claims.reply("/bad", Reply::redirect("https://a:b/?secret"));
    let text = world.ask(&world.token_to(&world.claims.url("/bad"))).await;
    assert_eq!(
        text,
        format!(
            "{}failed to parse Location header \"https://a:b/\": invalid port number",
            get(&world.claims.url("/bad"))
        )
    );
    world.claims.reply("/away", Reply::redirect(&stranger.url("/x?secret")));
    let text = world.ask(&world.token_to(&world.claims.url("/away"))).await;
    assert_eq!(text, format!("{}tls: invalid peer certificate: UnknownIssuer", get(&stranger.url("/x"))));
    world.claims.reply("/odd", Reply::redirect("ftp://127.0.0.1/"));
    let text = world.ask(&world.token_to(&world.claims.url("/odd"))).await;
    assert!(text.contains("refused to follow a redirect from https to ftp://127.0.0.1/"), "{text}");
}
