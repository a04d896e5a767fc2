//! Draws a frame as SVG, for the picture in docs, and checks that the picture is up to date.

use crate::fixtures::after_a_while;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use rinit::control::types::LogLine;
use rinit::monit::model::Line;
use std::fmt::Write;
use std::{env, fs, path::Path};

const CELL: (usize, usize) = (9, 18);
const BACKGROUND: &str = "#16181d";
const TEXT: &str = "#d5d8de";

fn colour(color: Color) -> &'static str {
    match color {
        Color::Red => "#f06c75",
        Color::Green => "#8fcf72",
        Color::Yellow => "#e3c078",
        Color::Magenta => "#c586e0",
        Color::Cyan => "#62c4d0",
        _ => TEXT,
    }
}

/// Runs of cells that look the same, each a text of its own; bars as rectangles, so that no font can leave gaps.
fn svg(buffer: &Buffer) -> String {
    let (columns, rows) = (usize::from(buffer.area.width), usize::from(buffer.area.height));
    let (width, height) = (columns * CELL.0 + 24, rows * CELL.1 + 24);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"rinit monit\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g transform=\"translate(12 12)\" font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"15\" shape-rendering=\"crispEdges\">\n"
    );
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let at = |column: usize| &buffer[(column as u16, row as u16)];
            let first = at(column);
            let same = |other: usize| (at(other).fg, at(other).modifier) == (first.fg, first.modifier);
            let end = (column..columns).find(|other| !same(*other)).unwrap_or(columns);
            let text: String = (column..end).map(|column| at(column).symbol()).collect();
            draw(&mut svg, (column, row), &text, first.fg, first.modifier);
            column = end;
        }
    }
    svg + "</g>\n</svg>\n"
}

fn draw(svg: &mut String, (column, row): (usize, usize), text: &str, color: Color, modifier: Modifier) {
    let (x, y, width) = (column * CELL.0, row * CELL.1, text.chars().count() * CELL.0);
    let reversed = modifier.contains(Modifier::REVERSED);
    if reversed {
        let fill = colour(color);
        writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{}\" fill=\"{fill}\"/>", CELL.1).unwrap();
    }
    if modifier.contains(Modifier::UNDERLINED) {
        let y = y + CELL.1 - 2;
        writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"1\" fill=\"{TEXT}\"/>").unwrap();
    }
    let fill = if reversed { BACKGROUND } else { colour(color) };
    let bar = |char: char| "▁▂▃▄▅▆▇█".chars().position(|bar| bar == char).map(|eighths| (eighths + 1) * CELL.1 / 8);
    let mut path = String::new();
    for (at, height) in text.chars().enumerate().filter_map(|(at, char)| Some((at, bar(char)?))) {
        write!(path, "M{} {}h{}v-{height}h-{}z", x + at * CELL.0, y + CELL.1, CELL.0, CELL.0).unwrap();
    }
    if !path.is_empty() {
        writeln!(svg, "<path d=\"{path}\" fill=\"{fill}\"/>").unwrap();
    }
    let words: String = text.chars().map(|char| if bar(char).is_some() { ' ' } else { char }).collect();
    if words.trim().is_empty() {
        return;
    }
    let lead = words.chars().take_while(|char| *char == ' ').count();
    let words = words.trim();
    let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace(' ', "\u{a0}");
    let weight = if modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let opacity = if modifier.contains(Modifier::DIM) { " opacity=\"0.6\"" } else { "" };
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" textLength=\"{}\" fill=\"{fill}\"{weight}{opacity}>{escaped}</text>",
        x + lead * CELL.0,
        y + 14,
        words.chars().count() * CELL.0
    )
    .unwrap();
}

/// `RINIT_DRAW=1 cargo test --test monit picture` draws it anew.
#[test]
fn the_picture_in_docs_is_what_monit_shows() {
    let mut monit = after_a_while().sized(100, 30);
    monit.type_keys("ja");
    // The lines of all workers together.
    monit.log((600..660).map(|at| match crate::fixtures::request(at) {
        Line::Log(line) => Line::Log(LogLine { worker: format!("web-{}", at * 7 % 4), ..line }),
        missed => missed,
    }));
    let drawn = svg(monit.terminal().backend().buffer());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monit.svg");
    if env::var_os("RINIT_DRAW").is_some() {
        fs::write(&path, &drawn).unwrap();
    }
    let is_same = fs::read_to_string(&path).is_ok_and(|there| there == drawn);
    assert!(is_same, "docs/monit.svg is not what monit shows: RINIT_DRAW=1 cargo test --test monit picture");
}
