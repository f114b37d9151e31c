//! Seeded faults: each is one thing that people get wrong, with the step that must be named, a part of kube-apiserver's words
//! and a part of the hint that puts it right.

use portcullis_authn::Policy;

use super::*;
use crate::check::stream::{Question, answer};

struct Fault {
    name: &'static str,
    world: fn() -> World,
    change: fn(&mut World),
    verdict: Verdict,
    /// The step that must be named; for a refused configuration there is none.
    step: &'static str,
    message: &'static str,
    hint: &'static str,
}

const fn flags(
    name: &'static str,
    change: fn(&mut World),
    step: &'static str,
    message: &'static str,
    hint: &'static str,
) -> Fault {
    Fault { name, world: World::new, change, verdict: Verdict::Refused, step, message, hint }
}

const fn file(
    name: &'static str,
    change: fn(&mut World),
    step: &'static str,
    message: &'static str,
    hint: &'static str,
) -> Fault {
    Fault { name, world: World::with_file, change, verdict: Verdict::Refused, step, message, hint }
}

const fn nobodys(name: &'static str, change: fn(&mut World), hint: &'static str) -> Fault {
    let (verdict, step, message) = (Verdict::NoOpinion, "issuer", "invalid bearer token");
    Fault { name, world: World::new, change, verdict, step, message, hint }
}

const fn bad_flags(name: &'static str, change: fn(&mut World), message: &'static str, hint: &'static str) -> Fault {
    Fault { name, world: World::new, change, verdict: Verdict::ConfigurationRefused, step: "", message, hint }
}

const fn bad_file(name: &'static str, change: fn(&mut World), message: &'static str, hint: &'static str) -> Fault {
    Fault { name, world: World::with_file, change, verdict: Verdict::ConfigurationRefused, step: "", message, hint }
}

fn other_key(world: &World) -> Value {
    let kid = world.key.kid().to_owned();
    json!({ "keys": [SigningKey::generate(KeyKind::P256, kid).unwrap().public().to_json()] })
}

fn username_expression(world: &mut World, expression: &str) {
    world.jwt()["claimMappings"]["username"] = json!({ "expression": expression });
}

fn sources(world: &mut World, names: &Value) {
    world.unclaim("groups");
    world.claims["_claim_names"] = names.clone();
    world.claims["_claim_sources"] =
        json!({ "src1": { "endpoint": "https://graph.example/x?hush", "access_token": "hush" } });
}

