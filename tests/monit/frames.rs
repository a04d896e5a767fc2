//! Tests the drawn frames.

use crate::fixtures::{
    Monit, after_a_while, event, failed_reload, four, line, reloading, several_apps, status, worker,
};
use ratatui::crossterm::event::KeyCode as Key;
use ratatui::style::{Color, Modifier};
use rinit::control::types::LogLine;
use rinit::monit::model::{Line, Message};

#[track_caller]
fn shows(monit: &Monit, words: &[&str]) {
    let screen = monit.screen();
    words.iter().for_each(|words| assert!(screen.contains(words), "{words:?} is not on\n{screen}"));
}

#[track_caller]
fn row(monit: &Monit, number: usize) -> String {
    monit.screen().lines().nth(number).unwrap_or_default().to_owned()
}

#[test]
fn at_80_by_24_every_pane_is_shown() {
    let monit = after_a_while();
    let screen = monit.screen();
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 24);
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
    assert!(
        lines[0].starts_with(" rinit 0.1.0  running 3h12m  web 3/4 degraded  gen 2  CPU 47.6%  memory 186.9M"),
        "{screen}"
    );
    assert!(lines[1].starts_with("  worker state             pid gen      up restarts    CPU "), "{screen}");
    assert!(lines[2].starts_with("▸ web-0  ready              12   2   3h12m        0 "), "{screen}");
    assert!(lines[4].starts_with("  web-2  retry 3.4s          –   2       –        1      – "), "{screen}");
    assert!(lines[2].contains("M ") && lines[2].contains('▅'), "{screen}");
    assert!(lines[6].starts_with(" log of web-0 ─────"), "{screen}");
    assert!(lines[17].contains("12:10:59 GET /api/items/42 200 91ms"), "{screen}");
    assert!(lines[18].starts_with(" events ─────"), "{screen}");
    assert!(lines[22].contains("12:11:45 web-3 (pid 15) is ready"), "{screen}");
    assert_eq!(lines[23], " q quit ? help r restart s stop R reload a all +- scale / filter l log e events");
}

#[test]
fn at_120_by_40_the_selected_worker_has_large_graphs() {
    let monit = after_a_while().sized(120, 40);
    shows(
        &monit,
        &[
            " CPU ",
            "%, peak ",
            " in 39m ─",
            " memory ",
            " web-0 ─",
            "ready by listen, pid 12",
            "up 3h12m, generation 2",
        ],
    );
    shows(&monit, &["q quit", "listens: port 8080"]);
    assert!(monit.screen().matches('█').count() > 50, "{}", monit.screen());
    let mut monit = monit;
    monit.type_keys("jj");
    shows(&monit, &["backoff, no process", "last: exit code 3", "at 11:58:00 after 1m01s"]);
}

#[test]
fn a_small_screen_shows_less_and_the_workers_last() {
    let mut monit = after_a_while().sized(60, 20);
    shows(&monit, &["web-0", "memory", "log of web-0", "events"]);
    assert!(!row(&monit, 1).contains("gen"));
    monit = monit.sized(40, 12);
    shows(&monit, &["web-0", "ready", "log of web-0"]);
    monit = monit.sized(24, 7);
    shows(&monit, &["web-0", "ready", "web-3"]);
    (1..30).for_each(|columns| {
        (1..12).for_each(|rows| {
            let mut small = after_a_while().sized(columns, rows);
            small.terminal();
            small.type_keys("?");
            small.terminal();
        });
    });
}

#[test]
fn a_reload_shows_both_workers_of_a_slot() {
    let monit = Monit::new(reloading());
    shows(&monit, &["2/2 ready", "reload 0/2, 900ms", "web-0 new", "starting"]);
    shows(&Monit::new(failed_reload(four())), &["last reload failed"]);
}

#[test]
fn conditions_of_apps_and_crash_looping_workers_are_named() {
    let monit = Monit::new(several_apps()).sized(120, 40);
    shows(&monit, &[" web 2/2 ready ", " queue 1/2 crash-looping", "queue-1 crash-looping"]);
}

#[test]
fn the_logs_of_several_workers_have_their_names() {
    let mut monit = Monit::new(several_apps());
    monit.type_keys("aa");
    let of = |worker: &str, seq| match line(seq, "stdout", "hello") {
        Line::Log(line) => Line::Log(LogLine { worker: worker.into(), ..line }),
        missed => missed,
    };
    monit.log([of("web-0", 1), of("queue-1", 1), Line::Missed(2)]);
    shows(&monit, &[" log of all workers ", "12:00:01 web-0   hello", "12:00:01 queue-1 hello", "2 lines were missed"]);
    shows(&monit, &["▸ web-0", "• queue-1"]);
}

