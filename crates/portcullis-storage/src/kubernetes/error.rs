//! What an API server's failure means for an operation, and for the start.

use portcullis_kubeclient::{AccessError, ClientError};

use crate::error::{KernelError, Trouble};

/// A failure of a write.
pub(super) fn of_write(error: &ClientError) -> KernelError {
    match error {
        ClientError::Conflict => KernelError::Conflict,
        ClientError::AlreadyExists => KernelError::AlreadyExists,
        ClientError::NotFound => KernelError::NotFound,
        error if error.may_have_happened() => KernelError::maybe_applied(trouble(error)),
        error => KernelError::not_applied(trouble(error)),
    }
}

/// A failure to make an object, which no other writer's version stands against: a 409 that is not about its name is a quota's.
pub(super) fn of_insert(error: &ClientError) -> KernelError {
    match error {
        ClientError::Conflict => KernelError::not_applied(trouble(error)),
        error => of_write(error),
    }
}

/// A failure of a read, which changes nothing.
pub(super) fn of_read(error: &ClientError) -> KernelError {
    match error {
        ClientError::Unreadable { what } => {
            KernelError::Corrupt { what: format!("an answer of the API server: {what}") }
        }
        error => KernelError::not_applied(trouble(error)),
    }
}

fn trouble(error: &ClientError) -> Trouble {
    Trouble::Other(error.to_string())
}

/// A store on Kubernetes cannot be opened. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The access to the cluster is not configured as it must be.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The definition of our objects is not installed, and is not to be installed by us.
    #[error("storage is not initialized, CRDs are not created: {name} is missing")]
    NotInstalled {
        /// The definition.
        name: &'static str,
    },
    /// It could not be installed.
    #[error("cannot install the CRD {name}: {source}")]
    Install {
        /// The definition.
        name: &'static str,
        /// Why not.
        source: ClientError,
    },
    /// It is installed and not served.
    #[error("the CRD {name} is not served in time{conditions}")]
    NotServed {
        /// The definition.
        name: &'static str,
        /// What the API server says about it, after a colon; empty when that cannot be read.
        conditions: String,
    },
    /// There is no store in our namespace, and it was only to be looked at.
    #[error("there is no store in namespace {namespace:?}")]
    Absent {
        /// Our namespace.
        namespace: String,
    },
    /// A newer version of this program has used the store.
    #[error(
        "the store in namespace {namespace:?} has schema number {found}, and this version knows {known} at most; use the newer \
         version, or a backup from before its first start"
    )]
    Newer {
        /// Our namespace.
        namespace: String,
        /// The number in the store.
        found: u64,
        /// The last one that this version knows.
        known: u64,
    },
    /// The object with the schema number was not written by this program.
    #[error("the object records.portcullis.dev \"schema\" in namespace {namespace:?} is not ours")]
    Foreign {
        /// Our namespace.
        namespace: String,
    },
    /// The schema number cannot be read or written.
    #[error("cannot use the object records.portcullis.dev \"schema\" in namespace {namespace:?}: {source}")]
    Schema {
        /// Our namespace.
        namespace: String,
        /// Why not.
        source: ClientError,
    },
    /// The objects cannot be read.
    #[error("cannot list {name} in namespace {namespace:?}: {source}")]
    List {
        /// The definition.
        name: &'static str,
        /// Our namespace.
        namespace: String,
        /// Why not.
        source: ClientError,
    },
}

impl KubernetesError {
    /// What the user can do about it, where the text does not say it already.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Access(error) => error.hint(),
            Self::NotInstalled { .. } => {
                Some("kubectl apply -f deploy/crds/, or let the provider do it with crdHandling: ensure")
            }
            Self::Install { source: ClientError::Forbidden { .. }, .. } => Some(
                "grant it with deploy/rbac/install-crds.yaml, or install deploy/crds/ by hand and set crdHandling: check",
            ),
            Self::List { source: ClientError::Forbidden { .. }, .. } => Some("grant it with deploy/rbac/provider.yaml"),
            Self::Schema { source: ClientError::Forbidden { .. }, .. } => {
                Some("grant it with deploy/rbac/provider.yaml")
            }
            Self::Absent { .. } => Some("see storage.config: the cluster, and the namespace of its context or pod"),
            Self::Install { .. }
            | Self::NotServed { .. }
            | Self::List { .. }
            | Self::Schema { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Applied;

    #[test]
    fn only_what_may_have_happened_is_unknown() {
        let lost = ClientError::Lost { reason: "r".to_owned() };
        let unread = ClientError::Unreadable { what: "w".to_owned() };
        for (error, applied) in [
            (ClientError::Throttled, Applied::No),
            (ClientError::Unreachable { reason: "r".to_owned() }, Applied::No),
            (ClientError::Forbidden { message: "m".to_owned() }, Applied::No),
            (ClientError::Refused { code: 422, message: "m".to_owned() }, Applied::No),
            (lost.clone(), Applied::Unknown),
            (unread.clone(), Applied::Unknown),
        ] {
            let found = of_write(&error);
            assert!(
                matches!(&found, KernelError::Unavailable { applied: a, .. } if *a == applied),
                "{error}: {found:?}"
            );
        }
        assert_eq!(of_write(&ClientError::Conflict), KernelError::Conflict);
        assert_eq!(of_write(&ClientError::NotFound), KernelError::NotFound);
        assert!(matches!(of_read(&lost), KernelError::Unavailable { applied: Applied::No, .. }));
        assert!(matches!(of_read(&unread), KernelError::Corrupt { .. }));
    }
}
