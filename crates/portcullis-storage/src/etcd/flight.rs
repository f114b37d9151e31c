//! A value that many need and one task makes: a connection, a token.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::{FutureExt, future::Shared};

/// How a value is made.
pub(super) type Making<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// At most one making at a time, whose outcome all get who asked in the meantime.
pub(super) struct Flight<T: Clone, E: Clone>(Mutex<State<T, E>>);

struct State<T: Clone, E: Clone> {
    number: u64,
    current: Option<Shared<Making<T, E>>>,
}

/// A value, and which one it is.
#[derive(Clone)]
pub(super) struct Numbered<T> {
    pub(super) value: T,
    number: u64,
}

impl<T, E> Flight<T, E>
where
    T: Clone + Send + 'static,
    E: Clone + Send + 'static,
{
    pub(super) const fn new() -> Self {
        Self(Mutex::new(State { number: 0, current: None }))
    }

    /// The value that is there when it is `usable`, or else a new one.
    ///
    /// `make` is spawned: it goes on when its callers give up, and the next one finds its outcome.
    pub(super) async fn get(
        &self,
        usable: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Making<T, E>,
        panicked: impl FnOnce() -> E + Send + 'static,
    ) -> Result<Numbered<T>, E> {
        let (making, number) = {
            let mut state = self.state();
            let there = state.current.clone().filter(|making| match making.peek() {
                None => true,
                Some(Ok(value)) => usable(value),
                Some(Err(_)) => false,
            });
            let making = there.unwrap_or_else(|| {
                let task = tokio::spawn(make());
                let making: Making<T, E> = Box::pin(async move { task.await.unwrap_or_else(|_| Err(panicked())) });
                let making = making.shared();
                state.number += 1;
                state.current = Some(making.clone());
                making
            });
            (making, state.number)
        };
        making.await.map(|value| Numbered { value, number })
    }

    /// Forgets this value, unless another one has taken its place.
    pub(super) fn discard(&self, value: &Numbered<T>) {
        let mut state = self.state();
        if state.number == value.number {
            state.current = None;
        }
    }

    /// The state. Nothing panics while it is locked.
    fn state(&self) -> MutexGuard<'_, State<T, E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    async fn get(flight: &Flight<u32, u32>, made: &Arc<AtomicU32>, fails: bool) -> Result<Numbered<u32>, u32> {
        let made = Arc::clone(made);
        let make = move || -> Making<u32, u32> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                let number = made.fetch_add(1, Ordering::Relaxed);
                if fails { Err(number) } else { Ok(number) }
            })
        };
        flight.get(|value| *value != 2, make, || u32::MAX).await
    }

    #[tokio::test]
    async fn many_callers_share_one_making() {
        let (flight, made) = (Flight::new(), Arc::new(AtomicU32::new(0)));
        let (a, b, c) = tokio::join!(get(&flight, &made, true), get(&flight, &made, true), get(&flight, &made, true));
        assert_eq!([a.err(), b.err(), c.err()], [Some(0); 3]);
        let (a, b) = tokio::join!(get(&flight, &made, false), get(&flight, &made, false));
        assert_eq!([a.map(|a| a.value), b.map(|b| b.value)], [Ok(1); 2]);
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_was_discarded_or_is_not_usable_is_made_again() {
        let (flight, made) = (Flight::new(), Arc::new(AtomicU32::new(1)));
        let first = get(&flight, &made, false).await.map_err(|_| ()).unwrap();
        flight.discard(&first);
        let second = get(&flight, &made, false).await.map_err(|_| ()).unwrap();
        assert_eq!((first.value, second.value), (1, 2));
        let third = get(&flight, &made, false).await.map_err(|_| ()).unwrap();
        flight.discard(&second);
        let fourth = get(&flight, &made, false).await.map_err(|_| ()).unwrap();
        assert_eq!((third.value, fourth.value), (3, 3), "an old value does not discard a new one");
    }

    #[tokio::test]
    async fn a_panic_while_making_is_an_error() {
        let flight: Flight<u32, u32> = Flight::new();
        let panics = || -> Making<u32, u32> { Box::pin(async { panic!("a test's panic") }) };
        assert_eq!(flight.get(|_| true, panics, || 7).await.err(), Some(7));
    }
}
