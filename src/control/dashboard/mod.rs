//! Serves the dashboard: one page that loads nothing from elsewhere and asks the same API as the verbs.
//!
//! build.rs puts the page together from `page.html`, a style and a script, whose files run as one module.

use super::api::{Api, Request};
use super::response::{Answer, Failure, whole};
use crate::embedded::{Embedded, embedded};
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// The page with its style and script, as build.rs puts it together.
const PAGE: Embedded = embedded!("dashboard.html");
/// The place of the nonce in the page's elements.
const NONCE: &str = "nonce=\"NONCE\"";

/// `GET /`. The page's policy lets only its own style and script be used, which a nonce shows.
pub(super) async fn page(_: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    let random = RandomState::new();
    let nonce = format!("{:016x}{:016x}", random.hash_one(1), random.hash_one(2));
    let text = PAGE.text().replace(NONCE, &format!("nonce=\"{nonce}\""));
    let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", text);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = answer.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    Ok(answer)
}
