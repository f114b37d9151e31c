//! The words of OAuth 2.0 and OpenID Connect that the provider and the clients share. Everything here is pure.

mod error_code;
mod grant_type;
pub mod pkce;
mod prompt;
mod response_type;
pub mod scope;
pub mod subject;
mod token_response;

pub use error_code::{ErrorCode, TokenErrorBody};
pub use grant_type::GrantType;
pub use pkce::PkceMethod;
pub use prompt::{InvalidPrompt, Prompt};
pub use response_type::{InvalidResponseType, ResponseType};
pub use token_response::TokenResponse;
