//! Serves the dashboard: one page that loads nothing from elsewhere and asks the same API as the verbs.
//!
//! The page is put together from `page.html`, a style and a script, whose files run as one module.

use super::api::{Api, Request};
use super::response::{Answer, Failure, whole};
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// The page; two comments mark the places of the style and the script.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
/// The parts of the script, in their order.
const SCRIPT: [&str; 8] = [
    include_str!("format.js"),
    include_str!("elements.js"),
    include_str!("client.js"),
    include_str!("graphs.js"),
    include_str!("workers.js"),
    include_str!("lines.js"),
    include_str!("logs.js"),
    include_str!("main.js"),
];

/// `GET /`. The page's policy lets only its own style and script be used, which a nonce shows.
pub(super) async fn page(_: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    let random = RandomState::new();
    let nonce = format!("{:016x}{:016x}", random.hash_one(1), random.hash_one(2));
    let style = format!("<style nonce=\"{nonce}\">{STYLE}</style>");
    let script = format!("<script type=\"module\" nonce=\"{nonce}\">{}</script>", SCRIPT.concat());
    let text = PAGE.replacen("<!--style-->", &style, 1).replacen("<!--script-->", &script, 1);
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
