//! Which layout the objects have: a number in an object of its own beside the records, `kubectl get record schema`
//! (`layout.rs`).

use portcullis_kubeclient::{Client, ClientError, Instant};

use super::{
    error::KubernetesError,
    object::{MetadataOnly, NewObject, Object, RECORDS, SCHEMA_NAME},
    open::CrdHandling,
};
use crate::layout::{self, Unfit};

/// The layout in [`super::object`] and [`super::typed`].
pub(super) const SCHEMA: u64 = 1;

/// Checks the number, or writes it into a store without one.
pub(super) async fn check(client: &Client, crds: CrdHandling, deadline: Instant) -> Result<(), KubernetesError> {
    match look(client, deadline).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        // Whoever installs the definitions has not yet, and we are not to look.
        Err(KubernetesError::Schema { source: ClientError::Missing { .. }, .. }) if crds == CrdHandling::Skip => {
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    match client.create::<MetadataOnly>(&RECORDS, &NewObject::schema(SCHEMA), deadline).await {
        Ok(_) => Ok(()),
        // Another replica was faster; or it was this one, whose answer was lost.
        Err(ClientError::AlreadyExists) => look(client, deadline).await.map(|_there| ()),
        Err(error) if error.may_have_happened() => match look(client, deadline).await? {
            true => Ok(()),
            false => Err(unusable(client, error)),
        },
        Err(error) => Err(unusable(client, error)),
    }
}

/// Checks the number of a store that is there; `false` when none is. Writes nothing.
pub(super) async fn look(client: &Client, deadline: Instant) -> Result<bool, KubernetesError> {
    let value = match client.get::<Object>(&RECORDS, SCHEMA_NAME, deadline).await {
        Ok(object) => object.into_schema(),
        Err(ClientError::NotFound) => return Ok(false),
        Err(error) => return Err(unusable(client, error)),
    };
    let place = || client.namespace().to_owned();
    match layout::check(&value, SCHEMA) {
        Ok(()) => Ok(true),
        Err(Unfit::Newer { found }) => Err(KubernetesError::Newer { namespace: place(), found, known: SCHEMA }),
        Err(Unfit::Foreign) => Err(KubernetesError::Foreign { namespace: place() }),
    }
}

fn unusable(client: &Client, source: ClientError) -> KubernetesError {
    KubernetesError::Schema { namespace: client.namespace().to_owned(), source }
}
