//! Sealing, opening, and the limits of the cookies.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use portcullis_jose::base64url_decode;
use portcullis_runtime::MockClock;
use portcullis_storage::MemoryKernel;

use super::*;
use crate::http::Source;

struct World {
    flows: Flows,
    hand: MockClock,
    clock: Clock,
    rng: Rng,
    store: Store,
}

fn world() -> World {
    let (clock, hand) = Clock::mock(1_000_000);
    let rng = Rng::seeded(3);
    let store = Store::new(Arc::new(MemoryKernel::new()), clock.clone(), rng.clone());
    let flows = Flows::new(store.clone(), clock.clone(), rng.clone(), "https://a/dex", "/dex");
    World { flows, hand, clock, rng, store }
}

fn request(state: &str) -> AuthRequest {
    AuthRequest {
        client_id: "c".to_owned(),
        redirect_uri: "http://localhost:8000".to_owned(),
        scopes: vec!["openid".to_owned()],
        state: state.to_owned(),
        nonce: String::new(),
        challenge: None,
        force_consent: false,
        connector_id: "local".to_owned(),
    }
}

fn inbound(secure: bool, cookies: &[(String, String)]) -> Inbound {
    let mut headers = HeaderMap::new();
    if !cookies.is_empty() {
        let text = cookies.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("; ");
        headers.insert(header::COOKIE, text.parse().unwrap());
    }
    Inbound {
        method: Method::GET,
        path: String::new(),
        query: String::new(),
        headers,
        body: Bytes::new(),
        secure,
        from: Source::default(),
    }
}

impl World {
    fn flow(&self, state: &str) -> Flow {
        Flow::begin(&self.rng, request(state), self.clock.now() + Duration::from_secs(900))
    }

    /// Puts a flow; returns the jar afterwards.
    async fn put(&self, jar: &[(String, String)], flow: &Flow) -> Vec<(String, String)> {
        let reply = self.flows.put(&inbound(true, jar), flow, Reply::new(Bytes::new())).await.unwrap();
        let mut jar = jar.to_vec();
        for cookie in cookies_of(&reply) {
            let (pair, attributes) = cookie.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            jar.retain(|(n, _)| n != name);
            if !attributes.contains("Max-Age=0;") {
                jar.push((name.to_owned(), value.to_owned()));
            }
        }
        jar
    }
}

#[tokio::test]
async fn what_was_sealed_is_opened_and_its_cookie_has_the_right_attributes() {
    let w = world();
    let flow = w.flow("s");
    for (secure, name, attributes) in [
        (true, "__Host-portcullis-", "; Path=/; Max-Age=1200; HttpOnly; SameSite=Lax; Secure"),
        (false, "portcullis-", "; Path=/dex; Max-Age=1200; HttpOnly; SameSite=Lax"),
    ] {
        let reply = w.flows.put(&inbound(secure, &[]), &flow, Reply::new(Bytes::new())).await.unwrap();
        let cookie = cookies_of(&reply).remove(0);
        assert!(cookie.starts_with(name) && cookie.ends_with(attributes), "{cookie}");
        let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
        let jar = [(name.to_owned(), value.to_owned())];
        let opened = w.flows.get(&inbound(secure, &jar), &flow.id).await.unwrap();
        assert!(opened.request == flow.request && opened.secret == flow.secret && opened.id == flow.id);
        assert!(
            matches!(w.flows.get(&inbound(!secure, &jar), &flow.id).await, Err(FlowError::Unknown)),
            "the other scheme has other cookies"
        );
    }
}

#[tokio::test]
async fn issuers_on_one_host_do_not_see_each_others_cookies() {
    let w = world();
    let flow = w.flow("s");
    let jar = w.put(&[], &flow).await;
    let other = Flows::new(w.store.clone(), w.clock.clone(), w.rng.clone(), "https://a:8443/dex", "/dex");
    assert!(matches!(other.get(&inbound(true, &jar), &flow.id).await, Err(FlowError::Unknown)));
    // Not even when the cookie is renamed: the issuer is sealed in.
    let renamed = [(format!("__Host-{}{}", other.prefix, flow.id), jar[0].1.clone())];
    assert!(matches!(other.get(&inbound(true, &renamed), &flow.id).await, Err(FlowError::Unknown)));
}

#[tokio::test]
async fn a_changed_cookie_opens_nothing() {
    let w = world();
    let flow = w.flow("s");
    let jar = w.put(&[], &flow).await;
    let bytes = base64url_decode(&jar[0].1).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let jar = [(jar[0].0.clone(), base64url_encode(&changed))];
        assert!(matches!(w.flows.get(&inbound(true, &jar), &flow.id).await, Err(FlowError::Unknown)), "byte {at}");
    }
    for value in ["", "x", "AA", &"A".repeat(8), &jar[0].1[..40]] {
        let jar = [(jar[0].0.clone(), value.to_owned())];
        assert!(matches!(w.flows.get(&inbound(true, &jar), &flow.id).await, Err(FlowError::Unknown)), "{value}");
    }
    // Another flow's content under this flow's name.
    let other = w.flow("t");
    let others = w.put(&[], &other).await;
    let swapped = [(jar[0].0.clone(), others[0].1.clone())];
    assert!(matches!(w.flows.get(&inbound(true, &swapped), &flow.id).await, Err(FlowError::Unknown)));
}

#[tokio::test]
async fn a_browser_keeps_its_four_newest_flows() {
    let w = world();
    let mut jar = Vec::new();
    let mut flows = Vec::new();
    for i in 0..6 {
        w.hand.advance(Duration::from_secs(1));
        let flow = w.flow(&i.to_string());
        jar = w.put(&jar, &flow).await;
        flows.push(flow);
        assert!(jar.len() <= 4);
    }
    for (i, flow) in flows.iter().enumerate() {
        assert_eq!(w.flows.get(&inbound(true, &jar), &flow.id).await.is_ok(), i >= 2, "{i}");
    }
}

