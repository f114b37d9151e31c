//! What holds for every page.

use std::collections::BTreeMap;

use super::*;

fn pages(theme: Theme, logo: Option<&str>) -> Pages {
    let frontend =
        Frontend { title: "Acme & Co".to_owned(), logo_url: logo.map(str::to_owned), theme, extra: BTreeMap::new() };
    Pages::new(&Issuer::parse("https://a.example/dex").unwrap(), &frontend).unwrap()
}

const EVIL: &str = "\"'><script>alert(1)</script>&{{ 7*7 }}";

fn every_page(pages: &Pages, text: &str) -> Vec<(&'static str, String)> {
    let choice = ConnectorChoice { id: text.to_owned(), name: text.to_owned(), url: text.to_owned(), kind: "local" };
    let replies = vec![
        (
            "password",
            pages.password(
                StatusCode::OK,
                &PasswordPage {
                    client: text,
                    post_url: text,
                    back_link: text,
                    csrf: text,
                    username: text,
                    username_prompt: text,
                    problem: text,
                    invalid: true,
                },
            ),
        ),
        ("login", pages.login(text, &[choice])),
        (
            "approval",
            pages.approval(&ApprovalPage {
                client: text,
                user: text,
                scopes: &["View your groups"],
                req: text,
                post_url: text,
            }),
        ),
        ("oob", pages.oob(text)),
        ("home", pages.home(text)),
        ("error", pages.error(StatusCode::BAD_REQUEST, text, text)),
    ];
    replies
        .into_iter()
        .map(|(name, reply)| {
            let headers = reply.headers();
            assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{name}");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY", "{name}");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{name}");
            let csp = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(
                csp.contains("default-src 'none'") && csp.contains("frame-ancestors 'none'") && !csp.contains("unsafe"),
                "{csp}"
            );
            (name, String::from_utf8(reply.into_body().to_vec()).unwrap())
        })
        .collect()
}

#[test]
fn what_is_put_into_a_page_is_escaped() {
    for (name, page) in every_page(&pages(Theme::Auto, None), EVIL) {
        assert!(!page.contains("<script"), "{name}: {page}");
        assert!(!page.contains("\"'>"), "{name}: {page}");
        assert!(!page.contains("49"), "{name}: a value was taken for a template");
        assert!(page.contains("Acme &amp; Co"), "{name}");
    }
}

#[test]
fn every_page_is_accessible_and_small() {
    for (name, page) in every_page(&pages(Theme::Auto, None), "x") {
        for part in ["<html lang=\"en\">", "<title>", "name=\"viewport\"", "<header", "<main", "<h1>", "</html>"] {
            assert!(page.contains(part), "{name}: {part}");
        }
        assert_eq!(page.matches("<h1>").count(), 1, "{name}");
        for forbidden in ["<script", "<style", " style=", "onclick", "javascript:", "user-scalable"] {
            assert!(!page.contains(forbidden), "{name}: {forbidden}");
        }
        // Every field that is shown has a label.
        for input in page.split("<input").skip(1).filter(|i| !i.contains("type=\"hidden\"")) {
            let id = input.split("id=\"").nth(1).and_then(|r| r.split('"').next()).unwrap();
            assert!(page.contains(&format!("<label for=\"{id}\"")), "{name}: {id}");
        }
        let assets = include_str!("../../../../web/static/main.css").len()
            + include_str!("../../../../web/static/logo.svg").len();
        assert!(page.len() + assets <= 30 * 1024, "{name}");
    }
}

#[test]
fn the_password_page_keeps_the_name_and_says_what_went_wrong() {
    let pages = pages(Theme::Auto, None);
    let page =
        |page: &PasswordPage<'_>| String::from_utf8(pages.password(StatusCode::OK, page).into_body().to_vec()).unwrap();
    let first =
        page(&PasswordPage { client: "kubernetes", username_prompt: "Email Address", ..PasswordPage::default() });
    assert!(
        first.contains("to continue to <strong>kubernetes</strong>")
            && !first.contains("role=\"alert\"")
            && !first.contains("aria-invalid")
    );
    assert!(first.contains("autocomplete=\"username\"") && first.contains("autocomplete=\"current-password\""));
    assert!(!first.contains("Use another way"));
    let again = page(&PasswordPage {
        client: "kubernetes",
        username: "a@b",
        problem: "Wrong",
        invalid: true,
        ..PasswordPage::default()
    });
    assert!(
        again.contains("value=\"a@b\"") && again.contains("role=\"alert\">Wrong<") && again.contains("<title>Error: ")
    );
}

#[test]
fn themes_and_logos_are_taken_from_the_configuration() {
    let home = |p: &Pages| p.home("d");
    let text = |r: Reply| String::from_utf8(r.into_body().to_vec()).unwrap();
    assert!(text(home(&pages(Theme::Dark, None))).contains("data-theme=\"dark\""));
    assert!(text(home(&pages(Theme::Light, None))).contains("data-theme=\"light\""));
    let plain = text(home(&pages(Theme::Auto, None)));
    assert!(!plain.contains("data-theme") && plain.contains("src=\"/dex/static/logo.svg"));
    let reply = home(&pages(Theme::Auto, Some("https://cdn.example/l.png")));
    assert!(reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("https://cdn.example;"));
    assert!(text(reply).contains("src=\"https://cdn.example/l.png\""));
}

/// WCAG relative luminance and contrast.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |hex: &str| {
        let channel = |i: usize| {
            let c = f64::from(u8::from_str_radix(&hex[1 + 2 * i..3 + 2 * i], 16).unwrap()) / 255.0;
            if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2)
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn both_themes_have_enough_contrast() {
    let css = include_str!("../../../../web/static/main.css");
    let blocks: Vec<&str> = css.split("--ground:").skip(1).collect();
    assert_eq!(blocks.len(), 3, "light, dark by preference, dark by choice");
    assert_eq!(
        blocks[1].split('}').next().unwrap().replace(' ', ""),
        blocks[2].split('}').next().unwrap().replace(' ', ""),
        "the two dark ones are the same"
    );
    for block in &blocks {
        let block = format!("--ground:{block}");
        let colour = |name: &str| {
            block.split(&format!("--{name}:")).nth(1).unwrap().split(';').next().unwrap().trim().to_owned()
        };
        for (text, ground, least) in [
            ("text", "ground", 4.5),
            ("text", "card", 4.5),
            ("muted", "card", 4.5),
            ("muted", "ground", 4.5),
            ("accent", "card", 4.5),
            ("accent-strong", "card", 4.5),
            ("on-accent", "accent", 4.5),
            ("on-accent", "accent-strong", 4.5),
            ("alert-text", "alert-ground", 4.5),
            ("control", "card", 3.0),
        ] {
            let found = contrast(&colour(text), &colour(ground));
            assert!(found >= least, "{text} on {ground}: {found:.2}");
        }
    }
}
