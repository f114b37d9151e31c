//! The `prompt` parameter (OpenID Connect Core 1.0 section 3.1.2.1).

/// What the client asks the provider to show, or not to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Show nothing; fail when something would have to be shown. Never together with another value.
    pub none: bool,
    /// Ask for the password (or other proof) again.
    pub login: bool,
    /// Ask for consent again.
    pub consent: bool,
    /// Let the user choose an account.
    pub select_account: bool,
}

/// The value cannot be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrompt {
    /// `none` came with another value.
    #[error("prompt 'none' cannot be combined with another value")]
    NoneWithOthers,
    /// A value is not one of the four.
    #[error("unknown prompt value")]
    Unknown,
}

impl Prompt {
    /// Reads the space-separated values. The empty text asks for nothing.
    ///
    /// # Errors
    /// [`InvalidPrompt`].
    pub fn parse(text: &str) -> Result<Self, InvalidPrompt> {
        let mut prompt = Self::default();
        for value in text.split(' ').filter(|value| !value.is_empty()) {
            match value {
                "none" => prompt.none = true,
                "login" => prompt.login = true,
                "consent" => prompt.consent = true,
                "select_account" => prompt.select_account = true,
                _ => return Err(InvalidPrompt::Unknown),
            }
        }
        if prompt.none && (prompt.login || prompt.consent || prompt.select_account) {
            return Err(InvalidPrompt::NoneWithOthers);
        }
        Ok(prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_combine_except_with_none() {
        assert_eq!(Prompt::parse(""), Ok(Prompt::default()));
        let both = Prompt { login: true, consent: true, ..Prompt::default() };
        assert_eq!(Prompt::parse("login  consent"), Ok(both));
        assert_eq!(Prompt::parse("none"), Ok(Prompt { none: true, ..Prompt::default() }));
        assert_eq!(Prompt::parse("none login"), Err(InvalidPrompt::NoneWithOthers));
        assert_eq!(Prompt::parse("select_account create"), Err(InvalidPrompt::Unknown));
        assert_eq!(Prompt::parse("LOGIN"), Err(InvalidPrompt::Unknown));
    }
}
