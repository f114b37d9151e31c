//! Calls that find a server which answers: several endpoints, a token that is renewed, an end in time.
//!
//! Flow: the endpoint that answered last → its connection, or a new one → the call. What certainly had no effect is
//! tried elsewhere until the time is over, and so is every read; a write that may have taken effect is never sent twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use prost::Message;
use tokio::time::Instant;

use super::{
    EtcdCredentials,
    endpoint::Endpoint,
    error::{Next, judge},
    flight::{Flight, Making},
    grpc::{self, Call, Failure},
    wire::{AuthenticateRequest, AuthenticateResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse},
};
use crate::error::{Applied, KernelError, Trouble};

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// The pause after all endpoints have failed once.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one endpoint of several may take over a read before the next one is asked.
const READ_TIME: Duration = Duration::from_secs(2);
/// How often a call renews its token.
const RENEWALS: usize = 2;

/// Shared by all tasks.
pub(super) struct Client {
    endpoints: Vec<Arc<Endpoint>>,
    /// The number of the endpoint that is asked first.
    preferred: AtomicUsize,
    credentials: Option<EtcdCredentials>,
    /// `None` as a value: the server wants no token.
    token: Flight<Option<HeaderValue>, Failure>,
    dial_time: Duration,
    answer_time: Duration,
}

/// Whether a call changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

