//! Implements `rinit config`.

use super::client::read_json;
use super::output::{DIM, PLAIN};
use super::table::{Cell, Column, render};
use super::{Call, Outcome, Verb};
use crate::control::types::Config;

pub(super) static VERB: Verb = Verb {
    names: &["config"],
    arguments: "",
    takes: 0..=0,
    summary: "show every setting in force, and its source",
    help: "Shows every setting of the rinit that runs the container: its value, and whether that is the default\n\
           or comes from a flag, a variable or a file. With --json the same as JSON.",
    options: &[],
    run,
};

const COLUMNS: [Column; 3] = [
    Column { head: "SETTING", is_right: false, rank: 0, is_cut: false },
    Column { head: "SOURCE", is_right: false, rank: 1, is_cut: false },
    Column { head: "VALUE", is_right: false, rank: 0, is_cut: true },
];

fn run(call: &Call) -> Outcome {
    let text = call.client.get_text("/v1/config")?;
    if call.out.json {
        return call.out.print_json(&text);
    }
    let config: Config = read_json(&text)?;
    let row = |setting: &crate::control::types::SettingValue| -> Vec<Cell> {
        let colour = if setting.source == "default" { DIM } else { PLAIN };
        let value = setting.note.as_ref().map(|note| format!("{} ({note})", setting.value));
        let value = value.as_ref().unwrap_or(&setting.value);
        [&setting.name, &setting.source, value].map(|text| Cell::coloured(text, colour)).into()
    };
    let rows: Vec<Vec<Cell>> = config.settings.iter().map(row).collect();
    call.out.print(&render(&COLUMNS, &rows, call.out.width, call.out.colour))
}
