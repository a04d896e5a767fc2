//! Tests what messages change in the model, and the commands that follow.

use crate::fixtures::{Monit, after_a_while, event, four, line, reloading, several_apps, status, worker};
use ratatui::crossterm::event::KeyCode as Key;
use ratatui::layout::Size;
use rinit::control::types::{Done, Error};
use rinit::monit::model::{Call, Command, Dialog, Focus, Message};

fn call(call: Call) -> Vec<Command> {
    vec![Command::Call(call)]
}

fn failure(error: &str, last_lines: &[&str]) -> Error {
    Error { error: error.into(), worker: None, last_lines: last_lines.iter().map(|line| (*line).into()).collect() }
}

#[test]
fn monit_begins_with_the_first_worker_its_log_and_the_events() {
    let monit = Monit::new(four());
    assert_eq!(monit.commands, [Command::Events(None), Command::Follow(1, "web-0".into())]);
    assert_eq!(monit.model.position(), 0);
}

#[test]
fn arrows_select_and_the_log_follows() {
    let mut monit = Monit::new(four());
    assert_eq!(monit.press(Key::Down), [Command::Follow(2, "web-1".into())]);
    assert_eq!(monit.type_keys("jj"), [Command::Follow(3, "web-2".into()), Command::Follow(4, "web-3".into())]);
    assert_eq!(monit.press(Key::Down), [], "there is no further one");
    assert_eq!(monit.press(Key::Home), [Command::Follow(5, "web-0".into())]);
    assert_eq!(monit.press(Key::Char('k')), []);
}

#[test]
fn late_lines_of_the_log_before_are_ignored() {
    let mut monit = Monit::new(four());
    monit.press(Key::Down);
    monit.tell(Message::Line(1, line(1, "stdout", "late")));
    monit.log([line(1, "stdout", "in time")]);
    assert!(!monit.screen().contains("late"));
    assert!(monit.screen().contains("in time"));
}

#[test]
fn a_log_that_ends_shows_why_and_is_followed_again_without_duplicates() {
    let mut monit = Monit::new(four());
    monit.log([line(1, "stdout", "once")]);
    monit.tell(Message::LinesEnded(1, "too many connections".into()));
    assert!(monit.screen().contains("log of web-0 – too many connections"));
    assert_eq!(monit.tell(Message::Status(four())), [Command::Follow(2, "web-0".into())]);
    assert!(monit.screen().contains("once"), "the lines stay until there are new ones");
    monit.log([line(1, "stdout", "once")]);
    assert_eq!(monit.screen().matches("once").count(), 1);
}

#[test]
fn events_that_end_are_followed_again_after_the_last_one() {
    let mut monit = Monit::new(four());
    monit.tell(Message::Event(event(41, "info", "x")));
    monit.tell(Message::EventsEnded);
    assert_eq!(monit.tell(Message::Status(four())), [Command::Events(Some(42))]);
    assert_eq!(monit.tell(Message::Status(four())), []);
}

#[test]
fn the_selection_stays_with_its_worker() {
    let mut monit = Monit::new(reloading());
    monit.press(Key::Down);
    assert_eq!(monit.model.row().unwrap().role, "replacement");
    let taken_over = status(vec![worker(0, "ready"), worker(1, "ready")]);
    assert_eq!(monit.tell(Message::Status(taken_over)), [], "it is the same log");
    assert_eq!(monit.model.row().unwrap().id, "web-0");
    monit.press(Key::Down);
    let gone = status(vec![worker(0, "ready")]);
    assert_eq!(monit.tell(Message::Status(gone)).len(), 1);
    assert_eq!(monit.model.row().unwrap().id, "web-0");
}

#[test]
fn an_app_without_workers_can_be_scaled() {
    let mut monit = Monit::new(status(vec![]));
    assert_eq!(monit.type_keys("jkrsl/e"), []);
    monit.press(Key::Esc);
    assert_eq!(monit.type_keys("+"), call(Call::Scale("web".into(), "+1")));
    monit.screen();
    assert_eq!(monit.tell(Message::Status(four())), [Command::Follow(1, "web-0".into())]);
}

#[test]
fn keys_make_calls() {
    let mut monit = Monit::new(four());
    assert_eq!(monit.type_keys("r"), call(Call::Restart("web-0".into())));
    assert_eq!(monit.type_keys("Ry"), call(Call::Reload("web".into())));
    assert_eq!(monit.type_keys("+"), call(Call::Scale("web".into(), "+1")));
    assert_eq!(monit.type_keys("-"), call(Call::Scale("web".into(), "-1")));
    assert!(monit.screen().contains("restarting web-0, reloading web, scaling web by +1, scaling web by -1 …"));
    assert_eq!(monit.type_keys("Ry"), [], "no more than four at a time");
    assert_eq!(monit.type_keys("q"), [Command::End(Ok(()))]);
}

