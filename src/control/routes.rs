//! What there is to ask, as one table, and which of it a request means.

/// Method and path of every route; `{id}` is a worker, or `all`. `/openapi.json` describes the same.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/v1/status"),
    ("GET", "/v1/workers"),
    ("GET", "/v1/workers/{id}"),
    ("GET", "/v1/config"),
    ("GET", "/v1/events"),
    ("GET", "/v1/logs"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
    ("POST", "/v1/reload"),
    ("POST", "/v1/scale"),
    ("POST", "/v1/workers/{id}/restart"),
    ("POST", "/v1/workers/{id}/stop"),
    ("POST", "/v1/workers/{id}/start"),
    ("POST", "/v1/workers/{id}/signal"),
    ("POST", "/v1/shutdown"),
    ("DELETE", "/v1/workers/{id}"),
];

/// What a request's path and method come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The route's path in the table, and the worker.
    Route(&'static str, String),
    /// The path is there, with these methods.
    WrongMethod(Vec<&'static str>),
    /// There is no such path.
    Nothing,
}

pub(super) fn find(method: &str, path: &str) -> Found {
    // HEAD is GET without the body, which the server leaves out (RFC 9110, 9.3.2).
    let method = if method == "HEAD" { "GET" } else { method };
    let matching = || ROUTES.iter().filter_map(|(method, pattern)| Some((*method, *pattern, fits(pattern, path)?)));
    if let Some((_, pattern, id)) = matching().find(|(one, _, _)| *one == method) {
        return Found::Route(pattern, id);
    }
    let methods: Vec<&str> = matching().map(|(method, _, _)| method).collect();
    if methods.is_empty() { Found::Nothing } else { Found::WrongMethod(methods) }
}

/// The worker in the path, or nothing if the pattern names none.
fn fits(pattern: &str, path: &str) -> Option<String> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then(String::new);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then(|| decoded(id))
}

/// Percent-decoding (RFC 3986, 2.1); what is not UTF-8 is no worker's name.
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

/// As one part of a path or query.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

/// The values of a query, by name; the last of several counts.
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
        assert_eq!(find("GET", "/v1/workers/web-0"), Found::Route("/v1/workers/{id}", "web-0".into()));
        assert_eq!(find("POST", "/v1/workers/a%2db/stop"), Found::Route("/v1/workers/{id}/stop", "a-b".into()));
        assert_eq!(find("HEAD", "/healthz"), Found::Route("/healthz", String::new()));
        assert_eq!(find("PUT", "/v1/workers/0"), Found::WrongMethod(vec!["GET", "DELETE"]));
        for path in ["/v1/workers/", "/v1/workers/a/b", "/v1", "", "/v1/workers//stop", "/status/"] {
            assert_eq!(find("GET", path), Found::Nothing, "{path}");
        }
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
