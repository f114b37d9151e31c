//! Comparing two answers, and counting.

use std::collections::BTreeMap;

use crate::draft::Case;
use crate::oracle::Answer;
use crate::words;

/// What is said of a prefix or a required value beside an expression.
pub(crate) const EXCLUDED: &str = "may not be specified when expression is set";

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

/// The step that refused a token; `None` for words of no step that is known.
pub(crate) fn step(refusal: &str) -> Option<&'static str> {
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
    STEPS.into_iter().find(|(part, _)| refusal.contains(part)).map(|(_, step)| step)
}

#[test]
fn words_of_no_known_step_are_a_failure() {
    let case = Case {
        family: "test",
        file: String::new(),
        initial: None,
        algs: Vec::new(),
        disallowed: Vec::new(),
        jwks: String::new(),
        issuer_jwks: Vec::new(),
        token: String::new(),
    };
    let refused = |text: &str| Answer { err: Some(text.to_owned()), ..Answer::default() };
    let mut report = Report::default();
    report.add(&case, &refused("oidc: something new"), &refused("oidc: something new"));
    assert_eq!((report.unknown_step.len(), report.other_step.len(), report.other_words.len()), (1, 0, 0));
    report.add(&case, &refused("oidc: email not verified"), &refused("oidc: token is expired"));
    assert_eq!((report.unknown_step.len(), report.other_step.len(), report.other_words.len()), (1, 1, 1));
    report.add(&case, &refused("oidc: email not verified"), &refused("oidc: email not verified."));
    assert_eq!((report.unknown_step.len(), report.other_step.len(), report.other_words.len()), (1, 1, 2));
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

impl Counts {
    pub(crate) fn add(&mut self, class: Class) {
        self.cases += 1;
        match class {
            Class::User => self.accepted += 1,
            Class::NoOpinion => self.skipped += 1,
            Class::Refused => self.refused += 1,
            Class::ConfigurationRefused | Class::ConfigurationUnreadable | Class::KeySetRefused => self.unloaded += 1,
        }
    }
}

/// A line for each family.
pub(crate) fn print_counts(families: &BTreeMap<&'static str, Counts>) {
    println!(
        "{:<20} {:>6} {:>9} {:>11} {:>8} {:>11} {:>12}",
        "family", "cases", "accepted", "no opinion", "refused", "not loaded", "same text"
    );
    for (name, c) in families {
        let same = format!("{}/{}", c.same_text, c.texts);
        println!(
            "{name:<20} {:>6} {:>9} {:>11} {:>8} {:>11} {same:>12}",
            c.cases, c.accepted, c.skipped, c.refused, c.unloaded
        );
    }
}

/// The outcome of a whole comparison.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) families: BTreeMap<&'static str, Counts>,
    /// Class or user differ: failures.
    pub(crate) different: Vec<String>,
    /// The same class, refused at different steps.
    pub(crate) other_step: Vec<String>,
    /// Refused in words of no known step.
    pub(crate) unknown_step: Vec<String>,
    /// A token refused in other words, which no pair allows.
    pub(crate) other_words: Vec<String>,
    /// What the generated files and tokens were refused at.
    pub(crate) generated_steps: BTreeMap<&'static str, usize>,
    /// How often each pair of the list has allowed other words.
    pub(crate) allowed_words: [usize; words::PAIRS.len()],
    /// The same configuration refused in other words.
    pub(crate) other_config_text: Vec<String>,
    /// Configurations whose words are a parser's on both sides and are not compared.
    pub(crate) parsers_words: usize,
    /// Configurations that our YAML parser refuses and whose YAML upstream's takes, to refuse them for something else.
    pub(crate) yaml_refused_earlier: usize,
    /// The same configuration in other words: theirs and ours, by theirs without digits.
    pub(crate) other_text: BTreeMap<String, (String, String)>,
}

impl Report {
    pub(crate) fn add(&mut self, case: &Case, theirs: &Answer, ours: &Answer) {
        let counts = self.families.entry(case.family).or_default();
        counts.add(class(theirs));
        if class(theirs) != class(ours) || theirs.user != ours.user || theirs.anonymous != ours.anonymous {
            self.different.push(describe(case, theirs, ours));
            return;
        }
        if let (Some(theirs_text), Some(ours_text)) = (&theirs.err, &ours.err) {
            let steps = (step(theirs_text), step(ours_text));
            if let ("generated", Some(step)) = (case.family, steps.0) {
                *self.generated_steps.entry(step).or_default() += 1;
            }
            if steps.0.is_none() || steps.1.is_none() {
                self.unknown_step.push(describe(case, theirs, ours));
            } else if steps.0 != steps.1 && !words::of_other_claims(theirs_text, ours_text) {
                self.other_step.push(describe(case, theirs, ours));
            }
            if theirs_text != ours_text {
                match words::allowed(theirs_text, ours_text) {
                    Some(pair) => self.allowed_words[pair] += 1,
                    None => self.other_words.push(describe(case, theirs, ours)),
                }
            }
        }
        if case.family == "generated" && theirs.init_err.as_ref().is_some_and(|text| text.contains(EXCLUDED)) {
            *self.generated_steps.entry(EXCLUDED).or_default() += 1;
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
        let refused = class(theirs) == Class::Refused;
        let text = |answer: &Answer| answer.err.clone().or_else(|| of_config(answer));
        if let (Some(theirs), Some(ours)) = (text(theirs), text(ours)) {
            counts.texts += 1;
            if theirs == ours {
                counts.same_text += 1;
            } else if !refused {
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
        print_counts(&self.families);
        println!("{:<20} {:>6} {:>9}", "all", self.total(), self.accepted());
        println!(
            "configurations refused by a YAML parser, in its own words: {} by both, {} by ours alone",
            self.parsers_words, self.yaml_refused_earlier
        );
        println!("generated files and tokens refused at {:?}", self.generated_steps);
        for (pair, count) in words::PAIRS.iter().zip(self.allowed_words) {
            println!(
                "{count} refusals in other words\n  kube-apiserver: {}\n  ours:           {}\n  {}",
                pair.theirs, pair.ours, pair.why
            );
        }
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
