//! Words of refused tokens that differ on purpose, each pair with its reason. Any other pair of words is a failure.

/// Two ways to say one thing, in which `*` is any text.
pub(crate) struct Pair {
    pub(crate) theirs: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) why: &'static str,
    /// Whether each run with keys given has it. Of others chance decides, or it takes a network.
    pub(crate) is_sure: bool,
    /// What has to be so beside.
    also: fn(&str, &str) -> bool,
}

const fn pair(theirs: &'static str, ours: &'static str, why: &'static str) -> Pair {
    Pair { theirs, ours, why, is_sure: true, also: |_, _| true }
}

const QUOTED: &str = "go-jose and Go's decoders are quoted there, parts of the token included";
const NO_KEY: &str = "*: malformed jwt: the token header embeds a key that is not public";
const NO_HEADER: &str = "*: malformed jwt: the token header is not a JSON object of reasonable size";
const NOT_YET: &str = "*: current time * before the nbf (not before) time: *";

pub(crate) const PAIRS: [Pair; 13] = [
    pair("*: malformed jwt: failed to unmarshal JWK: *", NO_KEY, QUOTED),
    pair("*: malformed jwt: go-jose/go-jose: invalid embedded jwk, must be public key", NO_KEY, QUOTED),
    pair(
        "*: malformed jwt: failed to unmarshal key ID: json: *",
        "*: malformed jwt: the token header member \"kid\" is missing or of the wrong type",
        QUOTED,
    ),
    pair(
        "*: malformed jwt: failed to unmarshal nonce: json: *",
        "*: malformed jwt: the token header member \"nonce\" is missing or of the wrong type",
        QUOTED,
    ),
    pair(
        "*: malformed jwt: failed to unmarshal x5c header: *",
        "*: malformed jwt: the token header member \"x5c\" is missing or of the wrong type",
        QUOTED,
    ),
    pair("*: malformed jwt: failed to unmarshal value: json: cannot unmarshal number *", NO_HEADER, QUOTED),
    pair("*: malformed jwt: invalid character *", NO_HEADER, QUOTED),
    pair(
        "*: malformed jwt: json: duplicate key * in object",
        "*: malformed jwt: the token header has a member twice",
        QUOTED,
    ),
    pair(
        "*: malformed jwt: illegal base64 data at input byte *",
        "*: malformed jwt: the * of the token is not base64url without padding",
        QUOTED,
    ),
    pair(
        "*: while getting distributed claim *: Get *: dial tcp *",
        "*: while getting distributed claim *: this authenticator does not fetch claims from *",
        "with keys given ours has no network",
    ),
    Pair {
        is_sure: false,
        ..pair(
            "*: while getting distributed claim *: Get *: dial tcp *",
            "*: while getting distributed claim *: Get *: cannot connect: *",
            "the system says so",
        )
    },
    Pair {
        theirs: NOT_YET,
        ours: NOT_YET,
        why: "theirs has fractions of seconds and the reading of a second clock",
        is_sure: true,
        also: |theirs, ours| {
            let nbf = |text: &str| text.rsplit_once(" time: ").map(|(_, nbf)| nbf.to_owned());
            nbf(theirs) == nbf(ours)
        },
    },
    Pair {
        theirs: "oidc: * claim *",
        ours: "oidc: * claim *",
        why: "of several required claims Go takes any first",
        is_sure: false,
        also: of_other_claims,
    },
];

/// The place of the pair that allows these words.
pub(crate) fn allowed(theirs: &str, ours: &str) -> Option<usize> {
    PAIRS.iter().position(|pair| like(pair.theirs, theirs) && like(pair.ours, ours) && (pair.also)(theirs, ours))
}

/// Whether both miss a required claim, each another one.
pub(crate) fn of_other_claims(theirs: &str, ours: &str) -> bool {
    let claim = |text: &str| -> Option<String> {
        let (_, rest) = text.split_once("required claim ").or_else(|| text.split_once("parse claim "))?;
        Some(rest.split([' ', ':']).next()?.to_owned())
    };
    matches!((claim(theirs), claim(ours)), (Some(theirs), Some(ours)) if theirs != ours)
}

fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => {
            let Some(rest) = text.strip_prefix(before) else { return false };
            let mut places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            places.any(|at| like(after, &rest[at..]))
        }
    }
}

#[test]
fn only_listed_words_may_differ() {
    let malformed = |text: &str| format!("oidc: verify token: oidc: malformed jwt: {text}");
    let twice = malformed("the token header has a member twice");
    assert!(allowed(&malformed("json: duplicate key 'alg' in object"), &twice).is_some());
    assert!(allowed(&malformed("json: duplicate keys"), &twice).is_none());
    assert!(allowed(&twice, &malformed("json: duplicate key 'alg' in object")).is_none());
    let not_yet = |now: &str, nbf: &str| format!("oidc: current time {now} before the nbf (not before) time: {nbf}");
    assert!(allowed(&not_yet("1.5 m=+0.5", "2"), &not_yet("1", "2")).is_some());
    assert!(allowed(&not_yet("1.5 m=+0.5", "2"), &not_yet("1", "3")).is_none());
    let required = |claim: &str| format!("oidc: required claim {claim} not present in ID token");
    assert!(allowed(&required("a"), &required("b")).is_some());
    assert!(allowed(&required("a"), &format!("{}.", required("a"))).is_none());
    assert!(allowed("oidc: email not verified", "oidc: e-mail not verified").is_none());
}