#[tokio::test]
async fn the_flows_of_a_browser_stay_within_six_kilobytes() {
    let w = world();
    let mut jar = Vec::new();
    for _ in 0..4 {
        w.hand.advance(Duration::from_secs(1));
        jar = w.put(&jar, &w.flow(&"x".repeat(1500))).await;
        assert!(jar.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() <= MAX_TOTAL);
    }
    assert_eq!(jar.len(), 2);
}

#[tokio::test]
async fn a_large_request_is_stored_and_found_and_freed() {
    let w = world();
    let flow = w.flow(&"x".repeat(10_000));
    let jar = w.put(&[], &flow).await;
    assert!(jar[0].1.len() < 500);
    let from = inbound(true, &jar);
    assert_eq!(w.flows.get(&from, &flow.id).await.unwrap().request.state.len(), 10_000);
    w.flows.release(&from, &flow.id).await;
    assert!(matches!(w.flows.get(&from, &flow.id).await, Err(FlowError::Unknown)));
    // Beyond what is stored at all.
    let flow = w.flow(&"x".repeat(60_000));
    assert!(matches!(
        w.flows.put(&inbound(true, &[]), &flow, Reply::new(Bytes::new())).await,
        Err(FlowError::Refused(_))
    ));
}

#[tokio::test]
async fn stored_requests_are_capped_for_an_address_and_for_all() {
    let w = world();
    let keep = async |from: Source| {
        let inbound = Inbound { from, ..inbound(true, &[]) };
        match w.flows.put(&inbound, &w.flow(&"x".repeat(4000)), Reply::new(Bytes::new())).await {
            Ok(_) => true,
            Err(FlowError::Refused(_)) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let from = |client: u128, claimed: Option<u32>| Source {
        client: Some(IpAddr::V6(client.into())),
        claimed: claimed.map(|n| IpAddr::V4(n.into())),
    };
    // One address, by whatever name of its network and whomever it says it speaks for.
    let mut kept = 0;
    for number in 0..200 {
        kept += usize::from(keep(from(0x2001_0db8_u128 << 96 | number, None)).await);
        kept += usize::from(keep(from(0x2001_0db8_u128 << 96 | number, u32::try_from(number).ok())).await);
    }
    assert!((20..=32).contains(&kept), "{kept}");
    assert!(keep(from(0x2001_0db9_u128 << 96, None)).await, "others have slots of their own");
    for number in 0..3000 {
        kept += usize::from(keep(from(0x2001_0dba_u128 << 96 | number << 64, None)).await);
    }
    assert!((500..=512).contains(&kept), "{kept}");
    w.hand.advance(Duration::from_secs(901));
    assert!(keep(from(0x2001_0db8_u128 << 96, None)).await, "slots come back");
}

#[tokio::test]
async fn flows_survive_a_rotation_of_the_sealing_keys_and_reach_other_replicas() {
    let w = world();
    let replica = Flows::new(w.store.clone(), w.clock.clone(), w.rng.clone(), "https://a/dex", "/dex");
    let early = w.flow("early");
    let jar = w.put(&[], &early).await;
    assert!(replica.get(&inbound(true, &jar), &early.id).await.is_ok());
    // A day later the first replica seals with a new key, which the other one has not loaded.
    w.hand.advance(Duration::from_secs(86_400 - 60));
    let before = w.flow("before");
    let before_jar = w.put(&[], &before).await;
    assert!(replica.get(&inbound(true, &before_jar), &before.id).await.is_ok());
    w.hand.advance(Duration::from_secs(400));
    let after = w.flow("after");
    let after_jar = w.put(&[], &after).await;
    for flows in [&w.flows, &replica] {
        assert!(flows.get(&inbound(true, &after_jar), &after.id).await.is_ok());
        assert!(flows.get(&inbound(true, &before_jar), &before.id).await.is_ok());
    }
}

#[test]
fn step_codes_are_dexs_construction_and_differ_by_step_and_flow() {
    let rng = Rng::seeded(1);
    let flow = Flow::begin(&rng, request(""), Timestamp::from_unix_seconds(0));
    let message = [b"\x0a\x19", flow.id.as_bytes(), b"\x0a\x0d", b"step:continue"].concat();
    let want = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, flow.secret.as_bytes()), &message);
    assert_eq!(flow.mac(Step::Continue), base64url_encode(want.as_ref()));
    let steps = [Step::Login, Step::Continue, Step::Approval];
    for step in steps {
        for other in steps {
            assert_eq!(flow.allows(step, &flow.mac(other)), step == other);
        }
    }
    let other = Flow { id: new_id(&rng), ..flow.clone() };
    assert!(!other.allows(Step::Login, &flow.mac(Step::Login)));
    assert!(!format!("{flow:?}").contains(&flow.secret));
}

#[test]
fn ids_have_dexs_form() {
    let rng = Rng::seeded(5);
    let ids: std::collections::HashSet<String> = (0..500).map(|_| new_id(&rng)).collect();
    assert_eq!(ids.len(), 500);
    assert!(ids.iter().all(|id| is_id(id) && id.as_bytes()[0].is_ascii_lowercase()));
}

proptest::proptest! {
    #[test]
    fn no_cookie_value_panics(value in "[A-Za-z0-9_-]{0,200}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let w = world();
        let id = new_id(&w.rng);
        let jar = [(format!("__Host-{}{id}", w.flows.prefix), value)];
        proptest::prop_assert!(runtime.block_on(w.flows.get(&inbound(true, &jar), &id)).is_err());
    }
}
