//! Comparing two answers, and counting.

use std::collections::BTreeMap;

use crate::draft::Case;
use crate::oracle::Answer;

/// The class of a verdict; it must be the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    User,
    NoOpinion,
    Refused,
    ConfigurationRefused,
    ConfigurationUnreadable,
    KeySetRefused,
}

pub(crate) fn class(answer: &Answer) -> Class {
    match answer {
        Answer { decode_err: Some(_), .. } => Class::ConfigurationUnreadable,
        Answer { jwks_err: Some(_), .. } => Class::KeySetRefused,
        Answer { init_err: Some(_), .. } => Class::ConfigurationRefused,
        Answer { err: Some(_), .. } => Class::Refused,
        Answer { ok: true, .. } => Class::User,
        _ => Class::NoOpinion,
    }
}

/// The family of a refusal: the step that failed.
pub(crate) fn family(answer: &Answer) -> &'static str {
    const STEPS: [(&str, &str); 29] = [
        ("authenticator not initialized", "initialised"),
        ("malformed jwt", "parse"),
        ("unsupported algorithm", "algorithm"),
        ("failed to verify signature", "signature"),
        ("failed to unmarshal claims", "claim types"),
        ("failed to obtain source", "claim sources"),
        ("source does not exist", "claim sources"),
        ("issued by a different provider", "issuer"),
        ("expected audience", "audience"),
        ("token is expired", "expiry"),
        ("before the nbf", "not before"),
        ("could not expand distributed claims: oidc: no claim sources", "no claim sources"),
        ("could not expand distributed claims", "distributed claims"),
        ("parse username claims", "username"),
        ("email_verified", "email verified"),
        ("email not verified", "email verified"),
        ("parse groups claim", "groups"),
        ("parse uid claim", "uid"),
        ("not present in ID token", "required claim missing"),
        ("value does not match", "required claim value"),
        ("parse claim", "required claim type"),
        ("evaluating username claim expression", "username expression"),
        ("empty username via CEL", "empty username"),
        ("evaluating group claim expression", "groups expression"),
        ("evaluating uid claim expression", "uid expression"),
        ("evaluating extra claim expression", "extra value"),
        ("evaluating claim validation expression", "claim rule"),
        ("evaluating user info validation rule", "user rule"),
        ("resulted in error", "extra expression"),
    ];
    let text = answer.err.as_deref().unwrap_or_default();
    STEPS.into_iter().find(|(part, _)| text.contains(part)).map_or("", |(_, step)| step)
}

/// Whether both miss a required claim, each another one: of several, Go takes any first.
fn of_other_claims(theirs: &Answer, ours: &Answer) -> bool {
    let claim = |answer: &Answer| -> Option<String> {
        let text = answer.err.as_deref()?;
        let (_, rest) = text.split_once("required claim ").or_else(|| text.split_once("parse claim "))?;
        Some(rest.split([' ', ':']).next()?.to_owned())
    };
    matches!((claim(theirs), claim(ours)), (Some(theirs), Some(ours)) if theirs != ours)
}

/// Counts of one family.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) cases: usize,
    pub(crate) accepted: usize,
    pub(crate) skipped: usize,
    pub(crate) refused: usize,
    pub(crate) unloaded: usize,
    pub(crate) same_text: usize,
    pub(crate) texts: usize,
}

/// The outcome of a whole comparison.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) families: BTreeMap<&'static str, Counts>,
    /// Class or user differ: failures.
    pub(crate) different: Vec<String>,
    /// The same class, refused at different steps.
    pub(crate) other_step: Vec<String>,
    /// The same configuration refused in other words.
    pub(crate) other_config_text: Vec<String>,
    /// Configurations whose words are a parser's on both sides and are not compared.
    pub(crate) parsers_words: usize,
    /// Configurations that our YAML parser refuses and whose YAML upstream's takes, to refuse them for something else.
    pub(crate) yaml_refused_earlier: usize,
    /// The same step in other words: theirs and ours, by theirs without digits.
    pub(crate) other_text: BTreeMap<String, (String, String)>,
}