#[rustfmt::skip] // one row, one fault
const FAULTS: &[Fault] = &[
    // Whose token.
    nobodys("the token's issuer ends in a slash", |w| w.claims["iss"] = json!("https://issuer.example/"), "ends in / in the token and not in --oidc-issuer-url: use --oidc-issuer-url=https://issuer.example/"),
    nobodys("the flag's issuer ends in a slash", |w| w.flag("oidc-issuer-url", Some("https://issuer.example/")), "ends in / in --oidc-issuer-url and not in the token: use --oidc-issuer-url=https://issuer.example"),
    nobodys("an http issuer", |w| w.claims["iss"] = json!("http://issuer.example"), "let the provider call itself https://issuer.example"),
    nobodys("an issuer in other letters", |w| w.claims["iss"] = json!("https://Issuer.example"), "letter by letter"),
    nobodys("an issuer with its port", |w| w.claims["iss"] = json!("https://issuer.example:443"), "use --oidc-issuer-url=https://issuer.example:443"),
    nobodys("another issuer", |w| w.claims["iss"] = json!("https://other.example"), "sign in there, or use --oidc-issuer-url=https://other.example"),
    nobodys("no issuer", |w| w.unclaim("iss"), "no iss that is a text"),
    nobodys("an issuer that is a number", |w| w.claims["iss"] = json!(1), "no iss that is a text"),
    nobodys("an opaque token", |w| w.token = Some("gho_16C7e42F292c6912E7710c838347Ae178B4a".to_owned()), "no JWT (1 part, not three)"),
    nobodys("an encrypted token", |w| w.token = Some("a.b.c.d.e".to_owned()), "encrypted (five parts)"),
    nobodys("half a token", |w| w.token = w.token().rsplit_once('.').map(|(start, _)| start.to_owned()), "no JWT (2 parts, not three)"),
    nobodys("a service account's token", |w| { w.claims["iss"] = json!("https://kubernetes.default.svc"); w.claims["kubernetes.io"] = json!({}); }, "a service account's token"),
    nobodys("a token of the usual issuer of service accounts", |w| w.claims["iss"] = json!(OWN), "a service account's token"),
    // Its form.
    flags("the word Bearer", |w| w.token = Some(format!("Bearer {}", w.token())), "form", "malformed jwt", "leave the word Bearer out"),
    flags("quotes", |w| w.token = Some(format!("\"{}\"", w.token())), "form", "malformed jwt", "leave the quotes"),
    flags("a header that was cut", |w| w.token = Some(w.token()[4..].to_owned()), "form", "malformed jwt", "get a new one"),
    flags("over a megabyte", |w| w.claims["groups"] = json!(vec!["a-rather-long-group-name"; 40_000]), "form", "longer than 1048576 bytes", "fewer groups"),
    flags("a critical header", |w| w.header["crit"] = json!(["x"]), "signature", "failed to verify", "critical header members"),
    // Algorithm, key, signature.
    flags("an algorithm that is not allowed", |w| w.flag("oidc-signing-algs", None), "algorithm", "expected [\"RS256\"] got \"ES256\"", "use --oidc-signing-algs=RS256,ES256"),
    file("an algorithm that kube-apiserver does not know", |w| w.header["alg"] = json!("EdDSA"), "algorithm", "got \"EdDSA\"", "never accepts this algorithm"),
    flags("a shared secret", |w| w.header["alg"] = json!("HS256"), "algorithm", "got \"HS256\"", "a secret that kube-apiserver does not share"),
    flags("no signature", |w| w.header["alg"] = json!("none"), "algorithm", "got \"none\"", "not signed"),
    flags("a key that is gone", |w| w.header["kid"] = json!("old"), "signature", "failed to verify id token signature", "the key \"old\" is not in the set (k1)"),
    flags("an empty key set", |w| w.jwks = Some(json!({ "keys": [] })), "signature", "failed to verify id token signature", "no key with an id"),
    flags("another key of the same name", |w| w.jwks = Some(other_key(w)), "signature", "failed to verify id token signature", "another issuer's with the same key id"),
    flags("claims that were changed", |w| { let signed = w.token(); w.claims["groups"] = json!(["admin"]); let mut parts: Vec<String> = signed.split('.').map(str::to_owned).collect(); parts[1] = base64url_encode(w.claims.to_string().as_bytes()); w.token = Some(parts.join(".")); }, "signature", "failed to verify id token signature", "changed after it was signed"),
    flags("an algorithm of another kind of key", |w| { w.header["alg"] = json!("RS256"); w.flag("oidc-signing-algs", Some("RS256")); }, "signature", "failed to verify id token signature", "another kind than RS256 needs"),
    flags("a key that spoils the set", |w| w.jwks.as_mut().unwrap()["keys"].as_array_mut().unwrap().push(json!({ "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA" })), "signature", "unknown json web key type 'AKP'", "take it out of the issuer's key set"),
    flags("no key set at all", |w| w.jwks = Some(json!("x")), "signature", "fetching keys oidc: failed to decode keys", "jwks_uri"),
    flags("no key id, and another issuer's keys", |w| { w.header.as_object_mut().unwrap().remove("kid"); w.jwks = Some(other_key(w)); }, "signature", "failed to verify id token signature", "the token names no key, so all of the set were tried, and none has signed it"),
    flags("an empty key id, and another issuer's keys", |w| { w.header["kid"] = json!(""); w.jwks = Some(other_key(w)); }, "signature", "failed to verify id token signature", "the token names no key, so all of the set were tried"),
    flags("no key id, and keys of another kind", |w| { w.header = json!({ "alg": "RS256" }); w.flag("oidc-signing-algs", None); }, "signature", "failed to verify id token signature", "the token names no key, and the set has none of the kind that RS256 needs"),
    flags("no key id, and no keys", |w| { w.header = json!({ "alg": "ES256" }); w.jwks = Some(json!({ "keys": [] })); }, "signature", "failed to verify id token signature", "the key set has no key: is it this issuer's?"),
    // Registered claims.
    flags("another audience", |w| w.claims["aud"] = json!("dashboard"), "audience", "expected audience \"kubernetes\" got [\"dashboard\"]", "use --oidc-client-id=dashboard"),
    file("another audience, in a file", |w| w.claims["aud"] = json!("dashboard"), "audience", "expected audience \"kubernetes\"", "add \"dashboard\" to jwt[0].issuer.audiences, with audienceMatchPolicy: MatchAny"),
    file("none of several audiences", |w| { w.jwt()["issuer"]["audiences"] = json!(["a", "b"]); w.jwt()["issuer"]["audienceMatchPolicy"] = json!("MatchAny"); }, "audience", "expected audience in [\"a\" \"b\"]", "jwt[0].issuer.audiences"),
    flags("an access token", |w| { w.header["typ"] = json!("at+jwt"); w.claims["aud"] = json!("api"); }, "audience", "got [\"api\"]", "looks like an access token: use the ID token"),
    flags("no audience", |w| w.unclaim("aud"), "audience", "got []", "no aud"),
    flags("an audience that is a number", |w| w.claims["aud"] = json!(7), "claimTypes", "idToken.aud", "aud as a text or a list of texts"),
    flags("a subject that is a number", |w| w.claims["sub"] = json!(7), "claimTypes", "idToken.sub", "must send sub with its type"),
    flags("expired", |w| { w.claims["iat"] = json!(NOW - 4_200); w.claims["exp"] = json!(NOW - 600); }, "expiry", "token is expired (Token Expiry: 2027-01-15 07:50:00", "ended 10 min ago: sign in again"),
    flags("no expiry", |w| w.unclaim("exp"), "expiry", "token is expired (Token Expiry: 0001-01-01", "has no exp"),
    flags("an expiry that is a text", |w| w.claims["exp"] = json!("soon"), "claimTypes", "failed to unmarshal claims", "must be numbers"),
    flags("tokens of seconds", |w| { w.claims["iat"] = json!(NOW - 40); w.claims["exp"] = json!(NOW - 10); }, "expiry", "token is expired", "gives its tokens 30 s only"),
    flags("a provider whose clock is ahead", |w| { w.claims["iat"] = json!(NOW + 100); w.claims["exp"] = json!(NOW - 1); }, "expiry", "token is expired", "clocks differ"),
    flags("a clock that is behind", |w| w.claims["nbf"] = json!(NOW + 180), "notBefore", "before the nbf", "begins in 3 min: the clock here"),
    // The user.
    flags("no email", |w| w.unclaim("email"), "username", "parse username claims \"email\": claim not present", "ask for the scope email"),
    flags("no such claim", |w| w.flag("oidc-username-claim", Some("upn")), "username", "claim not present", "name a claim that is there in --oidc-username-claim: sub, email, name"),
    flags("a user name's claim in other letters", |w| { w.claims["Email"] = w.claims["email"].take(); w.unclaim("email"); }, "username", "claim not present", "the token spells it \"Email\", and names are compared letter by letter: write Email at --oidc-username-claim"),
    flags("a required claim in other letters", |w| { w.flag("oidc-required-claim", Some("hd=a")); w.claims["HD"] = json!("a"); }, "requiredClaims", "required claim hd not present", "the token spells it \"HD\""),
    file("a uid in other letters", |w| { w.jwt()["claimMappings"]["uid"] = json!({ "claim": "oid" }); w.claims["OID"] = json!("7"); }, "uid", "parse uid claim \"oid\"", "write OID at jwt[0].claimMappings.uid"),
    flags("a user name that is a list", |w| w.claims["email"] = json!(["a"]), "username", "cannot unmarshal array", "email as one text"),
    flags("an address that is not verified", |w| w.claims["email_verified"] = json!(false), "emailVerified", "email not verified", "verify the address at the provider"),
    flags("email_verified as a text", |w| w.claims["email_verified"] = json!("true"), "emailVerified", "parse 'email_verified' claim", "without quotes"),
    flags("groups that are objects", |w| w.claims["groups"] = json!([{ "name": "dev" }]), "groups", "parse groups claim \"groups\"", "groups as a list of texts, or one text"),
    file("groups that are objects, in a file", |w| w.claims["groups"] = json!([{ "name": "dev" }]), "groups", "parse groups claim", "dyn(claims.groups).map(g, g.name)"),
    flags("groups that are a number", |w| w.claims["groups"] = json!(7), "groups", "cannot unmarshal number", "a list of texts"),
    file("no uid", |w| w.jwt()["claimMappings"]["uid"] = json!({ "claim": "oid" }), "uid", "parse uid claim \"oid\"", "jwt[0].claimMappings.uid"),
    flags("a required claim that is missing", |w| w.flag("oidc-required-claim", Some("hd=example.com")), "requiredClaims", "required claim hd not present", "whoever has no hd is to be refused, says --oidc-required-claim"),
    flags("a required claim of another value", |w| { w.flag("oidc-required-claim", Some("hd=a")); w.claims["hd"] = json!("b"); }, "requiredClaims", "Got = b, want = a", "this user's hd is \"b\""),
    file("a required claim that is no text", |w| w.jwt()["claimValidationRules"] = json!([{ "claim": "email_verified", "requiredValue": "true" }]), "requiredClaims", "parse claim email_verified", "claims.email_verified == true"),
    flags("groups that are elsewhere", |w| sources(w, &json!({ "groups": "src1" })), "distributedClaims", "does not fetch claims from", "overage at Entra ID"),
    flags("a source that is missing", |w| sources(w, &json!({ "groups": "src2" })), "claimSources", "source does not exist", "do not fit together"),
    // Expressions.
    file("a user name of a claim that is missing", |w| username_expression(w, "claims.upn"), "username", "no such key: upn", "the token has no upn: let the provider send it, or name a claim that is there at jwt[0].claimMappings.username: sub, email, name"),
    file("a user name of a claim in other letters", |w| { w.claims["UPN"] = json!("jane"); username_expression(w, "claims.upn"); }, "username", "no such key: upn", "the token spells it \"UPN\", and names are compared letter by letter: write UPN at jwt[0].claimMappings.username"),
    file("a user name that is empty", |w| username_expression(w, "''"), "username", "empty username via CEL", "is empty"),
    file("a user name that is no text", |w| username_expression(w, "claims.exp"), "username", "must return a string", "the claim exp is a number, and a text is wanted: write string(int(claims.exp)) at jwt[0]"),
    file("a user name of a literal that is no text", |w| username_expression(w, "7"), "username", "must return a string", "come to a text, as with string(…)"),
    file("groups that are no texts", |w| w.jwt()["claimMappings"]["groups"] = json!({ "expression": "[1, 2]" }), "groups", "evaluating group claim expression", "come to texts, as with string(…)"),
    file("extra of a claim that is missing", |w| w.jwt()["claimMappings"]["extra"] = json!([{ "key": "a.example/b", "valueExpression": "claims.team" }]), "extra", "no such key: team", "at jwt[0].claimMappings.extra"),
    file("a rule about claims that does not hold", |w| w.jwt()["claimValidationRules"] = json!([{ "expression": "claims.name == 'Joe'", "message": "only Joe" }]), "claimRules", "failed: only Joe", "does not hold for this token"),
    file("a rule about claims that fails", |w| w.jwt()["claimValidationRules"] = json!([{ "expression": "claims.hd == 'x'" }]), "claimRules", "no such key: hd", "claims.?hd.orValue('')"),
    file("a member of a claim that is missing", |w| { w.claims["realm"] = json!({}); username_expression(w, "claims.realm.email"); }, "username", "no such key: email", "reads has no \"email\""),
    file("a claim of another name that is missing", |w| username_expression(w, "claims['https://x.example/upn']"), "username", "no such key: https://x.example/upn", "reads has no \"https://x.example/upn\""),
    file("extra that the user does not have", |w| w.jwt()["userValidationRules"] = json!([{ "expression": "user.extra['a.example/x'][0] == 'y'" }]), "userRules", "no such key: a.example/x", "reads has no \"a.example/x\""),
    file("groups of which some are objects", |w| w.claims["groups"] = json!(["a", { "name": "b" }]), "groups", "parse groups claim", "as a list of texts, or one text"),
    file("a rule about the user that does not hold", |w| { w.claims["groups"] = json!(["system:masters"]); w.jwt()["userValidationRules"] = json!([{ "expression": "!user.groups.exists(g, g.startsWith('system:'))" }]); }, "userRules", "evaluating user info validation rule", "jwt[0].userValidationRules does not hold"),
    file("an expression that costs too much", |w| { w.claims["groups"] = json!(vec!["a"; 150]); let all = |inner: &str, x: &str| format!("dyn(claims.groups).all({x}, {inner})"); w.jwt()["claimValidationRules"] = json!([{ "expression": all(&all(&all("x + y != z", "z"), "y"), "x") }]); }, "claimRules", "actual cost limit exceeded", "the expression at jwt[0].claimValidationRules costs more for this token than kube-apiserver lets it: an exists, map or filter inside another"),
    file("a list that is shorter", |w| { w.claims["groups"] = json!([]); username_expression(w, "dyn(claims.groups)[0]"); }, "username", "index out of bounds", "ask for its size(…) first"),
    // Configurations.
    bad_flags("an http issuer in the flag", |w| w.flag("oidc-issuer-url", Some("http://issuer.example")), "URL scheme must be https", "write https:// in --oidc-issuer-url"),
    bad_flags("no client id", |w| w.flag("oidc-client-id", None), "must be specified together", "give --oidc-issuer-url and --oidc-client-id both"),
    bad_flags("an algorithm that nobody knows", |w| w.flag("oidc-signing-algs", Some("HS256")), "unsupported signing alg: \"HS256\"", "ES256, ES384"),
    bad_flags("an issuer with a query", |w| w.flag("oidc-issuer-url", Some("https://issuer.example/?a=b")), "must not contain a query", "leave that part"),
    bad_file("no prefix", |w| w.jwt()["claimMappings"]["username"] = json!({ "claim": "email" }), "prefix is required when claim is set", "add jwt[0].claimMappings.username.prefix: \"\""),
    bad_file("a field that is not known", |w| w.jwt()["issuer"]["clientID"] = json!("x"), "unknown field \"jwt[0].issuer.clientID\"", "case-sensitive"),
    bad_file("several audiences without a policy", |w| w.jwt()["issuer"]["audiences"] = json!(["a", "b"]), "must be MatchAny", "audienceMatchPolicy: MatchAny"),
    bad_file("no audiences", |w| w.jwt()["issuer"]["audiences"] = json!([]), "at least one", "must name the client id"),
    bad_file("an expression that does not compile", |w| w.jwt()["claimMappings"]["groups"] = json!({ "expression": "claims.groups.map(g, g)" }), "compilation failed", "dyn(claims.groups)"),
    bad_file("email without email_verified", |w| username_expression(w, "claims.email"), "claims.email_verified must be used", "claims.?email_verified.orValue(true) == true"),
    bad_file("a rule that is no truth", |w| w.jwt()["claimValidationRules"] = json!([{ "expression": "claims.name" }]), "must evaluate to bool", "compare it at jwt[0].claimValidationRules[0].expression"),
    bad_file("a rule about audiences that is no truth", |w| w.jwt()["claimValidationRules"] = json!([{ "expression": "claims.audience" }]), "must evaluate to bool", "compare it at jwt[0].claimValidationRules[0].expression"),
    bad_file("an expression of two types", |w| username_expression(w, "has(claims.x) ? claims.sub + '' : 7"), "no matching overload for '_?_:_'", "must have one type: write string(…) or dyn(…) around them"),
    bad_file("has() of a text", |w| w.jwt()["claimValidationRules"] = json!([{ "expression": "has(claims['x'])" }]), "invalid argument to has() macro", "claims[?'x'].hasValue() at jwt[0].claimValidationRules[0].expression"),
    bad_file("an expression that is too long", |w| username_expression(w, &format!("'{}'", "x".repeat(100_001))), "exceeds limit", "shorten the expression at jwt[0].claimMappings.username.expression"),
    bad_file("an expression that is too deep", |w| username_expression(w, &format!("{}'x'{}", "(".repeat(300), ")".repeat(300))), "recursion limit exceeded", "shorten the expression at jwt[0].claimMappings.username.expression"),
    bad_file("a path where a certificate is wanted", |w| w.jwt()["issuer"]["certificateAuthority"] = json!("/etc/ca.pem"), "does not contain any valid RSA or ECDSA certificates", "-----BEGIN CERTIFICATE-----"),
    bad_file("one issuer twice", |w| { let jwt = w.jwt().clone(); w.file.as_mut().unwrap()["jwt"].as_array_mut().unwrap().push(jwt); }, "Duplicate value", "leave one of the two out at jwt[1].issuer.url"),
    bad_file("claim and expression", |w| w.jwt()["claimMappings"]["username"]["expression"] = json!("'x'"), "can't both be set", "leave one of claim and expression out"),
    bad_file("a discovery URL that is the issuer's", |w| w.jwt()["issuer"]["discoveryURL"] = json!("https://issuer.example/"), "must be different from URL", "leave discoveryURL out"),
    bad_file("another kind of file", |w| w.file.as_mut().unwrap()["apiVersion"] = json!("v1"), "no kind \"AuthenticationConfiguration\" is registered", "apiserver.config.k8s.io/v1"),
];

