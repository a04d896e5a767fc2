//! Runs Schemathesis, a fuzzer that reads `openapi.json`, against every route: no answer is a server's error, and each is as it
//! is described. `pip install schemathesis`; without it these tests are skipped, and say so.

use crate::harness::free_port;
use crate::started::{Started, start};
use std::process::Command;

const TOKEN: &str = "a-token-of-some-length";
/// The properties of every answer that are checked.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance";
/// Requests that end the container or do not end by themselves, and those that are answered by a worker: this one listens
/// nowhere, which is a bad gateway. Without a token they are refused, and tested.
const NOT_WITH_A_TOKEN: [&str; 4] = ["/v1/events", "/v1/logs", "/v1/shutdown", "/v1/workers/{id}/http/{path}"];
/// 503 is what that route is for: fewer workers are ready than were asked for.
const SETTINGS: &str = r#"
[[operations]]
include-path = "/readyz"
[operations.checks]
not_a_server_error.expected-statuses = [200, 400, 401, 405, 503]
"#;

fn fuzz(token: Option<&str>) {
    if Command::new("schemathesis").arg("--version").output().is_err() {
        crate::harness::lacking("schemathesis is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::write(folder.path().join("schemathesis.toml"), SETTINGS).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let options = ["--web", &address, "--web-token-file", file.to_str().unwrap(), "--max-restarts", "0"];
    let quick = ["--backoff", "1ms..5ms", "--stop-timeout", "200ms"];
    let rinit: Started = start(&[options.as_slice(), &quick].concat(), "up wait");
    let mut command = Command::new("schemathesis");
    command
        .args(["run", &format!("http://{address}/openapi.json"), "--checks", CHECKS, "--max-examples"])
        .arg(std::env::var("RINIT_FUZZ_EXAMPLES").unwrap_or_else(|_| "10".into()))
        .args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--warnings", "off"])
        .args(["--no-color", "--request-timeout", "30"])
        .current_dir(folder.path());
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
        command.args(NOT_WITH_A_TOKEN.iter().flat_map(|path| ["--exclude-path", path]));
    }
    let ran = command.output().unwrap();
    let report = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{report}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!rinit.rig.output().has("please report"), "{:#?}", rinit.rig.output().stderr);
    assert_eq!(rinit.status()["state"], "running");
}

#[test]
fn without_a_token_every_route_answers_as_it_is_described() {
    fuzz(None);
}

#[test]
fn with_a_token_for_changes_every_route_answers_as_it_is_described() {
    fuzz(Some(TOKEN));
}