#[test]
fn a_worker_is_stopped_only_after_a_yes() {
    let mut monit = Monit::new(four());
    for no in [Key::Char('n'), Key::Esc, Key::Char('q')] {
        monit.type_keys("s");
        assert_eq!(monit.press(no), []);
        assert_eq!(monit.model.dialog, None);
    }
    monit.type_keys("s");
    assert_eq!(monit.type_keys("rsRj+"), [], "other keys say neither yes nor no");
    assert_eq!(monit.press(Key::Enter), []);
    assert_eq!(monit.type_keys("y"), call(Call::Stop("web-0".into())));
    assert_eq!(monit.type_keys("y"), []);
}

#[test]
fn keys_act_on_all_workers_after_a_question_when_the_scope_is_wide() {
    let mut monit = Monit::new(several_apps());
    assert_eq!(monit.type_keys("a"), [Command::Follow(2, "web".into())]);
    assert_eq!(monit.type_keys("r"), []);
    assert!(monit.screen().contains("Restart 2 workers of web?"), "{}", monit.screen());
    assert_eq!(monit.type_keys("y"), call(Call::Restart("web".into())));
    assert_eq!(monit.type_keys("a"), [Command::Follow(3, "all".into())]);
    for (key, question, made) in [
        ("r", "Restart all 4 workers?", Call::Restart("all".into())),
        ("R", "Reload all 4 workers?", Call::Reload("all".into())),
        ("s", "Stop all 4 workers?", Call::Stop("all".into())),
    ] {
        assert_eq!(monit.type_keys(key), []);
        assert!(monit.screen().contains(question), "{}", monit.screen());
        assert_eq!(monit.press(Key::Esc), []);
        assert_eq!(monit.type_keys(key), []);
        assert_eq!(monit.type_keys("y"), call(made.clone()));
        monit.tell(Message::Answer(made, Err(failure("no", &[]))));
    }
    assert_eq!(monit.press(Key::Down), [], "the log is that of all");
    assert_eq!(monit.type_keys("a"), [Command::Follow(4, "web-1".into())]);
    assert_eq!(monit.type_keys("R"), []);
    assert_eq!(monit.type_keys("y"), call(Call::Reload("web".into())), "a reload is the app's");
}

#[test]
fn with_one_app_the_scope_is_a_worker_or_all() {
    let mut monit = Monit::new(four());
    assert_eq!(monit.type_keys("a"), [Command::Follow(2, "all".into())]);
    assert_eq!(monit.type_keys("a"), [Command::Follow(3, "web-0".into())]);
}

#[test]
fn the_stop_dialog_is_about_the_worker_that_was_selected_when_it_opened() {
    let mut monit = Monit::new(four());
    monit.press(Key::End);
    monit.type_keys("s");
    monit.tell(Message::Status(status(vec![worker(0, "ready")])));
    assert_eq!(monit.type_keys("y"), call(Call::Stop("web-3".into())));
}

#[test]
fn a_worker_that_is_down_is_started_without_a_question() {
    for state in ["stopped", "failed"] {
        let mut monit = Monit::new(status(vec![worker(0, state)]));
        assert!(monit.screen().contains(" s start "));
        assert_eq!(monit.type_keys("s"), call(Call::Start("web-0".into())));
    }
}

#[test]
fn an_end_message_such_as_that_of_ctrl_c_ends_monit_in_every_state() {
    for keys in ["s", "?", "/abc", "l", "e"] {
        let mut monit = Monit::new(four());
        monit.type_keys(keys);
        assert_eq!(monit.tell(Message::End(Ok(()))), [Command::End(Ok(()))], "{keys}");
    }
}

#[test]
fn an_answer_is_shown_for_some_updates() {
    let mut monit = Monit::new(four());
    monit.type_keys("r");
    let done = Done { ok: true, message: "web-0 restarted".into(), workers: vec![] };
    monit.tell(Message::Answer(Call::Restart("web-0".into()), Ok(done)));
    assert!(monit.screen().ends_with(" web-0 restarted"));
    (0..7).for_each(|_| drop(monit.tell(Message::Status(four()))));
    assert!(monit.screen().contains("q quit"));
}

#[test]
fn a_refusal_is_shown_as_rinit_words_it() {
    let mut monit = Monit::new(four());
    monit.type_keys("-");
    let call = Call::Scale("web".into(), "-1");
    monit.tell(Message::Answer(call, Err(failure("the last worker stays", &[]))));
    assert!(monit.screen().ends_with(" the last worker stays"));
}

#[test]
fn a_reload_that_failed_shows_the_last_lines_until_a_key() {
    let mut monit = Monit::new(four());
    monit.type_keys("Ry");
    let error = failure("the new web-0 ended with exit code 3", &["Error: no database", "    at app.js:7"]);
    monit.tell(Message::Answer(Call::Reload("web".into()), Err(error)));
    for words in ["the new web-0 ended with exit code 3", "Error: no database", "    at app.js:7"] {
        assert!(monit.screen().contains(words), "{}", monit.screen());
    }
    assert_eq!(monit.type_keys("q"), [], "the key closes it and does nothing else");
    assert_eq!(monit.model.dialog, None);
}

