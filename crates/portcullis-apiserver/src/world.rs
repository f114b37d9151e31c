//! For tests and fuzz targets: a whole server without a listener, on a clock of its own, in memory.
//!
//! Tokens are names: `admin` may do everything, `jane` is in the group `devs` and may do what everyone may.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use portcullis_kube::UserInfo;
use portcullis_kube::authentication_config::AnonymousAuthConfig;
use portcullis_runtime::telemetry::Metrics;
use portcullis_runtime::{Clock, MockClock, Rng};

use crate::authenticate::TokenAuthenticator;
use crate::controllers::Controllers;
use crate::discovery::Discovery;
use crate::engine::Engine;
use crate::handlers::health::version_info;
use crate::http::Call;
use crate::http::reply::Reply;
use crate::openapi::OpenApi;
use crate::parts::Parts;
use crate::policy::LivePolicy;
use crate::seed::{Seed, SeedError};
use crate::server::GIT_VERSION;
use crate::service_account::ServiceAccounts;
use crate::store::{Store, StoreLimits};
use crate::streams::{StreamLimits, Streams};

/// A server without a listener, and the hand on its clock.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) hand: MockClock,
}

impl World {
    /// A server that holds what a new one holds.
    pub(crate) fn new(limits: StoreLimits, streams: StreamLimits) -> Result<Self, SeedError> {
        let (clock, hand) = Clock::mock(1_700_000_000);
        let user = |name: &str, groups: &[&str]| (name.to_owned(), UserInfo::new(name, groups.iter().copied()));
        let tokens = BTreeMap::from([user("admin", &["system:masters"]), user("jane", &["devs"])]);
        let engine = Engine {
            store: Arc::new(Store::new(limits).with_clock(clock.clone())),
            policy: LivePolicy::default(),
            last_modes: Default::default(),
            tokens: RwLock::new(Arc::new(TokenAuthenticator::Fixed(tokens))),
            anonymous: AnonymousAuthConfig::everywhere(true),
            service_accounts: ServiceAccounts::new("127.0.0.1:6443", None),
            discovery: Discovery::new("127.0.0.1:6443"),
            openapi: Arc::new(OpenApi::new(clock.now())),
            version: version_info(GIT_VERSION, "amd64"),
            audit: None,
            metrics: Metrics::new(&clock),
            clock,
            rng: Rng::seeded(1),
            controllers: Controllers { root_ca: "PEM".to_owned(), port: 6443, ..Controllers::default() },
            parts: Parts::default(),
            streams: Streams::new(streams),
        };
        engine.bootstrap("node", GIT_VERSION)?;
        Ok(Self { engine: Arc::new(engine), hand })
    }

    /// What is answered to a request whose body has been read.
    pub(crate) async fn send(&self, call: Call) -> Reply {
        match self.engine.admit(&call).await {
            Ok(admitted) => self.engine.serve(&call, &admitted).await,
            Err(reply) => reply,
        }
    }

    /// The process' own hand.
    pub(crate) fn seed(&self) -> Seed {
        Seed { engine: Arc::clone(&self.engine), node: "node".into() }
    }
}

#[cfg(test)]
pub(crate) use self::testing::{world, world_with};

#[cfg(test)]
mod testing {
    use serde_json::Value;

    use super::*;

    pub(crate) fn world_with(limits: StoreLimits) -> World {
        World::new(limits, StreamLimits::default()).unwrap()
    }

    pub(crate) fn world() -> World {
        world_with(StoreLimits::default())
    }

    impl World {
        pub(crate) async fn call(&self, user: &str, line: &str, body: &str) -> (u16, Value) {
            let mut call = Call::test(line, body.to_owned());
            if !user.is_empty() {
                call = call.with("authorization", &format!("Bearer {user}"));
            }
            let reply = self.send(call).await;
            while self.engine.work_off() {}
            (reply.status.as_u16(), serde_json::from_slice(reply.bytes()).unwrap_or(Value::Null))
        }

        /// As the administrator; it must succeed.
        pub(crate) async fn admin(&self, line: &str, body: &str) -> Value {
            let (code, value) = self.call("admin", line, body).await;
            assert!((200..300).contains(&code), "{line}: {code} {value}");
            value
        }

        pub(crate) async fn code(&self, user: &str, line: &str, body: &str) -> u16 {
            self.call(user, line, body).await.0
        }
    }
}
