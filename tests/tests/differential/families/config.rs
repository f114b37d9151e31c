//! The family about configurations that must not load.

use std::sync::Arc;

use portcullis_authn::JwtConfig;

use crate::draft::{Case, ISSUER, World};

pub(crate) fn configuration(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    for url in [
        "",
        "http://issuer.example",
        "issuer.example",
        "//issuer.example",
        "https:",
        "https:issuer",
        "https:///x",
        "HTTPS://issuer.example",
        "https://issuer.example?",
        "https://issuer.example?a=b",
        "https://issuer.example#",
        "https://issuer.example#f",
        "https://u@issuer.example",
        "https://u:p@issuer.example",
        "https://@issuer.example",
        "https://issuer.example:port",
        "https://issuer.example:",
        "https://issuer.example:1:2",
        "https://iss uer.example",
        "https://issuer.example/a b",
        "https://issuer.example/%zz",
        "https://issuer.example/%20",
        "https://iss%41uer",
        "https://[::1]",
        "https://[::1",
        "https://[1.2.3.4]",
        "https://x[::1]",
        "https://[::1]x",
        "https://[fe80::1%25en0]",
        "https://[fe80::1%en0]",
        "https://ïssuer.example",
        "https://issuer.example/\u{1}",
        "\u{7f}https://issuer.example",
        ":",
        "1https://x",
        "https://issuer.example/a:b",
        "a/b:c",
        "a:b",
        "*",
        "https://u^@h",
        "https://h/%",
        "https://h#%q",
        "https://a@b@c",
        "https://<h>",
        "https://h\\x",
        "https://h/\"x\"",
        "https://kubernetes.default.svc",
        "https://[::1]:80:90",
        "https://[zz::1]",
        "https://%zz/",
        "https://h|x",
        "https://h^",
        "https://h`",
        "https://{h}",
    ] {
        let mut draft = world.draft().config(|c| c.issuer_url = url.to_owned());
        draft.disallowed = vec!["https://kubernetes.default.svc".into(), "a:b".into()];
        out.push(draft.claim("iss", serde_json::json!(url).to_string()).into_case(family));
    }
    for audiences in [&[][..], &[""], &["a", "a"], &["a", "b"], &["a", ""], &["my-client", "b"]] {
        for policy in ["", "MatchAny", "MatchAll"] {
            let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
            out.push(
                world
                    .draft()
                    .config(|c| (c.audiences, c.audience_match_policy) = (audiences, policy.into()))
                    .into_case(family),
            );
        }
    }
    let changes: [fn(&mut JwtConfig); 7] = [
        |c| c.username.claim.clear(),
        |c| c.required_claims = vec![("a".into(), "b".into()), ("a".into(), "c".into())],
        |c| c.required_claims = vec![(String::new(), "b".into())],
        |c| c.required_claims = vec![("sub".into(), "jane".into())],
        |c| c.certificate_authority = "junk".into(),
        |c| c.certificate_authority = "-----BEGIN CERTIFICATE-----\nMAAB\n-----END CERTIFICATE-----\n".into(),
        |c| c.certificate_authority = "-----BEGIN EC PRIVATE KEY-----\nMAAB\n-----END EC PRIVATE KEY-----\n".into(),
    ];
    for change in changes {
        out.push(world.draft().config(change).into_case(family));
    }
    // Keys given and a discovery URL exclude each other in the oracle, so only refused discovery URLs can be compared.
    for url in [
        "http://x.example/d",
        "https://x.example/d?q",
        "https://issuer.example/",
        "https://issuer.example///",
        "https://x y",
    ] {
        out.push(
            world
                .draft()
                .config(|c| (c.issuer_url, c.discovery_url) = (ISSUER.into(), Some(url.into())))
                .into_case(family),
        );
    }
    for _ in 0..10 {
        out.push(world.draft().into_case(family));
    }
}
