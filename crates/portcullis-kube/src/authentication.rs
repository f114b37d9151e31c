//! `authentication.k8s.io/v1`: asking who a token belongs to, and who oneself is.

use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::secret::SecretText;
use crate::user_info::UserInfo;
use crate::wire::{is_false, nullable};

/// The API group.
pub const GROUP: &str = "authentication.k8s.io";
/// Group and version.
pub const API_VERSION: &str = "authentication.k8s.io/v1";

/// "Whose token is this?" and its answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TokenReview {
    /// `TokenReview`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// [`API_VERSION`] or `authentication.k8s.io/v1beta1`; the answer has that of the question.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_version: String,
    /// Hardly ever filled.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// The question.
    #[serde(deserialize_with = "nullable")]
    pub spec: TokenReviewSpec,
    /// The answer.
    #[serde(deserialize_with = "nullable")]
    pub status: TokenReviewStatus,
}

/// The question of a [`TokenReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TokenReviewSpec {
    /// The token.
    #[serde(skip_serializing_if = "SecretText::is_empty", deserialize_with = "nullable")]
    pub token: SecretText,
    /// Audiences that the asker accepts; none means those of the API server.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub audiences: Vec<String>,
}

/// The answer of a [`TokenReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TokenReviewStatus {
    /// Whether the token belongs to someone.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "nullable")]
    pub authenticated: bool,
    /// To whom.
    #[serde(deserialize_with = "nullable")]
    pub user: UserInfo,
    /// Audiences of both the question and the token.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub audiences: Vec<String>,
    /// Why it could not be told.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub error: String,
}

/// "Who am I?" and its answer; `kubectl auth whoami`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelfSubjectReview {
    /// `SelfSubjectReview`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub kind: String,
    /// [`API_VERSION`].
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub api_version: String,
    /// The answer has a creation timestamp.
    #[serde(deserialize_with = "nullable")]
    pub metadata: ObjectMeta,
    /// The answer.
    #[serde(deserialize_with = "nullable")]
    pub status: SelfSubjectReviewStatus,
}

/// The answer of a [`SelfSubjectReview`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SelfSubjectReviewStatus {
    /// The user of the request, after impersonation.
    #[serde(deserialize_with = "nullable")]
    pub user_info: UserInfo,
}

impl SelfSubjectReview {
    /// The answer for this user at this time.
    pub fn answer(user: UserInfo, now: crate::Time) -> Self {
        Self {
            kind: "SelfSubjectReview".to_owned(),
            api_version: API_VERSION.to_owned(),
            metadata: ObjectMeta { creation_timestamp: Some(now), ..ObjectMeta::default() },
            status: SelfSubjectReviewStatus { user_info: user },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    #[test]
    fn a_review_of_oneself_prints_as_the_server_does() {
        let review = SelfSubjectReview::answer(UserInfo::new("jane", ["a"]), Time::from_unix_seconds(0));
        assert_eq!(
            serde_json::to_string(&review).unwrap(),
            r#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1","metadata":{"creationTimestamp":"1970-01-01T00:00:00Z"},"status":{"userInfo":{"username":"jane","groups":["a"]}}}"#
        );
    }

    #[test]
    fn a_token_review_reads_the_question_and_hides_the_token() {
        let text = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","metadata":{"creationTimestamp":null},"spec":{"token":"abc","audiences":["x"]},"status":{"user":{}}}"#;
        let review: TokenReview = serde_json::from_str(text).unwrap();
        assert_eq!(review.spec.token.expose(), "abc");
        assert!(!format!("{review:?}").contains("abc"));
        assert_eq!(
            serde_json::to_string(&review).unwrap(),
            r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"abc","audiences":["x"]},"status":{"user":{}}}"#
        );
    }
}
