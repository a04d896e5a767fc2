//! Answers the probes of orchestrators: `/healthz` and `/readyz`.

use super::api::{Api, Request};
use super::handle::Call;
use super::response::{Answer, Failure, whole};
use super::types::{AppStatus, Status};
use hyper::StatusCode;
use std::fmt::Write;
use std::rc::Rc;
use std::str::FromStr;

/// `GET /healthz`: rinit lives.
pub(super) async fn alive(_: Rc<Api>, _: Request) -> Result<Answer, Failure> {
    Ok(whole(StatusCode::OK, "text/plain", "ok\n"))
}

/// `GET /readyz`: the container is not stopping, and every app has enough ready workers, but for those that are over.
pub(super) async fn ready(api: Rc<Api>, request: Request) -> Result<Answer, Failure> {
    let minimum = match request.query("min") {
        Some(text) => text.parse().map_err(|()| Failure::parameter("min", &text, Minimum::ALLOWED))?,
        None => Minimum::Count(1),
    };
    let Ok(status) = api.rinit.ask(Call::Status).await else {
        return Ok(whole(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready: rinit is ending\n"));
    };
    let code = if is_ready(&status, minimum) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(whole(code, "text/plain", text(&status, minimum)))
}

/// The least number of ready workers in every app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minimum {
    Count(u32),
    /// A share of the wanted workers, 1 to 100, rounded up.
    Percent(u32),
}

impl Minimum {
    const ALLOWED: &str = "1 and more, or 1% to 100% of the wanted workers";

    fn of(self, app: &AppStatus) -> u32 {
        match self {
            _ if app.is_over => 0,
            // What waits for a task waits until all of it has succeeded.
            _ if app.kind == "task" => app.wanted,
            Minimum::Count(count) => count,
            Minimum::Percent(percent) => {
                u32::try_from((u64::from(app.wanted) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

impl FromStr for Minimum {
    type Err = ();

    fn from_str(text: &str) -> Result<Minimum, ()> {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0).ok_or(());
        match text.strip_suffix('%') {
            Some(percent) => number(percent)
                .and_then(|percent| if percent <= 100 { Ok(percent) } else { Err(()) })
                .map(Minimum::Percent),
            None => number(text).map(Minimum::Count),
        }
    }
}

fn is_ready(status: &Status, minimum: Minimum) -> bool {
    status.state == "running" && status.apps.iter().all(|app| app.ready >= minimum.of(app))
}

/// `ready` or `not ready`, and a line for each app.
fn text(status: &Status, minimum: Minimum) -> String {
    let mut text = String::from(if is_ready(status, minimum) { "ready\n" } else { "not ready\n" });
    if status.state != "running" {
        text.push_str("the container is stopping\n");
    }
    for app in &status.apps {
        if app.is_over {
            let _ = writeln!(text, "{}: has ended, and is not needed", app.name);
            continue;
        }
        let least = minimum.of(app);
        let missing = if app.missing > 0 { format!(", {} missing", app.missing) } else { String::new() };
        let needed = if app.ready < least { format!(", {least} needed") } else { String::new() };
        let _ = writeln!(text, "{}: {} of {} workers ready{missing}{needed}", app.name, app.ready, app.wanted);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, apps: &[(u32, u32)]) -> Status {
        let app = |(id, (ready, wanted)): (usize, &(u32, u32))| AppStatus {
            id: id as u32,
            name: format!("app{id}"),
            kind: "service".into(),
            instances: 4,
            wanted: *wanted,
            ready: *ready,
            missing: wanted - ready,
            command: Vec::new(),
            condition: "ready".into(),
            is_over: false,
            generation: 1,
            reload: None,
            last_reload: None,
            listens: Vec::new(),
        };
        Status {
            version: String::new(),
            pid: 1,
            state: state.into(),
            started: String::new(),
            uptime_ms: 0,
            apps: apps.iter().enumerate().map(app).collect(),
            workers: Vec::new(),
        }
    }

    #[test]
    fn every_app_needs_a_ready_worker_or_the_minimum_that_was_asked_for() {
        let ready = |apps, minimum: &str| is_ready(&status("running", apps), minimum.parse().unwrap());
        assert!(ready(&[(1, 4)], "1"), "one of four is missing three, and serves");
        assert!(!ready(&[(0, 4)], "1"));
        assert!(!ready(&[(0, 0)], "1"), "all of them were stopped by hand: nothing serves");
        assert!(!ready(&[(4, 4), (0, 1)], "1"));
        assert!(ready(&[(2, 4)], "2") && !ready(&[(2, 4)], "3"));
        assert!(ready(&[(2, 4)], "50%") && !ready(&[(2, 4)], "51%"));
        assert!(!ready(&[(0, 4)], "1%"));
        assert!(!is_ready(&status("stopping", &[(4, 4)]), Minimum::Count(1)));
    }

    #[test]
    fn an_app_that_has_ended_and_is_not_needed_is_not_counted() {
        let mut status = status("running", &[(0, 0), (1, 1)]);
        status.apps[0].is_over = true;
        let all = Minimum::Percent(100);
        assert!(is_ready(&status, all));
        assert_eq!(text(&status, all), "ready\napp0: has ended, and is not needed\napp1: 1 of 1 workers ready\n");
        status.apps[1].ready = 0;
        assert!(!is_ready(&status, all));
    }

    #[test]
    fn the_body_says_how_many_are_missing() {
        let text = |apps, minimum: &str| text(&status("running", apps), minimum.parse().unwrap());
        assert_eq!(text(&[(4, 4)], "1"), "ready\napp0: 4 of 4 workers ready\n");
        assert_eq!(text(&[(3, 4)], "1"), "ready\napp0: 3 of 4 workers ready, 1 missing\n");
        assert_eq!(text(&[(3, 4)], "100%"), "not ready\napp0: 3 of 4 workers ready, 1 missing, 4 needed\n");
    }

    #[test]
    fn a_minimum_is_a_count_or_a_percentage() {
        for (text, expected) in [("1", Minimum::Count(1)), ("100%", Minimum::Percent(100))] {
            assert_eq!(text.parse(), Ok(expected));
        }
        for text in ["", "0", "0%", "101%", "-1", "1.5", "x", "%", "99999999999"] {
            assert_eq!(text.parse::<Minimum>(), Err(()), "{text}");
        }
    }
}