impl Report {
    pub(crate) fn add(&mut self, case: &Case, theirs: &Answer, ours: &Answer) {
        let counts = self.families.entry(case.family).or_default();
        counts.cases += 1;
        match class(theirs) {
            Class::User => counts.accepted += 1,
            Class::NoOpinion => counts.skipped += 1,
            Class::Refused => counts.refused += 1,
            Class::ConfigurationRefused | Class::ConfigurationUnreadable | Class::KeySetRefused => counts.unloaded += 1,
        }
        if class(theirs) != class(ours) || theirs.user != ours.user || theirs.anonymous != ours.anonymous {
            self.different.push(describe(case, theirs, ours));
            return;
        }
        if family(theirs) != family(ours) && !of_other_claims(theirs, ours) {
            self.other_step.push(describe(case, theirs, ours));
        }
        let of_config = |answer: &Answer| answer.init_err.clone().or_else(|| answer.decode_err.clone());
        if let (Some(theirs_text), Some(ours_text)) = (of_config(theirs), of_config(ours)) {
            match (foreign(&theirs_text), foreign(&ours_text)) {
                (true, true) => self.parsers_words += 1,
                (false, true) => self.yaml_refused_earlier += 1,
                (_, false) if comparable(&theirs_text) == comparable(&ours_text) => {}
                (_, false) => self.other_config_text.push(describe(case, theirs, ours)),
            }
        }
        let text = |answer: &Answer| answer.err.clone().or_else(|| of_config(answer));
        if let (Some(theirs), Some(ours)) = (text(theirs), text(ours)) {
            counts.texts += 1;
            if theirs == ours {
                counts.same_text += 1;
            } else {
                let key = theirs.chars().filter(|c| !c.is_ascii_digit()).collect();
                self.other_text.entry(key).or_insert((theirs, ours));
            }
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.families.values().map(|counts| counts.cases).sum()
    }

    pub(crate) fn accepted(&self) -> usize {
        self.families.values().map(|counts| counts.accepted).sum()
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<20} {:>6} {:>9} {:>11} {:>8} {:>11} {:>12}",
            "family", "cases", "accepted", "no opinion", "refused", "not loaded", "same text"
        );
        for (name, c) in &self.families {
            let same = format!("{}/{}", c.same_text, c.texts);
            println!(
                "{name:<20} {:>6} {:>9} {:>11} {:>8} {:>11} {same:>12}",
                c.cases, c.accepted, c.skipped, c.refused, c.unloaded
            );
        }
        println!("{:<20} {:>6} {:>9}", "all", self.total(), self.accepted());
        println!(
            "configurations refused by a YAML parser, in its own words: {} by both, {} by ours alone",
            self.parsers_words, self.yaml_refused_earlier
        );
        for (theirs, ours) in self.other_text.values().take(20) {
            println!("other words\n  kube-apiserver: {theirs}\n  ours:           {ours}");
        }
    }
}

/// Whether a text is a YAML parser's, or quotes a value as Go prints it.
fn foreign(text: &str) -> bool {
    let yaml = text.starts_with("yaml: ") && !text.starts_with("yaml: unmarshal errors");
    yaml || text.contains("unsupported map key of type")
}

/// A text without what Go's certificate parser says in it.
fn comparable(text: &str) -> String {
    text.replace("x509: malformed tbs certificate", "x509: malformed certificate")
}

fn describe(case: &Case, theirs: &Answer, ours: &Answer) -> String {
    format!(
        "[{}]\n  token  {}\n  file   {}\n  jwks   {}\n  kube-apiserver: {theirs:?}\n  ours:           {ours:?}",
        case.family,
        shown(&case.token),
        shown(&case.file),
        shown(&case.jwks),
    )
}

fn shown(text: &str) -> String {
    text.chars().take(1_500).collect()
}
