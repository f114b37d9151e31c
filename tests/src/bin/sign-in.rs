//! A browser for tests that need none: opens a URL, fills in the sign-in form, follows it to the end.
//!
//! `SIGN_IN_LOGIN` and `SIGN_IN_PASSWORD` say who, `SIGN_IN_CA` names a file of authorities to trust. Prints the last page's heading; exits 1 when the sign-in failed.
#![expect(clippy::print_stdout, clippy::disallowed_methods, clippy::expect_used, reason = "a test program")]

use portcullis_local::form::{self, Credentials};
use portcullis_runtime::http_client::{HttpClient, HttpClientConfig, Roots};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = url::Url::parse(&std::env::args().nth(1).expect("a URL"))?;
    let login = std::env::var("SIGN_IN_LOGIN")?;
    let password = std::env::var("SIGN_IN_PASSWORD")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let roots = match std::env::var_os("SIGN_IN_CA") {
        Some(file) => Roots::only_pem(&std::fs::read(file)?)?,
        None => Roots::default(),
    };
    let client = HttpClient::new(HttpClientConfig { roots, max_redirects: 0, ..HttpClientConfig::default() })?;
    let heading =
        runtime.block_on(form::sign_in(&client, &url, &url, &Credentials { login: &login, password: &password }))?;
    println!("{heading}");
    Ok(())
}
