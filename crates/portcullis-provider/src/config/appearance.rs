//! How logs and pages look: `logger`, `frontend`.

use super::raw::{RawFrontend, RawLogger};
use super::settings::{Frontend, Logger, Theme};
use super::validate::{Findings, text};

pub(super) fn logger(raw: &RawLogger, f: &mut Findings<'_>) -> Logger {
    let level = raw.level.as_ref().map_or(Some(0), |field| {
        let level = slog_level(&field.value);
        if level.is_none() {
            f.value(
                &field.place,
                format!("slog: level string {:?}: unknown name", field.value),
                "use debug, info, warn or error",
            );
        }
        level
    });
    let json = match text(raw.format.as_ref()) {
        "" | "text" => false,
        "json" => true,
        other => {
            if let Some(field) = &raw.format {
                f.value(
                    &field.place,
                    format!("invalid config: log format is not one of the supported values (json, text): {other}"),
                    "use json or text",
                );
            }
            false
        }
    };
    let exclude_fields = raw.exclude_fields.as_ref().map(|x| x.value.clone()).unwrap_or_default();
    Logger { level: level.unwrap_or(0), json, exclude_fields }
}

/// slog's level names with an optional offset, such as `INFO+2`. The empty text is info.
fn slog_level(text: &str) -> Option<i32> {
    let (name, offset) = match text.find(['+', '-']) {
        Some(at) => {
            let (name, offset) = text.split_at(at);
            (name, offset.parse::<i32>().ok()?)
        }
        None => (text, 0),
    };
    let base = match name.to_ascii_uppercase().as_str() {
        "DEBUG" => -4,
        "" if text.is_empty() => 0,
        "INFO" => 0,
        "WARN" => 4,
        "ERROR" => 8,
        _ => return None,
    };
    i32::checked_add(base, offset)
}

pub(super) fn frontend(raw: RawFrontend, f: &mut Findings<'_>) -> Frontend {
    if let Some(dir) = raw.dir.as_ref().filter(|d| !d.value.is_empty()) {
        f.unsupported(
            &dir.place,
            "own templates (frontend.dir) are not supported yet",
            "remove `frontend.dir`; title, logo and theme can be set",
        );
    } else if (f.env)("DEX_FRONTEND_DIR").is_some_and(|d| !d.is_empty()) {
        let place = f.whole_file();
        f.unsupported(
            &place,
            "DEX_FRONTEND_DIR is set, but own templates are not supported yet",
            "unset DEX_FRONTEND_DIR",
        );
    }
    let theme = match text(raw.theme.as_ref()) {
        "" => Theme::Auto,
        "light" | "coreos" | "tectonic" => Theme::Light,
        "dark" => Theme::Dark,
        other => {
            if let Some(field) = &raw.theme {
                f.value(
                    &field.place,
                    format!("there is no theme {other:?}"),
                    "use light or dark, or remove the key: the browser's preference counts then",
                );
            }
            Theme::Auto
        }
    };
    let logo_url = raw.logo_url.filter(|l| !l.value.is_empty()).and_then(|field| {
        let ok = url::Url::parse(&field.value)
            .is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.host_str().is_some());
        if !ok {
            f.value(&field.place, "the logo must be an http or https URL", "without the key, a built-in logo is shown");
        }
        ok.then_some(field.value)
    });
    let title = raw.issuer.map(|i| i.value).filter(|i| !i.is_empty()).unwrap_or_else(|| "dex".to_owned());
    Frontend { title, logo_url, theme, extra: raw.extra }
}
