//! What is told of a token: as JSON, or as text for a terminal.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portcullis_kube::go::quote;
use portcullis_kube::user_info::{ALL_AUTHENTICATED, UserInfo};
use serde::Serialize;

use super::walk::{Line, Outcome};

/// What becomes of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It makes a user.
    Accepted,
    /// It is the issuer's, and refused.
    Refused,
    /// It is of no configured issuer.
    NoOpinion,
    /// Nothing is decided: kube-apiserver does not start with this configuration, or does not reload it.
    ConfigurationRefused,
}

/// Everything that is told of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What kube-apiserver makes of it.
    pub verdict: Verdict,
    /// The step that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<&'static str>,
    /// Why, in kube-apiserver's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How that stands in kube-apiserver's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// What Portcullis alone refuses, by decision. kube-apiserver goes on to what was not looked at here, so `log` is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_decision: Option<&'static str>,
    /// What to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The configured issuer that the token names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When an accepted token ends, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Who it is, without the group that the server adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Each step.
    pub steps: Vec<Line>,
    /// What the strict policy of our gateway and webhook says, where it is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<Strict>,
    /// What works and may not be what was meant.
    pub warnings: Vec<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    pub username: String,
    /// The uid; empty for none.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Further attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl From<&UserInfo> for User {
    fn from(info: &UserInfo) -> Self {
        let UserInfo { username, uid, groups, extra } = info.clone();
        Self { username, uid, groups, extra }
    }
}

/// Another verdict than kube-apiserver's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Strict {
    /// It.
    pub verdict: Verdict,
    /// Why it refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Report {
    /// Whether the token makes a user.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.verdict == Verdict::Accepted
    }

    /// What is wrong, in a line; `None` for an accepted token.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let message = printable(self.message.as_deref().unwrap_or_default());
        Some(match self.verdict {
            Verdict::Accepted => return None,
            Verdict::Refused if self.by_decision.is_some() => {
                format!("the token is refused for a reason that only Portcullis has: {message}")
            }
            Verdict::Refused => format!("the token is refused: {message}"),
            Verdict::NoOpinion => "the token is not from an issuer that this cluster trusts".to_owned(),
            Verdict::ConfigurationRefused => format!("kube-apiserver refuses the configuration: {message}"),
        })
    }

    /// The text for a terminal: verdict, user, steps.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = match self.verdict {
            Verdict::Accepted => "accepted".to_owned(),
            Verdict::Refused => {
                let alone = if self.by_decision.is_some() { ", for a reason that only Portcullis has" } else { "" };
                format!("refused at the step {}{alone}", self.step.unwrap_or_default())
            }
            Verdict::NoOpinion => "not a token of this cluster's issuers".to_owned(),
            Verdict::ConfigurationRefused => "no verdict: the configuration is refused".to_owned(),
        };
        let mut entry = |name: &str, value: &str| {
            let _ = write!(out, "\n  {name:<10} {}", printable(value));
        };
        if let Some(user) = &self.user {
            entry("user", &quote(&user.username));
            let groups: Vec<String> = user.groups.iter().map(|group| quote(group)).collect();
            let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(", ") };
            entry("groups", &format!("{groups} (and {ALL_AUTHENTICATED}, which the server adds)"));
            if !user.uid.is_empty() {
                entry("uid", &quote(&user.uid));
            }
            for (key, values) in &user.extra {
                let values: Vec<String> = values.iter().map(|value| quote(value)).collect();
                entry("extra", &format!("{key}: {}", values.join(", ")));
            }
        }
        for (name, value) in [("issuer", &self.issuer), ("ends", &self.expires_at), ("log", &self.log)] {
            if let Some(value) = value {
                entry(name, value);
            }
        }
        for (at, Line { step, outcome, detail }) in self.steps.iter().enumerate() {
            let outcome = match outcome {
                Outcome::Ok => "ok",
                Outcome::Failed => "FAILED",
                Outcome::NotReached => "-",
            };
            let line = format!("{:>3}. {outcome:<6} {step:<17} {}", at.saturating_add(1), printable(detail));
            let _ = write!(out, "\n{}", line.trim_end());
        }
        if let Some(Strict { verdict, message, hint }) = &self.strict {
            let said = match verdict {
                Verdict::Accepted => "accepts it".to_owned(),
                _ => format!("refuses it: {}", printable(message.as_deref().unwrap_or_default())),
            };
            let hint = hint.as_ref().map(|hint| format!(" ({})", printable(hint))).unwrap_or_default();
            let _ = write!(out, "\nstrict policy (gateway, webhook): {said}{hint}");
        }
        out
    }
}

/// Text from a token may hold control characters; a terminal must not act on them. A line break is written as a log does.
#[must_use]
pub fn printable(text: &str) -> String {
    let one = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.split('\n').map(|line| line.chars().map(one).collect::<String>()).collect::<Vec<_>>().join("\\n")
}
