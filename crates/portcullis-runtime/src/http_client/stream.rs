//! A response that is read line by line as it comes, for as long as it comes: what a watch of Kubernetes is.
//!
//! Bounded in every direction: the time until the head, the silence between two pieces, the time of it all, the length of
//! a line. Dropping it closes the connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::time::timeout;

use super::{HttpClient, HttpClientError, HttpResponse, parse_url, shown};

/// The bounds of a streamed response.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// From the start of the request to the response's head.
    pub head: Duration,
    /// The longest silence while lines are awaited.
    pub idle: Duration,
    /// From the start of the request to its end.
    pub whole: Duration,
    /// Longest line in bytes, its end not counted.
    pub line: usize,
}

/// A response whose head has come.
#[derive(Debug)]
pub struct HttpLines {
    response: reqwest::Response,
    limits: StreamLimits,
    url: String,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of a line.
    searched: usize,
}

/// What the head of a streamed response says.
#[derive(Debug)]
pub enum Streamed {
    /// Success: lines follow.
    Lines(Box<HttpLines>),
    /// Anything else, with its whole body.
    Refused(HttpResponse),
}

impl HttpClient {
    /// Sends a GET whose response is read line by line.
    ///
    /// # Errors
    /// See [`HttpClientError`]. Any status is a success here.
    pub async fn stream(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        limits: StreamLimits,
    ) -> Result<Streamed, HttpClientError> {
        let target = parse_url(url)?;
        self.shared.egress.check_url(&target)?;
        let shown = shown(&target);
        let mut request = self.inner.request(Method::GET, target).timeout(limits.whole);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let late = || HttpClientError::Timeout { url: shown.clone() };
        let response = timeout(limits.head, request.send()).await.map_err(|_| late())?;
        let response = response.map_err(|error| HttpClientError::from_reqwest(&shown, &error))?;
        if response.status().is_success() {
            let buffer = BytesMut::new();
            return Ok(Streamed::Lines(Box::new(HttpLines { response, limits, url: shown, buffer, searched: 0 })));
        }
        let whole = timeout(limits.head, self.read(&shown, response)).await.map_err(|_| late())?;
        whole.map(Streamed::Refused)
    }
}

impl HttpLines {
    /// The next line without its end; `None` when the server has ended the response. A last line without an end is none.
    /// Safe to drop while it waits: nothing that has come is lost.
    ///
    /// # Errors
    /// [`HttpClientError::Timeout`] after too long a silence, [`HttpClientError::BodyTooLarge`] for too long a line, and
    /// what a broken connection gives.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpClientError> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                self.check(line.len())?;
                return Ok(Some(line.freeze()));
            }
            self.searched = self.buffer.len();
            self.check(self.searched)?;
            match timeout(self.limits.idle, self.response.chunk()).await {
                Err(_) => return Err(HttpClientError::Timeout { url: self.url.clone() }),
                Ok(Err(error)) => return Err(HttpClientError::from_reqwest(&self.url, &error)),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => self.buffer.extend_from_slice(&chunk),
            }
        }
    }

    fn check(&self, length: usize) -> Result<(), HttpClientError> {
        let limit = self.limits.line;
        if length > limit {
            return Err(HttpClientError::BodyTooLarge { url: self.url.clone(), limit });
        }
        Ok(())
    }
}
