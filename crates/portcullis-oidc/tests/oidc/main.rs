//! The client side against a real listener on loopback.

#[cfg(test)]
mod discovery;
#[cfg(test)]
mod id_token;
#[cfg(test)]
mod jwks_faithful;
#[cfg(test)]
mod jwks_limited;
#[cfg(test)]
mod support;
#[cfg(test)]
mod token_endpoint;
