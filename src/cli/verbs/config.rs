//! Implements `rinit config`.

use super::client::read_json;
use super::output::{DIM, PLAIN};
use super::table::{Cell, Column, render};
use super::{Call, Failure, Opt, Outcome, Verb};
use crate::config::{Faults, for_supervisor, from_environment, read_file};
use crate::control::types::{Config, SettingValue};
use std::path::Path;

pub(super) static VERB: Verb = Verb {
    names: &["config"],
    arguments: "",
    takes: 0..=0,
    summary: "show every setting in force and its source; check a file",
    help: "Shows every setting of the rinit that runs the container: its value, and whether that is the default\n\
           or comes from a flag, a variable or a file. With --json the same as JSON.\n\
           --check reads a file as --config does, with the variables of this environment, and starts nothing:\n\
           it shows every fault with its line and column, and exits with 64; or the apps, and exits with 0.",
    options: &[Opt {
        letter: None,
        names: &["check"],
        value: "FILE",
        help: "check a file of settings, and run nothing",
    }],
    run,
};

const COLUMNS: [Column; 4] = [
    Column { head: "APP", is_right: false, rank: 2, is_cut: false },
    Column { head: "SETTING", is_right: false, rank: 0, is_cut: false },
    Column { head: "SOURCE", is_right: false, rank: 1, is_cut: false },
    Column { head: "VALUE", is_right: false, rank: 0, is_cut: true },
];

fn run(call: &Call) -> Outcome {
    if let Some(file) = call.option("check") {
        return check(call, Path::new(file));
    }
    let text = call.client.get_text("/v1/config")?;
    if call.out.json {
        return call.out.print_json(&text);
    }
    let config: Config = read_json(&text)?;
    let mut apps = config.settings.iter().filter_map(|setting| setting.app.as_deref());
    let first = apps.next();
    // One app needs no column.
    let columns = if apps.any(|app| Some(app) != first) { &COLUMNS[..] } else { COLUMNS.get(1..).unwrap_or_default() };
    let row = |setting: &SettingValue| -> Vec<Cell> {
        let colour = if setting.source == "default" { DIM } else { PLAIN };
        let value = setting.note.as_ref().map(|note| format!("{} ({note})", setting.value));
        let value = value.as_ref().unwrap_or(&setting.value);
        let source = match (setting.source.as_str(), &setting.place) {
            ("file", Some(place)) => place,
            _ => &setting.source,
        };
        let app = setting.app.as_deref().unwrap_or("-");
        let cells = [app, &setting.name, source, value].map(|text| Cell::coloured(text, colour));
        cells.into_iter().skip(COLUMNS.len() - columns.len()).collect()
    };
    let rows: Vec<Vec<Cell>> = config.settings.iter().map(row).collect();
    call.out.print(&render(columns, &rows, call.out.width, call.out.colour))
}

/// Reads and resolves a file as a start would.
fn check(call: &Call, path: &Path) -> Outcome {
    let mut faults = Faults::default();
    let environment: Vec<_> = std::env::vars_os().collect();
    let (variables, _) = from_environment(&environment, &mut faults);
    let file = read_file(path, &variables, &mut faults);
    if file.apps.is_empty() && faults.0.is_empty() {
        faults.note(path.display().to_string(), "there is no app in it: write [[app]] with its command");
    }
    let config = for_supervisor(&variables, &file, &[], Path::new("/"), &mut faults);
    if !faults.0.is_empty() {
        return Err(Failure::Refused(faults.refusal_of(&format!("{} cannot be used", path.display()))));
    }
    let apps: Vec<String> = config.app_summaries().map(|(name, workers)| format!("{name} ({workers})")).collect();
    let warnings: String = config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
    call.out.print(&format!("{warnings}{} can be used: {}\n", path.display(), apps.join(", ")))
}
