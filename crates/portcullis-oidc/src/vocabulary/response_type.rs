//! The `response_type` parameter (OAuth 2.0 Multiple Response Type Encoding Practices).

/// What the authorization endpoint hands out: a set of `code`, `id_token` and `token`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseType {
    /// An authorization code.
    pub code: bool,
    /// An ID token in the front channel; forbidden by RFC 9700, off unless asked for.
    pub id_token: bool,
    /// An access token in the front channel; forbidden by RFC 9700, off unless asked for.
    pub token: bool,
}

/// A value is not one of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown response type")]
pub struct InvalidResponseType;

impl ResponseType {
    /// The code flow.
    pub const CODE: Self = Self { code: true, id_token: false, token: false };

    /// Reads the space-separated values, in any order. The empty text is the empty set.
    ///
    /// # Errors
    /// [`InvalidResponseType`].
    pub fn parse(text: &str) -> Result<Self, InvalidResponseType> {
        let mut response_type = Self::default();
        for value in text.split(' ').filter(|value| !value.is_empty()) {
            match value {
                "code" => response_type.code = true,
                "id_token" => response_type.id_token = true,
                "token" => response_type.token = true,
                _ => return Err(InvalidResponseType),
            }
        }
        Ok(response_type)
    }

    /// Nothing is asked for.
    pub const fn is_empty(self) -> bool {
        !(self.code || self.id_token || self.token)
    }

    /// Something comes back in the front channel beside a code (implicit and hybrid flows).
    pub const fn is_front_channel(self) -> bool {
        self.id_token || self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_do_not_matter() {
        assert_eq!(ResponseType::parse("code"), Ok(ResponseType::CODE));
        let hybrid = ResponseType { code: true, id_token: true, token: false };
        assert_eq!(ResponseType::parse("id_token code"), Ok(hybrid));
        assert_eq!(ResponseType::parse("code id_token code"), Ok(hybrid));
        assert!(hybrid.is_front_channel() && !ResponseType::CODE.is_front_channel());
        assert!(ResponseType::parse(" ").unwrap().is_empty());
        assert_eq!(ResponseType::parse("code none"), Err(InvalidResponseType));
        assert_eq!(ResponseType::parse("Code"), Err(InvalidResponseType));
    }
}
