//! One trusted issuer: its settings, its keys, and whom its tokens may send us to.

use std::sync::Arc;

use portcullis_runtime::http_client::{HttpClient, HttpClientError};
use portcullis_runtime::{Clock, Shutdown, Timestamp};

use crate::authenticator::Options;
use crate::config::{JwtConfig, ValidConfig};
use crate::distributed::{self, ClaimHosts, DistributedClaims, DistributedError, Reach, Resolved, Resolver, Source};
use crate::error::AuthnError;
use crate::go::json::Member;
use crate::keys::{Discovery, Keys, Network, Outside, Purpose, Search, http_config};
use crate::policy::Policy;

/// What discovered issuers have in common.
pub(crate) struct Surroundings {
    policy: Policy,
    clock: Clock,
    distributed_claims: DistributedClaims,
    network: Network,
    shutdown: Shutdown,
}

impl Surroundings {
    pub(crate) fn new(options: &Options, network: &Network, shutdown: &Shutdown) -> Self {
        Self {
            policy: options.policy,
            clock: options.clock.clone(),
            distributed_claims: options.distributed_claims.clone(),
            network: network.clone(),
            shutdown: shutdown.child(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A trusted issuer.
pub(crate) struct Issuer {
    pub(crate) url: Arc<str>,
    valid: ValidConfig,
    pub(crate) keys: Keys,
    /// `None` refuses tokens whose groups would have to be fetched.
    resolver: Option<Arc<Resolver>>,
    /// What it was before it moved. As a whole it holds until the issuer is found where it is now: new rules were never meant for
    /// tokens that the former keys have signed.
    former: Option<Arc<Self>>,
    /// Whether it counts only until another has been found.
    is_former: bool,
}

impl Issuer {
    /// An issuer with keys given, which fetches no claims.
    pub(crate) fn given(valid: ValidConfig, keys: Keys) -> Self {
        Self::new(valid, keys, None)
    }

    fn new(valid: ValidConfig, keys: Keys, resolver: Option<Arc<Resolver>>) -> Self {
        Self {
            url: Arc::from(valid.config().issuer_url.as_str()),
            valid,
            keys,
            resolver,
            former: None,
            is_former: false,
        }
    }

    /// An issuer that is discovered in the background. Must be called inside a Tokio runtime.
    pub(crate) fn discovered(valid: ValidConfig, around: &Surroundings) -> Result<Self, HttpClientError> {
        let outside = outside(&valid, around)?;
        let resolver = resolver(&valid, &outside, around)?;
        let keys = Keys::Discovered(search(&valid, outside, around));
        Ok(Self::new(valid, keys, resolver))
    }

    /// The issuer with other settings of the same URL, and whether its keys are looked for anew: they are where it is
    /// reached differently, and then what it was counts until they have been found. Must be called inside a Tokio runtime.
    pub(crate) fn changed(&self, valid: ValidConfig, around: &Surroundings) -> Result<(Self, bool), HttpClientError> {
        let outside = outside(&valid, around)?;
        let reached = |config: &JwtConfig| (config.discovery_url.clone(), config.certificate_authority.clone());
        let moves = reached(valid.config()) != reached(self.config());
        let resolver = match &self.resolver {
            Some(resolver) if !moves && valid.config().groups.is_some() => Some(Arc::clone(resolver)),
            Some(_) | None => resolver(&valid, &outside, around)?,
        };
        let former =
            if self.keys.initialised() { moves.then(|| Arc::new(self.as_former())) } else { self.former.clone() };
        let keys = if moves { Keys::Discovered(search(&valid, outside, around)) } else { self.keys.kept() };
        Ok((Self { former, ..Self::new(valid, keys, resolver) }, moves))
    }

    /// What it is, for as long as it takes to find it elsewhere.
    fn as_former(&self) -> Self {
        Self { is_former: true, ..Self::new(self.valid.clone(), self.keys.kept(), self.resolver.clone()) }
    }

    /// What tokens are judged by now.
    pub(crate) fn in_force(&self) -> &Self {
        match &self.former {
            Some(former) if !self.keys.initialised() => former,
            Some(_) | None => self,
        }
    }

    /// Whether the users of its tokens may be remembered: what judges them may end at any time when it counts only until another
    /// has been found.
    pub(crate) const fn remembers(&self) -> bool {
        !self.is_former
    }

    pub(crate) fn config(&self) -> &JwtConfig {
        self.valid.config()
    }

    /// What it was made of.
    pub(crate) const fn valid(&self) -> &ValidConfig {
        &self.valid
    }

    pub(crate) fn initialised(&self) -> Result<(), AuthnError> {
        if self.keys.initialised() { Ok(()) } else { Err(AuthnError::NotInitialized) }
    }

    /// The groups claim and where to fetch it, when the token does not hold it and says where it is.
    pub(crate) fn distributed(&self, members: &[Member<'_>]) -> Result<Option<(&str, Source)>, DistributedError> {
        let Some(groups) = &self.config().groups else { return Ok(None) };
        Ok(distributed::wanted(&groups.claim, members)?.map(|source| (groups.claim.as_str(), source)))
    }

    pub(crate) async fn resolve(&self, claim: &str, source: Source) -> Result<Resolved, DistributedError> {
        match &self.resolver {
            Some(resolver) => resolver.resolve(self.config(), claim, source).await,
            None => Err(DistributedError::NotFetched { claim: claim.to_owned(), endpoint: source.shown() }),
        }
    }
}

fn outside(valid: &ValidConfig, around: &Surroundings) -> Result<Outside, HttpClientError> {
    let http = HttpClient::new(http_config(valid, &around.network))?;
    Ok(Outside { http, policy: around.policy, clock: around.clock.clone(), retry: around.network.retry })
}

fn search(valid: &ValidConfig, outside: Outside, around: &Surroundings) -> Arc<Search> {
    let config = valid.config();
    let discovery = Discovery {
        outside,
        issuer: config.issuer_url.clone(),
        document_url: config.discovery_url.clone(),
        purpose: Purpose::Users,
    };
    Search::start(discovery, &around.shutdown)
}

fn resolver(
    valid: &ValidConfig,
    outside: &Outside,
    around: &Surroundings,
) -> Result<Option<Arc<Resolver>>, HttpClientError> {
    let config = valid.config();
    let reach = match (&around.distributed_claims, around.policy) {
        _ if config.groups.is_none() => return Ok(None),
        (DistributedClaims::Refuse, _) => return Ok(None),
        (DistributedClaims::Fetch, Policy::Faithful) => Reach::Anywhere,
        (DistributedClaims::Fetch, Policy::Strict) => Reach::within(config, &ClaimHosts::default()),
        (DistributedClaims::FetchFrom(hosts), _) => Reach::within(config, hosts),
    };
    let resolver = Resolver::new(valid, outside.clone(), reach, &around.network, around.shutdown.child())?;
    Ok(Some(Arc::new(resolver)))
}