#[test]
fn graphs_are_of_the_last_hour_or_of_the_last_seconds() {
    let mut monit = after_a_while().sized(120, 40);
    shows(&monit, &["1m a bar", " in 39m "]);
    monit.type_keys("t");
    shows(&monit, &["1s a bar", " in 39s "]);
    let mut without_history = Monit::new(four()).sized(120, 40);
    shows(&without_history, &["1s a bar"]);
    without_history.type_keys("t");
    shows(&without_history, &["1s a bar"]);
}

/// The sixteen colours are the terminal's own; white, black and grey are not legible on every background.
#[test]
fn every_colour_is_legible_on_dark_and_light_terminals_at_every_size() {
    for (columns, rows) in [(80, 24), (120, 40), (200, 60)] {
        for keys in ["", "a", "?", "s", "l/GET"] {
            let mut monit = after_a_while().sized(columns, rows);
            monit.type_keys(keys);
            let buffer = monit.terminal().backend().buffer().clone();
            for cell in &buffer.content {
                let allowed =
                    [Color::Reset, Color::Red, Color::Green, Color::Yellow, Color::Blue, Color::Magenta, Color::Cyan];
                assert!(allowed.contains(&cell.fg) && cell.bg == Color::Reset, "{cell:?} at {columns}x{rows} {keys}");
            }
        }
    }
}

#[test]
fn many_workers_scroll_with_the_selection() {
    let mut monit = Monit::new(status((0..64).map(|slot| worker(slot, "ready")).collect()));
    shows(&monit, &["64 ↑↓", "▸ web-0"]);
    monit.press(Key::End);
    shows(&monit, &["▸ web-63", "web-62"]);
    monit.press(Key::PageUp);
    shows(&monit, &["▸ web-"]);
}

#[test]
fn colours_mark_states_streams_and_levels() {
    let mut monit = Monit::new(four());
    monit.type_keys("j");
    monit.log([line(1, "stderr", "on stderr"), line(2, "stdout", "on stdout"), Line::Missed(7)]);
    monit.tell(Message::Event(event(3, "error", "web: reload to generation 2 stopped")));
    let buffer = monit.terminal().backend().buffer().clone();
    let screen = monit.screen();
    let style_of = |words: &str| {
        let (row, line) = screen.lines().enumerate().find(|(_, line)| line.contains(words)).expect(words);
        let column = line.find(words).map(|at| line[..at].chars().count()).unwrap();
        let cell = &buffer[(column as u16, row as u16)];
        (cell.fg, cell.modifier)
    };
    assert_eq!(style_of("on stderr").0, Color::Yellow);
    assert_eq!(style_of("on stdout").0, Color::Reset);
    assert_eq!(style_of("7 lines were missed").0, Color::Yellow);
    assert_eq!(style_of("web: reload to generation 2 stopped").0, Color::Red);
    assert_eq!(style_of("retry 3.4s").0, Color::Yellow);
    assert_eq!(style_of("ready    ").0, Color::Green);
    assert!(style_of("web-1").1.contains(Modifier::REVERSED));
    assert!(!style_of("web-3").1.contains(Modifier::REVERSED));
}

#[test]
fn matches_of_the_filter_are_reversed() {
    let mut monit = Monit::new(four());
    monit.log([line(1, "stdout", "an ERROR, one error")]);
    monit.type_keys("/error");
    let buffer = monit.terminal().backend().buffer().clone();
    let screen = monit.screen();
    let row = screen.lines().position(|line| line.contains("an ERROR")).unwrap() as u16;
    let reversed = (0..80).filter(|column| buffer[(*column, row)].modifier.contains(Modifier::REVERSED));
    assert_eq!(reversed.collect::<Vec<_>>(), [12, 13, 14, 15, 16, 23, 24, 25, 26, 27]);
}

#[test]
fn help_lists_every_key() {
    let mut monit = Monit::new(four());
    monit.type_keys("?");
    shows(
        &monit,
        &["select a worker", "restart it", "stop it (it stays down)", "reload its app:", "one worker more", "quit"],
    );
    shows(&monit, &["any key closes this"]);
}

#[test]
fn the_stop_dialog_names_the_worker() {
    let mut monit = Monit::new(four());
    monit.type_keys("js");
    shows(&monit, &["Stop web-1? It stays down until it is started again.", "y: stop it", "n, Esc: do not"]);
}
