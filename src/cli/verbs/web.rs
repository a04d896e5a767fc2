//! Implements `rinit web`.

use super::{Call, Failure, Outcome, Verb};
use crate::control::types::Config;
use crate::units::harmless;

pub(super) static VERB: Verb = Verb {
    names: &["web"],
    arguments: "",
    takes: 0..=0,
    summary: "print the address of the dashboard",
    help: "Prints the address of the dashboard, metrics and API over TCP, if rinit was started with --web ADDR.\n\
           It is the container's address: from outside the port is the published one (docker run -p).",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let config: Config = call.client.get("/v1/config")?;
    let web = config.settings.into_iter().find(|setting| setting.name == "web").map(|setting| setting.value);
    let Some(web) = web.filter(|web| !matches!(web.as_str(), "" | "off" | "–" | "-")) else {
        return Err(Failure::failed(
            "there is no dashboard: start rinit with --web ADDR (or RINIT_WEB), such as --web 0.0.0.0:9615",
        ));
    };
    let url = url(&web);
    if call.out.json {
        call.out.print_json(&serde_json::json!({ "url": url }).to_string())
    } else {
        call.out.print(&format!("{}\n", harmless(&url)))
    }
}

/// Returns the address as a browser takes it: an address that stands for all of the machine's is `localhost`.
fn url(address: &str) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    let host = if matches!(host, "" | "0.0.0.0" | "[::]" | "*") { "localhost" } else { host };
    format!("http://{host}:{port}/")
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn an_address_is_printed_as_a_url_that_a_browser_opens() {
        assert_eq!(url("127.0.0.1:9615"), "http://127.0.0.1:9615/");
        for all in ["9615", ":9615", "0.0.0.0:9615", "[::]:9615"] {
            assert_eq!(url(all), "http://localhost:9615/");
        }
        assert_eq!(url("[::1]:80"), "http://[::1]:80/");
    }
}
