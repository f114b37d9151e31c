//! `/keys`: the key set (RFC 7517), as prepared bytes.

use crate::app::App;
use crate::http::{Inbound, Reply};
use crate::signer::MAX_AGE;

/// The key that signs, the one that will sign next, those that have signed.
pub(crate) fn keys(app: &App, inbound: &Inbound) -> Reply {
    const CACHE: &str = "max-age=600, must-revalidate";
    const { assert!(MAX_AGE.as_secs() == 600, "rotation waits for what caches are told") };
    app.signer.ring().jwks.reply(&inbound.headers, "application/json", CACHE)
}
