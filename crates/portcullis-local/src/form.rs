//! Signs in through the real pages, as a browser would: forms found in the page, cookies kept, redirects followed.
//!
//! Used by `up --unattended`, and piece by piece by the benchmarks. It fills in what a person fills in, in the form that the advertised authorization
//! endpoint shows, and presses the first button. It never follows a redirect to another machine.

use std::collections::BTreeMap;

use portcullis_runtime::http_client::{HttpClient, HttpClientError, HttpResponse};
use url::{Host, Url};

/// Pages and redirects that one sign-in may take.
const MAX_STEPS: usize = 20;

/// Why the pages did not lead to the end.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The page could not be fetched.
    #[error("cannot fetch {url}")]
    Fetch {
        /// The page, without its query.
        url: String,
        /// Why not.
        #[source]
        source: HttpClientError,
    },
    /// A redirect or a form points to another machine.
    #[error("the sign-in leads away from this machine, to {0:?}: not followed")]
    Foreign(String),
    /// The page says that the name or the password is wrong.
    #[error("the provider did not accept the name or the password")]
    WrongPassword,
    /// The page is an error page, or has no form to fill in.
    #[error("the provider answered {status} at {url}: {text}")]
    Unexpected {
        /// The page's status.
        status: u16,
        /// The page, without its query.
        url: String,
        /// The page's heading.
        text: String,
    },
    /// Pages and redirects never ended.
    #[error("the sign-in did not end after {MAX_STEPS} pages")]
    TooLong,
    /// A URL of the page cannot be read.
    #[error("the page has a link that is no URL")]
    Url(#[from] url::ParseError),
}

/// Who signs in.
pub struct Credentials<'a> {
    /// The login name.
    pub login: &'a str,
    /// The password.
    pub password: &'a str,
}

/// Opens `start` and goes on until a page at `done` (scheme, host and port) that has no form. Returns its heading.
///
/// # Errors
/// See [`FormError`].
pub async fn sign_in(
    client: &HttpClient,
    start: &Url,
    done: &Url,
    credentials: &Credentials<'_>,
) -> Result<String, FormError> {
    match walk(client, start, credentials, |url| if url.origin() == done.origin() { End::Page } else { End::No })
        .await?
    {
        Outcome::Page(heading) => Ok(heading),
        Outcome::Redirect(url) => {
            Err(FormError::Unexpected { status: 0, url: without_query(&url), text: String::new() })
        }
    }
}

/// Opens `start` and goes on until a redirect to `client_uri`, which is not followed: it carries the code.
///
/// # Errors
/// See [`FormError`].
pub async fn sign_in_for_code(
    client: &HttpClient,
    start: &Url,
    client_uri: &Url,
    credentials: &Credentials<'_>,
) -> Result<Url, FormError> {
    let end = |url: &Url| {
        if url.origin() == client_uri.origin() && url.path() == client_uri.path() { End::Redirect } else { End::No }
    };
    match walk(client, start, credentials, end).await? {
        Outcome::Redirect(url) => Ok(url),
        Outcome::Page(text) => Err(FormError::Unexpected { status: 200, url: without_query(client_uri), text }),
    }
}

/// Whether a URL is where the walk ends.
enum End {
    No,
    /// A page there without a form ends it.
    Page,
    /// A redirect there ends it, unfollowed.
    Redirect,
}

enum Outcome {
    Page(String),
    Redirect(Url),
}

async fn walk(
    client: &HttpClient,
    start: &Url,
    credentials: &Credentials<'_>,
    end: impl Fn(&Url) -> End,
) -> Result<Outcome, FormError> {
    let mut jar = Jar::default();
    let mut next = Step::Get(start.clone());
    let mut password_sent = false;
    for _ in 0..MAX_STEPS {
        let url = next.url().clone();
        if matches!(end(&url), End::Redirect) {
            return Ok(Outcome::Redirect(url));
        }
        if !is_local(&url) {
            return Err(FormError::Foreign(url.origin().ascii_serialization()));
        }
        let response = fetch(client, &next, &mut jar).await?;
        if (300..400).contains(&response.status)
            && let Some(location) = response.headers.get("location").and_then(|v| v.to_str().ok())
        {
            next = Step::Get(url.join(location)?);
            continue;
        }
        let page = String::from_utf8_lossy(&response.body).into_owned();
        let Some(form) = Form::find(&page) else {
            if response.status == 200 && matches!(end(&url), End::Page) {
                return Ok(Outcome::Page(heading(&page)));
            }
            return Err(FormError::Unexpected {
                status: response.status,
                url: without_query(&url),
                text: heading(&page),
            });
        };
        let asks_password = form.fields.iter().any(|field| field.name == "password");
        if asks_password && password_sent {
            return Err(FormError::WrongPassword);
        }
        password_sent |= asks_password;
        let target = form.target(&url)?;
        next = Step::Post(target, form.fill(credentials));
    }
    Err(FormError::TooLong)
}