impl Client {
    pub(super) fn new(
        endpoints: Vec<Endpoint>,
        credentials: Option<EtcdCredentials>,
        dial_time: Duration,
        answer_time: Duration,
    ) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Arc::new).collect(),
            preferred: AtomicUsize::new(0),
            credentials,
            token: Flight::new(),
            dial_time,
            answer_time,
        }
    }

    /// The endpoints, for messages.
    pub(super) fn origins(&self) -> String {
        let origins: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.origin.as_str()).collect();
        origins.join(", ")
    }

    pub(super) async fn range(self: &Arc<Self>, request: &RangeRequest) -> Result<RangeResponse, KernelError> {
        self.call(RANGE, Effect::Reads, request).await
    }

    /// A transaction of ranges alone.
    pub(super) async fn read(self: &Arc<Self>, request: &TxnRequest) -> Result<TxnResponse, KernelError> {
        self.call(TXN, Effect::Reads, request).await
    }

    pub(super) async fn write(self: &Arc<Self>, request: &TxnRequest) -> Result<TxnResponse, KernelError> {
        self.call(TXN, Effect::Writes, request).await
    }

    async fn call<A: Message + Default>(
        self: &Arc<Self>,
        path: &'static str,
        effect: Effect,
        request: &impl Message,
    ) -> Result<A, KernelError> {
        let frame = grpc::frame(request);
        let end = Instant::now() + self.answer_time;
        let (mut failed, mut renewed) = (0_usize, 0_usize);
        let mut earlier = None;
        loop {
            let preferred = self.preferred.load(Ordering::Relaxed);
            let failure = match self.attempt(preferred, path, effect, frame.clone(), end).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let (error, next) = judge(failure, effect);
            let error = match (error, earlier.take()) {
                // That the time was over says less than what it was spent on.
                (KernelError::Unavailable { applied: Applied::No, trouble: Trouble::Timeout }, Some(cause)) => cause,
                (error, _) => error,
            };
            match next {
                Next::Renew if renewed < RENEWALS && self.credentials.is_some() => renewed += 1,
                Next::Renew | Next::GiveUp => return Err(error),
                Next::Elsewhere => {
                    failed += 1;
                    self.leave(preferred);
                    if failed.is_multiple_of(self.endpoints.len().max(1)) {
                        tokio::time::sleep_until(end.min(Instant::now() + PAUSE)).await;
                    }
                }
            }
            if Instant::now() >= end {
                return Err(error);
            }
            earlier = Some(error);
        }
    }

    /// The next call begins with another endpoint, unless somebody has seen to that already.
    fn leave(&self, preferred: usize) {
        let next = (preferred + 1) % self.endpoints.len().max(1);
        let _ = self.preferred.compare_exchange(preferred, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn attempt<A: Message + Default>(
        self: &Arc<Self>,
        preferred: usize,
        path: &'static str,
        effect: Effect,
        frame: Bytes,
        end: Instant,
    ) -> Result<A, Failure> {
        let deadline = match effect {
            Effect::Reads if self.endpoints.len() > 1 => end.min(Instant::now() + READ_TIME),
            Effect::Reads | Effect::Writes => end,
        };
        let token = if self.credentials.is_some() { Some(self.token(deadline).await?) } else { None };
        let value = token.as_ref().and_then(|token| token.value.clone());
        let answer = self.send(preferred, path, value, frame, deadline).await;
        if let (Some(token), Err(failure)) = (&token, &answer)
            && judge(failure.clone(), effect).1 == Next::Renew
        {
            self.token.discard(token);
        }
        answer
    }

    /// Sends to one endpoint, and drops its connection when that is of no use.
    async fn send<A: Message + Default>(
        &self,
        preferred: usize,
        path: &'static str,
        token: Option<HeaderValue>,
        frame: Bytes,
        deadline: Instant,
    ) -> Result<A, Failure> {
        let Some(endpoint) = self.endpoints.get(preferred) else {
            return Err(Failure::Unsent(Trouble::Closed));
        };
        let dialled = Arc::clone(endpoint);
        let time = self.dial_time;
        let make = || -> Making<_, _> { Box::pin(dialled.dial(time)) };
        let connection = endpoint.connection.get(|connection| !connection.is_closed(), make, || Trouble::Closed);
        let connection = match tokio::time::timeout_at(deadline, connection).await {
            Ok(connection) => connection.map_err(Failure::Unsent)?,
            Err(_) => return Err(Failure::Unsent(Trouble::Timeout)),
        };
        let call = Call { origin: &endpoint.origin, path, token, frame, deadline };
        let answer = grpc::unary(connection.value.clone(), call).await;
        if matches!(answer, Err(Failure::Unsent(_) | Failure::Lost(_))) {
            endpoint.connection.discard(&connection);
        }
        answer
    }

    /// etcd's token for the configured user: asked for once by all who need it.
    async fn token(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<super::flight::Numbered<Option<HeaderValue>>, Failure> {
        let client = Arc::clone(self);
        let make = || -> Making<_, _> { Box::pin(async move { client.authenticate().await }) };
        let token = self.token.get(|_| true, make, || Failure::Unsent(Trouble::Closed));
        match tokio::time::timeout_at(deadline, token).await {
            // Whatever became of that call: the one that needs the token has not been sent.
            Ok(token) => token.map_err(|failure| match judge(failure.clone(), Effect::Reads) {
                (KernelError::Unavailable { trouble, .. }, Next::Elsewhere) => Failure::Unsent(trouble),
                _ => failure,
            }),
            Err(_) => Err(Failure::Unsent(Trouble::Timeout)),
        }
    }

    async fn authenticate(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(EtcdCredentials { username, password }) = &self.credentials else { return Ok(None) };
        let request = AuthenticateRequest { name: username.clone(), password: password.expose().to_owned() };
        let preferred = self.preferred.load(Ordering::Relaxed);
        let deadline = Instant::now() + self.answer_time;
        let answer = self.send(preferred, AUTHENTICATE, None, grpc::frame(&request), deadline).await;
        match answer {
            Ok(AuthenticateResponse { token }) => {
                let token = HeaderValue::from_str(&token).ok().map(|mut token| {
                    token.set_sensitive(true);
                    token
                });
                token
                    .map(Some)
                    .ok_or_else(|| Failure::Unsent(Trouble::Other("etcd's token is not a header's value".to_owned())))
            }
            // As etcd's own client: a password for a store that asks for none is not wrong.
            Err(Failure::Status(status)) if status.message.contains("authentication is not enabled") => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoints: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.origin.as_str()).collect();
        f.debug_struct("Client").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}
