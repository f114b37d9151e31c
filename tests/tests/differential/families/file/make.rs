//! Good files with several issuers, and tokens that they accept.

use std::sync::Arc;

use portcullis_jose::SigningKey;
use serde_json::{Value, json};

use crate::draft::{CLIENT, Case, World, object};
use crate::tree::{Tree, map, text};

/// An issuer of a file.
#[derive(Clone)]
pub(crate) struct Trusted {
    pub(crate) url: String,
    pub(crate) key: SigningKey,
    pub(crate) entry: Tree,
    /// What makes a token of it a user.
    pub(super) claims: Vec<(String, String)>,
}

/// A file and what its issuers sign.
pub(super) struct Sample {
    world: Arc<World>,
    pub(super) issuers: Vec<Trusted>,
}

impl Sample {
    /// A file with so many issuers, each with features chosen at random.
    pub(super) fn new(world: &Arc<World>, issuers: usize) -> Self {
        let issuers = (0..issuers).map(|n| issuer(world, n, true)).collect();
        Self { world: Arc::clone(world), issuers }
    }

    /// A file whose issuers say only what they must.
    pub(super) fn plain(world: &Arc<World>, issuers: usize) -> Self {
        let issuers = (0..issuers).map(|n| issuer(world, n, false)).collect();
        Self { world: Arc::clone(world), issuers }
    }

    /// Gives an issuer another URL.
    pub(super) fn rename(&mut self, at: usize, url: &str) {
        let issuer = &mut self.issuers[at];
        url.clone_into(&mut issuer.url);
        *issuer.entry.get_mut("issuer").get_mut("url") = text(url);
        for (name, value) in &mut issuer.claims {
            if name == "iss" {
                *value = json!(url).to_string();
            }
        }
    }

    pub(super) fn file(&self, world: &World) -> Tree {
        file(world, self.issuers.iter().map(|issuer| issuer.entry.clone()).collect())
    }

    /// A token of issuer `whose`, signed by `signer`, with these claims replaced or added.
    pub(super) fn token(&self, whose: usize, signer: usize, changes: &[(&str, String)]) -> String {
        let Some(issuer) = self.issuers.get(whose) else { return "opaque".to_owned() };
        let mut claims = issuer.claims.clone();
        for (name, value) in changes {
            match claims.iter_mut().find(|(other, _)| other == name) {
                Some((_, old)) => value.clone_into(old),
                None => claims.push(((*name).to_owned(), value.clone())),
            }
        }
        let key = &self.issuers[signer].key;
        portcullis_jose::sign_compact(key, key.default_algorithm(), None, object(&claims).as_bytes()).expect("a token")
    }

    /// A token of issuer `whose`.
    pub(super) fn case(&self, family: &'static str, whose: usize) -> Case {
        self.case_with(family, self.token(whose, whose, &[]))
    }

    pub(super) fn case_with(&self, family: &'static str, token: String) -> Case {
        let jwks = |key: &SigningKey| json!({ "keys": [key.public().to_json()] }).to_string();
        Case {
            jwks: self.issuers.first().map_or_else(|| r#"{"keys":[]}"#.to_owned(), |issuer| jwks(&issuer.key)),
            issuer_jwks: self.issuers.iter().map(|issuer| (issuer.url.clone(), jwks(&issuer.key))).collect(),
            token,
            ..super::bare(family, self.file(&self.world).json())
        }
    }
}

/// A file around these entries.
pub(super) fn file(world: &World, entries: Vec<Tree>) -> Tree {
    let version = world.pick(&["v1", "v1", "v1beta1", "v1alpha1"]);
    let mut file = map([
        ("apiVersion", text(&format!("apiserver.config.k8s.io/{version}"))),
        ("kind", text("AuthenticationConfiguration")),
        ("jwt", Tree::List(entries)),
    ]);
    if world.chance(4) {
        let conditions = world.pick(&["[]", "[{\"path\":\"/livez\"}]", "[{\"path\":\"/livez\"},{\"path\":\"/x\"}]"]);
        let mut anonymous = map([("enabled", Tree::Raw("true".to_owned()))]);
        if world.chance(2) {
            anonymous = anonymous.with("conditions", Tree::Raw(conditions.to_owned()));
        }
        file = file.with("anonymous", anonymous);
    }
    file
}

pub(super) fn issuer(world: &Arc<World>, n: usize, rich: bool) -> Trusted {
    let keys = [&world.keys.p256[0], &world.keys.p256[1], &world.keys.p384];
    let url = format!("https://issuer-{n}.example{}", if rich { world.pick(&["", "", "/", "/realms/a"]) } else { "" });
    let mut claims: Vec<(String, Value)> = vec![
        ("iss".into(), json!(url)),
        ("aud".into(), json!(CLIENT)),
        ("exp".into(), json!(world.times.future)),
        ("sub".into(), json!(format!("jane-{n}"))),
        ("groups".into(), json!(["dev", "ops"])),
    ];
    let chance = |one_in: u32| rich && world.chance(one_in);
    let mut issuer = map([("url", text(&url)), ("audiences", Tree::List(vec![text(CLIENT)]))]);
    if chance(3) {
        *issuer.get_mut("audiences") = Tree::List(vec![text("other"), text(CLIENT)]);
        issuer = issuer.with("audienceMatchPolicy", text("MatchAny"));
    } else if chance(4) {
        issuer = issuer.with("audienceMatchPolicy", text("MatchAny"));
    }
    if chance(4) {
        issuer = issuer.with("discoveryURL", text(&format!("https://discovery-{n}.example/x")));
    }
    if chance(4) {
        issuer = issuer.with("certificateAuthority", text(certificate()));
    }
    let prefix = if rich { world.pick(&["", "", "oidc:", "é#"]) } else { "" };
    let claim = if chance(4) { "email" } else { "sub" };
    if claim == "email" {
        claims.push(("email".into(), json!("jane@example.com")));
        claims.push(("email_verified".into(), json!(true)));
    }
    let mut mappings = map([("username", map([("claim", text(claim)), ("prefix", text(prefix))]))]);
    if chance(2) {
        mappings = mappings.with("groups", map([("claim", text("groups")), ("prefix", text(world.pick(&["", "p:"])))]));
    }
    if chance(3) {
        mappings = mappings.with("uid", map([("claim", text("uid"))]));
        claims.push(("uid".into(), json!("u-1")));
    }
    if chance(8) {
        mappings = mappings.with("extra", Tree::List(Vec::new()));
    }
    let mut entry = map([("issuer", issuer), ("claimMappings", mappings)]);
    if chance(3) {
        let mut rules = vec![map([("claim", text("hd")), ("requiredValue", text("example.com"))])];
        if world.chance(3) {
            rules.push(map([("claim", text("empty"))]));
            claims.push(("empty".into(), json!("")));
        }
        entry = entry.with("claimValidationRules", Tree::List(rules));
        claims.push(("hd".into(), json!("example.com")));
    }
    if chance(3) {
        claims.push(("jti".into(), json!(format!("id-{n}"))));
    }
    let claims = claims.into_iter().map(|(name, value)| (name, value.to_string())).collect();
    Trusted { url, key: keys[n % keys.len()].clone(), entry, claims }
}

/// A CA, as PEM.
pub(super) fn certificate() -> &'static str {
    static PEM: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| portcullis_testkit::TestCa::new("some CA").pem().to_owned());
    &PEM
}
