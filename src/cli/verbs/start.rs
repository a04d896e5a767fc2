//! Implements `rinit start`.

use super::{Call, Failure, MAX_IDS, Outcome, Verb};
use std::path::Path;

pub(super) static VERB: Verb = Verb {
    names: &["start"],
    arguments: "[ID|all]...",
    takes: 0..=MAX_IDS,
    summary: "start workers that are stopped or have failed",
    help: "Starts workers that are stopped or have failed: all of them, or those that are named. Returns when\n\
           they are ready. ID is as `rinit list` shows it: web-0, or 0 while there is one app.",
    options: &[],
    run,
};

fn run(call: &Call) -> Outcome {
    let started = if call.values.is_empty() { call.act_on(&["all".to_owned()], "start") } else { call.act("start") };
    started.map_err(|failure| match (failure, call.values.iter().find_map(|value| command_for(value))) {
        (Failure::NoAnswer(why), Some(command)) => Failure::NoAnswer(format!("{why}\nTo run an app: {command}")),
        (failure, _) => failure,
    })
}

/// The command that runs a file, as `pm2-runtime start FILE` does.
pub(super) fn command_for(file: &str) -> Option<String> {
    let extension = Path::new(file).extension()?.to_str()?;
    Some(match extension {
        "json" | "toml" => format!("rinit --config {file}"),
        "js" | "cjs" | "mjs" if file.contains(".config.") => "rinit --config ecosystem.json".into(),
        "js" | "cjs" | "mjs" | "ts" => format!("rinit -i N -- node {file}"),
        "py" => format!("rinit -i N -- python3 {file}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::command_for;

    #[test]
    fn a_file_that_pm2_would_start_has_a_command_here() {
        let command = |file| command_for(file).unwrap_or_default();
        assert_eq!(command("app.js"), "rinit -i N -- node app.js");
        assert_eq!(command("/app/ecosystem.config.js"), "rinit --config ecosystem.json");
        assert_eq!(command("ecosystem.json"), "rinit --config ecosystem.json");
        assert_eq!([command("web-0"), command("all")], ["", ""]);
    }
}
