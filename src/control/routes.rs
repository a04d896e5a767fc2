//! Lists the routes in one table, and finds the one that a request means.

use super::access::Permission;
use super::api::{self, Api, Request};
use super::limits::Class;
use super::response::{Answer, Failure};
use super::{dashboard, health, history, metrics, operations, worker_http};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;

/// One route. Host check, token and limits follow from its class and permission.
pub struct Route {
    /// `GET`, `POST` or `DELETE`. GET takes HEAD too.
    pub method: &'static str,
    /// The path; `{id}` is a worker, an app or `all`, and `{path}` is all that follows.
    pub path: &'static str,
    /// The limits.
    pub class: Class,
    /// The permission that a client of the web needs.
    pub permission: Permission,
    pub(super) handler: Handler,
}

/// Answers a request.
pub(super) type Handler = fn(Rc<Api>, Request) -> Pin<Box<dyn Future<Output = Result<Answer, Failure>>>>;

macro_rules! route {
    ($method:literal $path:literal $class:ident $permission:ident $handler:path) => {
        Route {
            method: $method,
            path: $path,
            class: Class::$class,
            permission: Permission::$permission,
            handler: |api, request| Box::pin($handler(api, request)),
        }
    };
}

/// Every route. `openapi.json` describes the same.
#[rustfmt::skip]
pub const ROUTES: &[Route] = &[
    route!("GET"    "/healthz"                 Probe  Public health::alive),
    route!("GET"    "/readyz"                  Probe  Public health::ready),
    route!("GET"    "/metrics"                 Probe  Public metrics::metrics),
    route!("GET"    "/"                        Read   Public dashboard::page),
    route!("GET"    "/openapi.json"            Read   Public api::openapi),
    route!("GET"    "/v1/status"               Read   Public api::status),
    route!("GET"    "/v1/access"               Read   Public api::access),
    route!("GET"    "/v1/history"              Read   Public history::history),
    route!("GET"    "/v1/workers"              Read   Public api::workers),
    route!("GET"    "/v1/workers/{id}"         Read   Read   api::describe),
    route!("GET"    "/v1/workers/{id}/http/{path}" Read Change worker_http::get),
    route!("GET"    "/v1/config"               Read   Read   api::config),
    route!("GET"    "/v1/logs"                 Read   Read   api::logs),
    route!("GET"    "/v1/events"               Stream Read   api::events),
    route!("POST"   "/v1/reload"               Change Change operations::reload_all),
    route!("POST"   "/v1/scale"                Change Change operations::scale),
    route!("POST"   "/v1/shutdown"             Change Change operations::shutdown),
    route!("POST"   "/v1/workers/{id}/reload"  Change Change operations::reload),
    route!("POST"   "/v1/workers/{id}/restart" Change Change operations::restart),
    route!("POST"   "/v1/workers/{id}/stop"    Change Change operations::stop),
    route!("POST"   "/v1/workers/{id}/start"   Change Change operations::start),
    route!("POST"   "/v1/workers/{id}/signal"  Change Change operations::signal),
    route!("DELETE" "/v1/workers/{id}"         Change Change operations::delete),
];

impl Route {
    /// The class of a request: a read that is asked to follow is a stream.
    pub(super) fn class_of(&self, text: Option<&str>) -> Class {
        let follows = || query(text, "follow").is_some_and(|follow| !matches!(follow.as_str(), "false" | "0"));
        if self.class == Class::Read && follows() { Class::Stream } else { self.class }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{} {}", self.method, self.path)
    }
}