async fn fetch(client: &HttpClient, step: &Step, jar: &mut Jar) -> Result<HttpResponse, FormError> {
    let url = step.url();
    let cookies = jar.header(url);
    let origin = url.origin().ascii_serialization();
    let mut headers = vec![("Accept", "text/html")];
    if let Some(cookies) = &cookies {
        headers.push(("Cookie", cookies));
    }
    let result = match step {
        Step::Get(url) => client.get(url.as_str(), &headers).await,
        Step::Post(url, fields) => {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            headers.push(("Origin", &origin));
            client.post_form(url.as_str(), &fields, &headers).await
        }
    };
    let response = result.map_err(|source| FormError::Fetch { url: without_query(url), source })?;
    for value in response.headers.get_all("set-cookie") {
        if let Ok(value) = value.to_str() {
            jar.keep(url, value);
        }
    }
    Ok(response)
}

enum Step {
    Get(Url),
    Post(Url, Vec<(String, String)>),
}

impl Step {
    const fn url(&self) -> &Url {
        match self {
            Self::Get(url) | Self::Post(url, _) => url,
        }
    }
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A URL for an error text: codes and states travel in the query.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Cookies by host and path; ports are ignored, as RFC 6265 has it. Expiry matters only for removal.
#[derive(Default)]
pub struct Jar(BTreeMap<(String, String, String), String>);

impl Jar {
    /// Takes what a `Set-Cookie` of the answer from `url` says.
    pub fn keep(&mut self, url: &Url, header: &str) {
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        let mut path = "/".to_owned();
        let mut removed = false;
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            if key.eq_ignore_ascii_case("path") && value.starts_with('/') {
                value.clone_into(&mut path);
            }
            removed |= key.eq_ignore_ascii_case("max-age") && value.parse::<i64>().is_ok_and(|age| age <= 0);
            if key.eq_ignore_ascii_case("secure") && url.scheme() != "https" {
                return;
            }
        }
        let key = (url.host_str().unwrap_or_default().to_owned(), path, name.to_owned());
        if removed {
            self.0.remove(&key);
        } else {
            self.0.insert(key, value.to_owned());
        }
    }

    /// The `Cookie` header of a request to `url`; none when there is nothing to send.
    #[must_use]
    pub fn header(&self, url: &Url) -> Option<String> {
        let matches = |path: &str| {
            url.path() == path
                || url.path().strip_prefix(path).is_some_and(|rest| path.ends_with('/') || rest.starts_with('/'))
        };
        let pairs: Vec<String> = self
            .0
            .iter()
            .filter(|((host, path, _), _)| url.host_str() == Some(host) && matches(path))
            .map(|((_, _, name), value)| format!("{name}={value}"))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// The first `method=post` form of a page.
pub struct Form {
    action: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    value: String,
    kind: String,
}

impl Form {
    /// Finds it in a page of HTML.
    #[must_use]
    pub fn find(page: &str) -> Option<Self> {
        let (start, attributes) = tags(page, "form")
            .find(|(_, attributes)| attribute(attributes, "method").is_some_and(|m| m.eq_ignore_ascii_case("post")))?;
        let body = page.get(start..)?;
        let body = body.split("</form").next()?;
        let field = |attributes: &str, default_kind: &str| {
            Some(Field {
                name: attribute(attributes, "name")?,
                value: attribute(attributes, "value").unwrap_or_default(),
                kind: attribute(attributes, "type").unwrap_or_else(|| default_kind.to_owned()),
            })
        };
        let mut fields: Vec<Field> = tags(body, "input").filter_map(|(_, a)| field(a, "text")).collect();
        // One button is pressed: the first, which is the one that goes on.
        fields.extend(tags(body, "button").filter_map(|(_, a)| field(a, "submit")).take(1));
        Some(Self { action: attribute(attributes, "action").unwrap_or_default(), fields })
    }

    /// Where it is sent, for a page at `url`.
    ///
    /// # Errors
    /// When the page names no URL.
    pub fn target(&self, url: &Url) -> Result<Url, url::ParseError> {
        if self.action.is_empty() { Ok(url.clone()) } else { url.join(&self.action) }
    }

    /// The fields as a person sends them: with name and password where the page asks for them, and the first button.
    #[must_use]
    pub fn fill(self, credentials: &Credentials<'_>) -> Vec<(String, String)> {
        let filled = |field: Field| match field.name.as_str() {
            "login" => Some((field.name, credentials.login.to_owned())),
            "password" => Some((field.name, credentials.password.to_owned())),
            // An unchecked box is not sent.
            _ if field.kind == "checkbox" => None,
            _ => Some((field.name, field.value)),
        };
        self.fields.into_iter().filter_map(filled).collect()
    }
}

/// Positions after, and attributes of, each opening tag `name`.
fn tags<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    page.match_indices('<').filter_map(move |(at, _)| {
        let rest = page.get(at + 1..)?;
        let attributes = rest.strip_prefix(name)?;
        if !attributes.starts_with([' ', '\n', '\t', '>', '/']) {
            return None;
        }
        let end = tag_end(attributes)?;
        Some((at + 1 + name.len() + end + 1, attributes.get(..end)?))
    })
}

/// The position of the `>` that ends a tag: not one inside quotes.
fn tag_end(attributes: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in attributes.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

/// The value of an attribute, with the five entities of HTML that a template engine writes turned back.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let mut rest = attributes;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return None;
        }
        let key_end = rest.find(|c: char| c.is_whitespace() || c == '=' || c == '/').unwrap_or(rest.len());
        let (key, after) = rest.split_at_checked(key_end.max(1))?;
        let (value, after) = match after.strip_prefix('=') {
            None => ("", after),
            Some(after) => match after.chars().next() {
                Some(quote @ ('"' | '\'')) => after.get(1..)?.split_once(quote)?,
                _ => after.split_at_checked(after.find(char::is_whitespace).unwrap_or(after.len()))?,
            },
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(unescape(value));
        }
        rest = after;
    }
}

