//! A client of a provider: one connection, kept alive, that says the same to either program. It is cheap, because it
//! shares the processors with what it measures.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use portcullis_local::form::{Credentials, Form, Jar};
use tokio::net::TcpSocket;
use url::Url;
use url::form_urlencoded::Serializer;

use crate::site::{CALLBACK, CLIENT, PASSWORD, SECRET, Site, user};

/// Pages and redirects of one step of a sign-in.
const MAX_STEPS: usize = 10;

/// A request that did not end as it should: its status, or 0 when there was no answer, or none that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) u16);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a request was answered with status {}", self.0)
    }
}

impl std::error::Error for Refused {}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

/// One connection to a provider; it is made again when the provider closes it.
pub(crate) struct Client {
    issuer: Url,
    address: SocketAddr,
    /// Where it is: its own address, because a provider lets an address try so many passwords a minute.
    home: Ipv4Addr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A page with a form, and where it is.
pub(crate) struct Page(Url, Form);

/// Somebody's way to a code: their cookies, and which user they are.
#[derive(Default)]
pub(crate) struct Person {
    jar: Jar,
    number: usize,
}

impl Person {
    pub(crate) fn new(number: usize) -> Self {
        Self { jar: Jar::default(), number }
    }
}

/// Where a step of a sign-in ends.
enum End {
    Page(Page),
    Callback(Url),
}

impl Client {
    pub(crate) fn new(site: &Site, number: usize) -> Result<Self> {
        let home = Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1)?);
        Ok(Self { issuer: Url::parse(&site.issuer)?, address: site.address, home, sender: None })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.home, 0).into())?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn request(&self, method: Method, url: &Url) -> http::request::Builder {
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        Request::builder().method(method).uri(path).header(header::HOST, self.issuer.authority())
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let url = self.issuer.join(path)?;
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let request =
            self.request(Method::POST, &url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Full::from(body))?).await
    }

    /// Tokens for a grant; returns the refresh token.
    async fn token(&mut self, fields: &[(&str, &str)]) -> Result<String, Refused> {
        let fields = [&[("client_id", CLIENT), ("client_secret", SECRET)], fields].concat();
        let answer = self.post("/token", &fields).await.map_err(|_no_answer| Refused(0))?;
        if answer.status != 200 {
            return Err(Refused(answer.status));
        }
        let tokens: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|_no_json| Refused(0))?;
        let token = tokens.get("refresh_token").and_then(|token| token.as_str());
        token.map(str::to_owned).ok_or(Refused(0))
    }

    /// The next refresh token.
    pub(crate) async fn refresh(&mut self, token: &str) -> Result<String, Refused> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// From the authorization request to the form that asks for the password.
    pub(crate) async fn begin(&mut self, person: &mut Person) -> Result<Page, Refused> {
        let mut start = self.issuer.join("/auth").map_err(|_no_url| Refused(0))?;
        start.query_pairs_mut().extend_pairs([
            ("client_id", CLIENT),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("scope", "openid email offline_access"),
            ("state", "s"),
        ]);
        match self.walk(person, start).await? {
            End::Page(page) => Ok(page),
            End::Callback(_) => Err(Refused(0)),
        }
    }

    /// Gives the password; returns where the provider sends the browser then.
    pub(crate) async fn password(&mut self, person: &mut Person, page: Page) -> Result<Url, Refused> {
        let Page(url, form) = page;
        let answer = self.fill(person, &url, form).await?;
        redirect(&url, &answer).ok_or(Refused(answer.status))
    }

    /// From there to the code: the page that asks for consent, and the answer to it.
    pub(crate) async fn consent(&mut self, person: &mut Person, next: Url) -> Result<String, Refused> {
        let callback = match self.walk(person, next).await? {
            End::Callback(url) => url,
            End::Page(Page(url, form)) => {
                let answer = self.fill(person, &url, form).await?;
                let next = redirect(&url, &answer).ok_or(Refused(answer.status))?;
                match self.walk(person, next).await? {
                    End::Callback(url) => url,
                    End::Page(_) => return Err(Refused(0)),
                }
            }
        };
        let code = callback.query_pairs().find(|(key, _)| key == "code");
        code.map(|(_, code)| code.into_owned()).ok_or(Refused(0))
    }

    /// Tokens for a code; returns the refresh token.
    pub(crate) async fn redeem(&mut self, code: &str) -> Result<String, Refused> {
        self.token(&[("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK)]).await
    }

    /// All of it.
    pub(crate) async fn sign_in(&mut self, number: usize) -> Result<String, Refused> {
        let mut person = Person::new(number);
        let page = self.begin(&mut person).await?;
        let next = self.password(&mut person, page).await?;
        let code = self.consent(&mut person, next).await?;
        self.redeem(&code).await
    }

    /// Follows redirects to a page with a form, or to the client.
    async fn walk(&mut self, person: &mut Person, mut url: Url) -> Result<End, Refused> {
        for _ in 0..MAX_STEPS {
            if url.as_str().starts_with(CALLBACK) {
                return Ok(End::Callback(url));
            }
            let answer = self.browse(person, &url, Method::GET, None).await?;
            if let Some(next) = redirect(&url, &answer) {
                url = next;
                continue;
            }
            let form = Form::find(&String::from_utf8_lossy(&answer.body));
            return match form {
                Some(form) if answer.status == 200 => Ok(End::Page(Page(url, form))),
                _ => Err(Refused(answer.status)),
            };
        }
        Err(Refused(0))
    }

    /// Fills in a form, as a person would.
    async fn fill(&mut self, person: &mut Person, url: &Url, form: Form) -> Result<Answer, Refused> {
        let target = form.target(url).map_err(|_no_url| Refused(0))?;
        let fields = form.fill(&Credentials { login: &user(person.number), password: PASSWORD });
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        self.browse(person, &target, Method::POST, Some(body)).await
    }

    /// One request of a browser.
    async fn browse(
        &mut self,
        person: &mut Person,
        url: &Url,
        method: Method,
        form: Option<String>,
    ) -> Result<Answer, Refused> {
        let mut request = self.request(method, url);
        if let Some(cookies) = person.jar.header(url) {
            request = request.header(header::COOKIE, cookies);
        }
        if form.is_some() {
            request = request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(header::ORIGIN, self.issuer.origin().ascii_serialization());
        }
        let request = request.body(form.map_or_else(Full::default, Full::from)).map_err(|_no_request| Refused(0))?;
        let answer = self.send(request).await.map_err(|_no_answer| Refused(0))?;
        for value in answer.headers.get_all(header::SET_COOKIE) {
            if let Ok(value) = value.to_str() {
                person.jar.keep(url, value);
            }
        }
        Ok(answer)
    }
}

/// Where an answer sends the browser.
fn redirect(from: &Url, answer: &Answer) -> Option<Url> {
    if !(300..400).contains(&answer.status) {
        return None;
    }
    from.join(answer.headers.get(header::LOCATION)?.to_str().ok()?).ok()
}