#[tokio::test]
async fn every_seeded_fault_is_explained() {
    assert!(FAULTS.len() >= 40);
    let mut wrong = Vec::new();
    for fault in FAULTS {
        let mut world = (fault.world)();
        (fault.change)(&mut world);
        let report = world.report().await;
        let text = format!("{}: {}\nmessage: {:?}\nhint: {:?}", fault.name, report.text(), report.message, report.hint);
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{what}: {text}"));
            }
        };
        let has = |text: &Option<String>, part| text.as_ref().is_some_and(|text| text.contains(part));
        must(report.verdict == fault.verdict, "verdict");
        must(has(&report.message, fault.message), "message");
        must(has(&report.hint, fault.hint), "hint");
        must(report.error().is_some() && report.user.is_none() && !report.is_accepted(), "error");
        must(!text.contains("hush"), "a secret is shown");
        if !fault.step.is_empty() {
            must(report.step == Some(fault.step), "step");
            must(agrees(&report), "the steps say something else");
        }
        if fault.verdict == Verdict::Refused {
            // What the log says of it is what people will search for.
            must(has(&report.log, "err=\"[invalid bearer token, "), "log");
        }
        if let Some(file) = &world.file {
            must(says_the_stream(&world, file, &report).await, "--stream says something else");
        }
    }
    println!("{} seeded faults", FAULTS.len());
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Expressions that fail or come to the wrong thing, for the claim `x` if it is there, and what the hint says to write instead. That
/// must be accepted.
#[tokio::test]
async fn what_hints_say_to_write_is_accepted() {
    let (user, groups, rule) = ("username", "groups", "");
    let cases: &[(&str, Value, &str, &str, &str)] = &[
        // What stands in for a claim has to be of its type.
        (
            rule,
            json!(["a"]),
            "claims.?x.orValue('').startsWith('a')",
            "claims.?x.orValue([])",
            "'a' in dyn(claims.?x.orValue([]))",
        ),
        (rule, json!(7), "claims.?x.orValue('').startsWith('a')", "claims.?x.orValue(0)", "claims.?x.orValue(0) == 7"),
        (
            rule,
            json!({"k": "a"}),
            "claims.?x.orValue('').startsWith('a')",
            "claims.?x.orValue({})",
            "claims.?x.orValue({}) == {'k': 'a'}",
        ),
        (
            rule,
            json!(true),
            "claims.?x.orValue('').startsWith('a')",
            "claims.?x.orValue(false)",
            "claims.?x.orValue(false) == true",
        ),
        (
            rule,
            Value::Null,
            "!dyn(claims.?x.orValue('')).exists(g, g == 'b')",
            "a list wants orValue([])",
            "!dyn(claims.?x.orValue([])).exists(g, g == 'b')",
        ),
        (
            rule,
            json!(7),
            "claims.x.startsWith('a')",
            "string(int(claims.x)) beside texts",
            "string(int(claims.x)).startsWith('7')",
        ),
        (rule, json!(7), "claims.x + 1 > 7", "numbers with a point (1.0)", "claims.x + 1.0 > 7.0"),
        (rule, json!(["a"]), "claims.x.contains('a')", "'x' in claims.x", "'a' in claims.x"),
        (rule, json!({}), "claims.x.startsWith('a')", "(x is an object)", "type(claims.x) != string"),
        (rule, Value::Null, "claims.?x.value() != 'a'", "orValue('') in its place", "claims.?x.orValue('') != 'a'"),
        (rule, json!("a"), "int(claims.x) > 1", "(x is a text)", "!claims.x.matches('^[0-9]+$') || int(claims.x) > 1"),
        // What is missing.
        (rule, Value::Null, "claims.x != 'a'", "has(claims.x)", "!has(claims.x) || claims.x != 'a'"),
        (rule, Value::Null, "claims.x != 'a'", "claims.?x.orValue('')", "claims.?x.orValue('') != 'a'"),
        (rule, Value::Null, "!('a' in dyn(claims.x))", "claims.?x.orValue([])", "!('a' in dyn(claims.?x.orValue([])))"),
        (
            rule,
            Value::Null,
            "claims['x'] != 'a'",
            "claims[?'x'].orValue('')",
            "claims[?'x'].orValue('') != 'a' && !claims[?'x'].hasValue()",
        ),
        (rule, json!({}), "claims.x['y'] != 'a'", "'y' in claims.x", "!('y' in claims.x) || claims.x['y'] != 'a'"),
        (rule, json!({}), "claims.x.y != 'a'", "has(claims.x.y)", "!has(claims.x.y) || claims.x.y != 'a'"),
        (groups, Value::Null, "claims.x", "claims.?x.orValue([])", "claims.?x.orValue([])"),
        (
            groups,
            Value::Null,
            "claims.x.split(',').map(x, x)",
            "claims.?x.orValue('')",
            "claims.?x.orValue('').split(',').map(x, x)",
        ),
        (
            groups,
            Value::Null,
            "dyn(claims.x).map(g, 'p:' + g)",
            "claims.?x.orValue([])",
            "dyn(claims.?x.orValue([])).map(g, 'p:' + g)",
        ),
        // What is no text, and no list of texts.
        (user, json!(7), "claims.x", "string(int(claims.x))", "string(int(claims.x))"),
        (user, json!(7), "claims.?x.orValue('')", "string(int(claims.x))", "string(int(claims.x))"),
        (user, json!(1.5), "claims.x", "string(claims.x)", "string(claims.x)"),
        (user, json!(true), "claims.x", "string(claims.x)", "string(claims.x)"),
        (user, json!(["a"]), "claims.x", "let the provider send one text", "claims.sub"),
        (user, json!({"n": 1, "k": "a"}), "claims.x", "claims.x.k", "claims.x.k"),
        (groups, json!(7), "claims.x", "string(int(claims.x))", "string(int(claims.x))"),
        (
            groups,
            json!([1, 2]),
            "claims.x",
            "dyn(claims.x).map(x, string(int(x)))",
            "dyn(claims.x).map(x, string(int(x)))",
        ),
        (groups, json!([1, "b"]), "claims.x", "dyn(claims.x).map(x, string(x))", "dyn(claims.x).map(x, string(x))"),
        (groups, json!([true]), "claims.x", "dyn(claims.x).map(x, string(x))", "dyn(claims.x).map(x, string(x))"),
        (groups, json!([{"name": "a"}]), "claims.x", "dyn(claims.x).map(x, x.name)", "dyn(claims.x).map(x, x.name)"),
        (groups, json!({"k": "a"}), "claims.x", "claims.x.k", "claims.x.k"),
        (groups, json!("a,b"), "claims.x.split(',')", "write .map(x, x) behind it", "claims.x.split(',').map(x, x)"),
        (
            groups,
            json!("a b"),
            "claims.x.findAll('[a-z]')",
            "write .map(x, x) behind it",
            "claims.x.findAll('[a-z]').map(x, x)",
        ),
    ];
    for (purpose, x, wrong, said, right) in cases {
        let report = async |expression: &str| {
            let mut world = World::with_file();
            if !x.is_null() {
                world.claims["x"] = x.clone();
            }
            match *purpose {
                "" => world.jwt()["claimValidationRules"] = json!([{ "expression": expression }]),
                part => world.jwt()["claimMappings"][part] = json!({ "expression": expression }),
            }
            world.report().await
        };
        let (refused, accepted) = (report(wrong).await, report(right).await);
        let told = format!("{wrong} with {x}: {}\nhint: {:?}", refused.text(), refused.hint);
        assert_eq!(refused.verdict, Verdict::Refused, "{told}");
        assert!(refused.hint.as_ref().unwrap().contains(said), "{said}: {told}");
        assert_eq!(accepted.verdict, Verdict::Accepted, "{right} with {x}: {:?}", accepted.message);
    }
    let null = async |part: &str, expression: &str| {
        let mut world = World::with_file();
        world.claims["x"] = Value::Null;
        world.jwt()["claimMappings"][part] = json!({ "expression": expression });
        world.report().await
    };
    let hint = null("uid", "claims.?x.orValue('7')").await.hint.unwrap();
    assert!(hint.contains("claims.x == null ? '' : claims.x"), "{hint}");
    assert_eq!(null("uid", "claims.x == null ? '' : claims.x").await.verdict, Verdict::Accepted);
    let hint = null(user, "claims.x").await.hint.unwrap();
    assert!(hint.contains("name a claim that is there (sub, email, name)"), "{hint}");
}

/// One step has failed, all before it have passed, none after it was reached.
pub(super) fn agrees(report: &Report) -> bool {
    let mut lines = report.steps.iter().skip_while(|line| line.outcome == Outcome::Ok);
    let failed = lines.next();
    failed.is_some_and(|line| line.outcome == Outcome::Failed && Some(line.step) == report.step)
        && lines.all(|line| line.outcome == Outcome::NotReached)
}

/// `--stream`, which is compared with kube-apiserver's own package, says the same.
async fn says_the_stream(world: &World, file: &Value, report: &Report) -> bool {
    let (config, jwks, token) = (file.to_string(), world.jwks.as_ref().unwrap().to_string(), world.token());
    let question = Question { config: config.into(), jwks: jwks.into(), token: token.into(), ..Question::default() };
    let answer = answer(&question, Policy::Faithful, &Clock::mock(NOW).0).await;
    let said = match report.verdict {
        Verdict::ConfigurationRefused => answer.init_err.or(answer.decode_err),
        _ => answer.err,
    };
    said == report.message
}