fn unescape(text: &str) -> String {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&#43;", "+"),
        ("&amp;", "&"),
    ];
    entities.iter().fold(text.to_owned(), |text, (entity, c)| text.replace(entity, c))
}

/// The text of the page's first `<h1>`, for an error text.
fn heading(page: &str) -> String {
    const MAX: usize = 200;
    let text =
        tags(page, "h1").next().and_then(|(start, _)| page.get(start..)?.split("</h1").next()).unwrap_or_default();
    let mut inside = false;
    let plain = text.chars().filter(|c| match c {
        '<' => {
            inside = true;
            false
        }
        '>' => {
            inside = false;
            false
        }
        c => !inside && !c.is_control(),
    });
    unescape(plain.take(MAX).collect::<String>().trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_form_is_filled_as_a_person_would() {
        let page = r#"<h1>Sign in</h1><form method="get"></form><form class="a>b" method="post" action="/auth/local/login?state=x&amp;back="><input type=hidden name="csrf" value="a&quot;b">
            <input name="login" type="email"><input name='password' type='password'><input type="checkbox" name="remember_me" value="on"><button type="submit" name="go" value="1">Go</button><button name="no" value="2">x</button></form>"#;
        let form = Form::find(page).unwrap();
        assert_eq!(form.action, "/auth/local/login?state=x&back=");
        let fields = form.fill(&Credentials { login: "me", password: "pw" });
        let expected = [("csrf", "a\"b"), ("login", "me"), ("password", "pw"), ("go", "1")];
        assert_eq!(fields, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(heading(page), "Sign in");
    }

    #[test]
    fn cookies_keep_to_their_host_and_path() {
        let mut jar = Jar::default();
        jar.keep(&url("http://localhost:1/auth"), "a=1; Path=/; HttpOnly");
        jar.keep(&url("http://localhost:1/auth"), "b=2; Path=/auth");
        jar.keep(&url("http://localhost:1/auth"), "c=3; Secure");
        assert_eq!(jar.header(&url("http://localhost:2/auth/x")).unwrap(), "a=1; b=2");
        assert_eq!(jar.header(&url("http://localhost:2/authority")).unwrap(), "a=1");
        assert_eq!(jar.header(&url("http://127.0.0.1:2/")), None);
        jar.keep(&url("http://localhost:1/auth"), "a=; Path=/; Max-Age=0");
        assert_eq!(jar.header(&url("http://localhost:2/")), None);
    }

    #[test]
    fn only_this_machine_is_followed() {
        for (text, local) in [
            ("http://localhost:8000/", true),
            ("http://127.0.0.2/", true),
            ("http://[::1]/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_local(&url(text)), local, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_page_breaks_the_reader(page in ".{0,400}") {
            let _ = Form::find(&page);
            let _ = heading(&page);
        }

        #[test]
        fn no_markup_breaks_the_reader(page in "(<form method=post |<input |name=|value=|\"|'|>|a|é|</form>|<h1>|/| ){0,60}") {
            let _ = Form::find(&page);
            let _ = heading(&page);
        }
    }
}