#[test]
fn the_filter_is_typed_kept_and_dropped() {
    let mut monit = Monit::new(four());
    monit.log([line(1, "stdout", "GET /about"), line(2, "stderr", "Error: no DataBase"), line(3, "stdout", "quit")]);
    assert_eq!(monit.type_keys("/dataq"), [], "letters are letters now");
    assert!(monit.screen().contains("no line contains that"));
    monit.press(Key::Backspace);
    assert!(monit.screen().contains("no DataBase"));
    assert!(!monit.screen().contains("/about"));
    monit.press(Key::Enter);
    assert!(monit.screen().contains("/data (1 line)"));
    assert!(monit.type_keys("j").len() == 1, "keys are keys again");
    monit.press(Key::Esc);
    assert_eq!(monit.model.filter.text, "");
}

#[test]
fn a_scrolled_log_stays_while_new_lines_come() {
    let mut monit = after_a_while();
    monit.type_keys("l");
    assert_eq!(monit.model.focus, Focus::Log);
    monit.press(Key::Home);
    let oldest = "GET / 200 62ms";
    assert!(monit.screen().contains(oldest), "{}", monit.screen());
    monit.log((700..900).map(|at| line(at, "stdout", "new")));
    assert!(monit.screen().contains(oldest));
    assert!(monit.screen().contains("newer below"));
    monit.press(Key::End);
    assert!(monit.screen().contains("new"));
    assert!(!monit.screen().contains("newer below"));
    monit.press(Key::Esc);
    assert_eq!(monit.model.focus, Focus::Workers);
}

#[test]
fn long_lines_are_shown_to_their_end() {
    let mut monit = Monit::new(four());
    monit.log([line(1, "stdout", &format!("{}END", "x".repeat(100)))]);
    assert!(!monit.screen().contains("END"));
    (0..4).for_each(|_| drop(monit.press(Key::Right)));
    assert!(monit.screen().contains("xEND"));
    (0..9).for_each(|_| drop(monit.press(Key::Left)));
    assert!(monit.screen().contains("12:00:01 xxx"));
}

#[test]
fn a_flood_of_lines_is_cut_to_the_last_ones() {
    let mut monit = Monit::new(four());
    monit.log((0..5_000).map(|at| line(at, "stdout", "x")));
    monit.type_keys("l");
    monit.press(Key::Home);
    assert!(monit.screen().contains("4") && monit.model.log.shown(10_000, |_| true).of == 500);
}

#[test]
fn the_end_of_a_stopping_container_is_named() {
    let mut stopping = four();
    stopping.state = "stopping".into();
    let mut monit = Monit::new(stopping);
    let lost = || Message::End(Err("no rinit answers".into()));
    assert_eq!(monit.tell(lost()), [Command::End(Err("no rinit answers (the container was stopping)".into()))]);
    let mut monit = Monit::new(four());
    assert_eq!(monit.tell(lost()), [Command::End(Err("no rinit answers".into()))]);
}

#[test]
fn no_key_in_any_state_at_any_size_panics() {
    let keys: Vec<Key> = "abcdefghijklmnop/qrstuvwxyzRSG+-=?éy".chars().map(Key::Char).collect();
    let others = [Key::Up, Key::Down, Key::Left, Key::Right, Key::PageUp, Key::PageDown, Key::Home, Key::End];
    let last = [Key::Enter, Key::Tab, Key::Backspace, Key::Esc];
    let keys: Vec<Key> = keys.into_iter().chain(others).chain(last).collect();
    let states = [four(), reloading(), status(vec![]), status((0..64).map(|slot| worker(slot, "ready")).collect())];
    let mut monit = after_a_while();
    // Pseudo-random numbers (Knuth's MMIX).
    let mut random = 7u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize % below
    };
    for round in 0..6_000 {
        match next(8) {
            0 => drop(monit.tell(Message::Status(states[next(states.len())].clone()))),
            1 => drop(monit.tell(Message::Resized(Size::new(next(140) as u16, next(50) as u16)))),
            2 => monit.log([line(round, "stderr", "wide 界界 \t tabs \x1b[31m and é")]),
            3 => drop(monit.tell(Message::Answer(Call::Reload("web".into()), Err(failure("no", &["a", "b"]))))),
            _ => drop(monit.press(keys[next(keys.len())])),
        }
        if monit.model.size.area() > 0 {
            monit.terminal();
        }
        assert!(monit.model.pending.len() <= 4);
        assert!(!matches!(&monit.model.dialog, Some(Dialog::Confirm { call: Call::Stop(id), .. }) if id.is_empty()));
    }
}