/// The route that a request means.
#[derive(Debug)]
pub(super) enum Found {
    /// The route, and what `{id}` and `{path}` stand for, or nothing.
    Route(&'static Route, String, String),
    /// The path takes these methods.
    WrongMethod(Vec<&'static str>),
    /// There is no such path.
    Nothing,
}

pub(super) fn find(method: &str, path: &str) -> Found {
    // HEAD is GET without the body, which the server leaves out (RFC 9110, 9.3.2).
    let method = if method == "HEAD" { "GET" } else { method };
    let matching = || ROUTES.iter().filter_map(|route| Some((route, match_path(route.path, path)?)));
    if let Some((route, (id, rest))) = matching().find(|(route, _)| route.method == method) {
        return Found::Route(route, id, rest.to_owned());
    }
    let methods: Vec<&str> = matching().map(|(route, _)| route.method).collect();
    if methods.is_empty() { Found::Nothing } else { Found::WrongMethod(methods) }
}

/// Returns `{id}` decoded and `{path}` as it is, or nothing where the pattern has none.
fn match_path<'a>(pattern: &str, path: &'a str) -> Option<(String, &'a str)> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then(|| (String::new(), ""));
    };
    let rest = path.strip_prefix(before)?;
    let (id, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let rest = match after.strip_suffix("{path}") {
        Some(after) => rest.strip_prefix(after)?,
        None => rest.strip_prefix(after).filter(|rest| rest.is_empty())?,
    };
    (!id.is_empty()).then(|| (decoded(id), rest))
}

/// Decodes percent-encoding (RFC 3986, 2.1). Bytes that are not UTF-8 are replaced: no worker has such a name.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let pair = others.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Encodes a part of a path or query.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

/// Returns a parameter of a query; of several with that name, the last.
pub(super) fn query<'a>(text: Option<&'a str>, name: &str) -> Option<String> {
    let pairs = text.unwrap_or_default().split('&');
    let value = |pair: &'a str| match pair.split_once('=') {
        Some((key, value)) => (key == name).then_some(value),
        None => (pair == name).then_some(""),
    };
    pairs.filter_map(value).next_back().map(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_means_one_route() {
        let found = |method, path| match find(method, path) {
            Found::Route(route, id, rest) => format!("{} {id}{rest}", route.path),
            Found::WrongMethod(methods) => format!("wrong method: {}", methods.join(" ")),
            Found::Nothing => "nothing".into(),
        };
        assert_eq!(found("GET", "/v1/workers/web-0"), "/v1/workers/{id} web-0");
        assert_eq!(found("POST", "/v1/workers/a%2db/stop"), "/v1/workers/{id}/stop a-b");
        assert_eq!(found("GET", "/v1/workers/0/http/a/b%2F"), "/v1/workers/{id}/http/{path} 0a/b%2F");
        assert_eq!(found("GET", "/v1/workers/0/http"), "nothing");
        assert_eq!(found("HEAD", "/healthz"), "/healthz ");
        assert_eq!(found("PUT", "/v1/workers/0"), "wrong method: GET DELETE");
        for path in ["/v1/workers/", "/v1/workers/a/b", "/v1", "", "/v1/workers//stop", "/status/"] {
            assert_eq!(found("GET", path), "nothing", "{path}");
        }
    }

    #[test]
    fn a_read_that_follows_is_a_stream() {
        let class = |path, query| match find("GET", path) {
            Found::Route(route, _, _) => route.class_of(query),
            other => panic!("{other:?}"),
        };
        assert_eq!(class("/v1/logs", Some("lines=5")), Class::Read);
        assert_eq!(class("/v1/logs", Some("follow=false")), Class::Read);
        assert_eq!(class("/v1/logs", Some("lines=5&follow")), Class::Stream);
        assert_eq!(class("/healthz", Some("follow")), Class::Probe);
    }

    #[test]
    fn a_query_is_read() {
        let text = Some("follow=true&lines=5&worker=web%2D0&follow");
        assert_eq!(query(text, "lines").as_deref(), Some("5"));
        assert_eq!(query(text, "worker").as_deref(), Some("web-0"));
        assert_eq!(query(text, "follow").as_deref(), Some(""));
        assert_eq!(query(text, "since"), None);
        assert_eq!(query(Some("%zz=%"), "%zz").as_deref(), Some("%"));
    }
}
