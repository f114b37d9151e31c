//! Ways to write YAML and JSON: anchors, merges, tags, several documents, line ends, comments and more.

use std::sync::Arc;

use super::make::Sample;
use crate::draft::{Case, World};

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

const FORMS: [&str; 98] = [
    "jwt: []\n",
    "jwt:\n",
    "jwt: ~\n",
    "jwt: {}\n",
    "jwt: ''\n",
    "",
    "jwt: [ISSUER]\n",
    "jwt:\n- ISSUER\n",
    "jwt:\n  - ISSUER\n",
    "jwt: &a [ISSUER]\n",
    "jwt: &a [ISSUER]\nx: *a\n",
    "x: &a ISSUER\njwt: [*a]\n",
    "jwt: [&a ISSUER, *a]\n",
    "jwt: [*a, &a ISSUER]\n",
    "jwt: &a [*a]\n",
    "jwt:\n- <<: ISSUER\n",
    "jwt:\n- <<: [ISSUER, {x: 1}]\n",
    "jwt:\n- {<<: ISSUER, issuer: {url: 'https://other.example', audiences: [c]}}\n",
    "jwt:\n- {issuer: {url: 'https://other.example', audiences: [c]}, <<: ISSUER}\n",
    "jwt:\n- <<: 1\n",
    "jwt:\n- <<: [1]\n",
    "jwt:\n- '<<': ISSUER\n",
    "jwt:\n- !!merge <<: ISSUER\n",
    "jwt: !!seq [ISSUER]\n",
    "jwt: !!map [ISSUER]\n",
    "jwt: !x [ISSUER]\n",
    "jwt: [ISSUER]\n---\nx: y\n",
    "jwt: [ISSUER]\n---\n]\n",
    "jwt: [ISSUER]\n...\n",
    "jwt: [ISSUER]\n...\nx: y\n",
    "jwt: [ISSUER]\n--- x\n",
    "jwt: [ISSUER] # why\n",
    "jwt: [ISSUER,]\n",
    "jwt: [ISSUER,,]\n",
    "jwt: [ISSUER\n",
    "jwt: ISSUER]\n",
    "jwt: [ISSUER]]\n",
    "jwt:\n\t- ISSUER\n",
    "jwt: [\tISSUER]\n",
    "jwt:\r\n- ISSUER\r\n",
    "jwt:\n-\n  ISSUER\n",
    "? jwt\n: [ISSUER]\n",
    "? [a, b]\n: x\n",
    "? {a: b}\n: x\n",
    "~: x\n",
    "null: x\n",
    "1: x\n",
    "1.5: x\n",
    "true: x\n",
    "yes: x\ntrue: y\n",
    "1: x\n'1': y\nz: 1\n",
    "'': x\n",
    "jwt: []\njwt: []\n",
    "jwt: []\n'jwt': []\n\"jwt\": [ISSUER]\n",
    "kind: AuthenticationConfiguration\n",
    "kind: Other\njwt: []\n",
    "x: {a: 1, a: 2, b: {c: 1, c: 2}}\n",
    "x: [{a: 1, a: 2}]\n",
    "x: .nan\n",
    "x: {y: [-.inf]}\n",
    "x: !!binary aGk=\n",
    "x: \"\\x41\\u00e9\\U0001F600\\_\\N\"\n",
    "x: 'it''s'\n",
    "x: |\n  a\n  b\n",
    "x: >+\n  a\n\n  b\n\n",
    "x: |2\n   a\n",
    "x: a\n  b\n  c\n",
    "x: a: b\n",
    "x: 'a\n",
    "x: @a\n",
    "x: `a`\n",
    "x: %a\n",
    "x: -\n",
    "x: - a\n",
    "jwt: [ISSUER]# why\n",
    "jwt: [ISSUER]#\n",
    "jwt: [# why\n ISSUER,# why\n]# why\n",
    "jwt: [ISSUER]\nanonymous: {'enabled'# why\n  : true}\n",
    "jwt: [ISSUER]\nanonymous: {\"enabled\": false}# \"\n",
    "x: 'a'# why\njwt: [ISSUER]\n",
    "x: \"é#\"#\njwt: [ISSUER]\n",
    "jwt: [ISSUER]\n&k anonymous: {enabled: false}\n",
    "jwt: &k:[ISSUER]\n",
    "x: &ttps://a\njwt: [ISSUER]\n",
    "x: &a/b c\njwt: [ISSUER]\n",
    "x: &a jwt\n*a: [ISSUER]\n",
    "x: &a jwt\n*a : [ISSUER]\n",
    "x: &a y\nz: {*a: b, c: *a}\n",
    "x: &a y\nz: [*a, *a]# why\n",
    "x: &a y\nz: *a?\n",
    "x: *a\n*a: y\n",
    "x: |\n \ta\njwt: [ISSUER]\n",
    "x: |1\n \ta\njwt: [ISSUER]\n",
    "? x\n: \ta\njwt: [ISSUER]\n",
    "jwt: [!x ISSUER, !x]\n",
    "x: \"\\/\"\njwt: [ISSUER]\n",
    "x: \"\\ud83d\\ude00\"\njwt: [ISSUER]\n",
    "x: \"a\u{2028}b\"\njwt: [ISSUER]\n",
];

/// Whole files.
const FILES: [&str; 29] = [
    "",
    " ",
    "\n",
    "# nothing\n",
    "---\n",
    "--- \n...\n",
    "null\n",
    "~",
    "a",
    "12",
    "true",
    "[]",
    "- a\n",
    "{}",
    " {}",
    "\n\t{}\n",
    "{} {}",
    "{}\n---\n{}",
    "\u{a0}{}",
    "\u{feff}{}",
    "\u{2003}{ }",
    "{kind: AuthenticationConfiguration, apiVersion: apiserver.config.k8s.io/v1}",
    "%YAML 1.1\n---\nkind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
    "%YAML 1.2\n---\nkind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
    "%ANY x\n---\nkind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
    "# c\u{2028}x: [\nkind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
    "%TAG ! tag:x,2000:\n---\nkind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\n",
    "\u{feff}kind: AuthenticationConfiguration\napiVersion: apiserver.config.k8s.io/v1\njwt: []\n",
    "kind:\tAuthenticationConfiguration\napiVersion: \"apiserver.config.k8s.io\\\n  /v1\"\n",
];

pub(crate) fn forms(world: &Arc<World>, family: &'static str, out: &mut Vec<Case>) {
    let sample = Sample::plain(world, 1);
    let mut tree = sample.file(world);
    let entry = tree.get_mut("jwt").at_mut(0).clone();
    for form in FORMS {
        for issuer in [entry.json(), "{}".to_owned()] {
            let mut case = sample.case(family, 0);
            case.file = format!("{HEAD}{}", form.replace("ISSUER", &issuer));
            out.push(case);
        }
    }
    for text in FILES {
        let mut case = sample.case(family, 0);
        text.clone_into(&mut case.file);
        out.push(case);
    }
    let json = sample.file(world).json();
    for text in [
        json.replace(',', " ,\n\t"),
        json.replace("sub", "s\\u0075b"),
        json.replace("sub", "\\ud800"),
        json.replace("\"prefix\":\"\"", "\"prefix\":\"\",\"prefix\":null"),
        format!("{json}\n"),
        format!("{json}x"),
        format!("{json}{json}"),
        format!("//\n{json}"),
        format!("\r\n {json}"),
    ] {
        let mut case = sample.case(family, 0);
        case.file = text;
        out.push(case);
    }
}
