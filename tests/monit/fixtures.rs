//! Provides answers of rinit's, and a model without a terminal.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::Size;
use rinit::control::types::{
    AppStatus, Event, ExitRecord, History, LogLine, Reloaded, Reloading, Status, UsageSeries, WorkerStatus,
};
use rinit::monit::model::{Command, Line, Message, Model};
use rinit::monit::update::update;
use rinit::monit::view::view;

pub fn worker(slot: u32, state: &str) -> WorkerStatus {
    let runs = !["stopped", "failed", "backoff"].contains(&state);
    WorkerStatus {
        id: format!("web-{slot}"),
        app: "web".into(),
        slot,
        role: "worker".into(),
        state: state.into(),
        pid: runs.then_some(12 + slot),
        generation: 2,
        started: None,
        uptime_ms: runs.then_some(11_520_000),
        restarts: u64::from(slot == 2),
        cpu_percent: runs.then_some(3.2 * f64::from(slot + 1)),
        memory_bytes: runs.then_some(47_500_000 + 4_000_000 * u64::from(slot)),
        ready_by: (state == "ready").then(|| "listen".into()),
        status: None,
        listens: vec!["port 8080".into()],
        connections: None,
        open_connections: None,
        retry_in_ms: (state == "backoff").then_some(3_400),
        is_crash_looping: false,
        node: None,
        last_exit: (slot == 2).then(|| ExitRecord {
            time: "2026-08-01T11:58:00.000Z".into(),
            pid: Some(9),
            code: Some(3),
            signal: None,
            oom_killed: false,
            cause: "exit code 3".into(),
            lived_ms: 61_000,
            asked: false,
        }),
    }
}

pub fn status(workers: Vec<WorkerStatus>) -> Status {
    let ready = workers.iter().filter(|row| row.state == "ready").count();
    Status {
        version: "0.1.0".into(),
        pid: 1,
        state: "running".into(),
        started: "2026-08-01T08:50:00.000Z".into(),
        uptime_ms: 11_530_000,
        apps: vec![AppStatus {
            id: 0,
            name: "web".into(),
            command: vec!["node".into(), "app.js".into()],
            instances: workers.len() as u32,
            wanted: workers.len() as u32,
            ready: ready as u32,
            missing: (workers.len() - ready) as u32,
            kind: "service".into(),
            condition: if ready == workers.len() { "ready" } else { "degraded" }.into(),
            is_over: false,
            generation: 2,
            reload: None,
            last_reload: None,
            listens: vec!["port 8080".into()],
        }],
        workers,
    }
}

/// Four workers, of which one has crashed.
pub fn four() -> Status {
    status(vec![worker(0, "ready"), worker(1, "ready"), worker(2, "backoff"), worker(3, "ready")])
}

/// Two apps, of which one crashes again and again.
pub fn several_apps() -> Status {
    let mut all = status(vec![worker(0, "ready"), worker(1, "ready")]);
    let mut queue = status(vec![worker(0, "ready"), worker(1, "backoff")]);
    for row in &mut queue.workers {
        row.app = "queue".into();
        row.id = format!("queue-{}", row.slot);
        row.is_crash_looping = row.state == "backoff";
    }
    let app = &mut queue.apps[0];
    (app.id, app.name, app.condition) = (1, "queue".into(), "crash-looping".into());
    all.apps.append(&mut queue.apps);
    all.workers.append(&mut queue.workers);
    all
}

/// An hour in which each worker was busy by turns.
pub fn history() -> History {
    let series = |slot: u32| {
        let wave = |minute: u32| f64::from((minute * (3 + slot) + slot * 17) % 40) / 40.0;
        let values = || (0..60).map(wave);
        UsageSeries {
            name: format!("web-{slot}"),
            cpu_percent: values().map(|wave| Some(4.0 + 60.0 * wave * wave)).collect(),
            memory_bytes: values()
                .map(|wave| Some(47_000_000 + (wave * 9e6) as u64 + u64::from(slot) * 4_000_000))
                .collect(),
            restarts: vec![Some(0); 60],
            connections: Vec::new(),
            event_loop_lag_ms: Vec::new(),
        }
    };
    History {
        time: Some("2026-08-01T12:02:00.000Z".into()),
        interval_ms: 60_000,
        apps: vec![UsageSeries { name: "web".into(), ..series(0) }],
        workers: (0..4).map(series).collect(),
    }
}

/// In the middle of a reload.
pub fn reloading() -> Status {
    let mut new = worker(0, "starting");
    new.role = "replacement".into();
    new.generation = 3;
    new.pid = Some(40);
    new.uptime_ms = Some(800);
    let mut status = status(vec![worker(0, "ready"), new, worker(1, "ready")]);
    let app = &mut status.apps[0];
    app.reload = Some(Reloading { generation: 3, since_ms: 900 });
    app.condition = "ready".into();
    app.wanted = 2;
    status
}

pub fn failed_reload(mut status: Status) -> Status {
    status.apps[0].last_reload = Some(Reloaded {
        generation: 3,
        result: "failed".into(),
        took_ms: 900,
        time: "2026-08-01T12:00:00.000Z".into(),
        why: Some("the new web-0 ended with exit code 3".into()),
    });
    status
}

pub fn line(seq: u64, stream: &str, text: &str) -> Line {
    Line::Log(LogLine {
        seq,
        time: format!("2026-08-01T12:{:02}:{:02}.000Z", seq / 60 % 60, seq % 60),
        worker: "web-0".into(),
        app: "web".into(),
        slot: 0,
        pid: 12,
        stream: stream.into(),
        line: text.into(),
    })
}

pub fn event(seq: u64, level: &str, message: &str) -> Event {
    Event {
        seq,
        time: format!("2026-08-01T12:{:02}:{:02}.000Z", seq / 60 % 60, seq % 60),
        kind: "started".into(),
        app: Some("web".into()),
        worker: None,
        pid: None,
        level: level.into(),
        message: message.into(),
    }
}

/// A model, and the commands that it has returned.
pub struct Monit {
    pub model: Model,
    pub commands: Vec<Command>,
}

impl Monit {
    pub fn new(status: Status) -> Monit {
        let (model, commands) = Model::new(status, Size::new(80, 24));
        Monit { model, commands }
    }

    pub fn sized(mut self, columns: u16, rows: u16) -> Monit {
        self.model.size = Size::new(columns, rows);
        self
    }

    /// Applies a message.
    pub fn tell(&mut self, message: Message) -> Vec<Command> {
        let commands = update(&mut self.model, message);
        self.commands.extend(commands.iter().cloned());
        commands
    }

    pub fn press(&mut self, key: KeyCode) -> Vec<Command> {
        self.tell(Message::Key(key))
    }

    pub fn type_keys(&mut self, keys: &str) -> Vec<Command> {
        keys.chars().flat_map(|key| self.press(KeyCode::Char(key))).collect()
    }

    /// The number of the log that is followed.
    pub fn follow(&self) -> u64 {
        let follow = |command: &Command| match command {
            Command::Follow(number, _) => Some(*number),
            _ => None,
        };
        self.commands.iter().rev().find_map(follow).expect("a log is followed")
    }

    pub fn log(&mut self, lines: impl IntoIterator<Item = Line>) {
        let number = self.follow();
        lines.into_iter().for_each(|line| drop(self.tell(Message::Line(number, line))));
    }

    /// The screen, as text.
    pub fn screen(&self) -> String {
        let buffer = self.terminal().backend().buffer().clone();
        let row = |row| {
            let cells = (0..buffer.area.width).map(|column| buffer[(column, row)].symbol());
            cells.collect::<String>().trim_end().to_owned()
        };
        (0..buffer.area.height).map(row).collect::<Vec<_>>().join("\n")
    }

    pub fn terminal(&self) -> Terminal<TestBackend> {
        let size = self.model.size;
        let mut terminal = Terminal::new(TestBackend::new(size.width, size.height)).unwrap();
        terminal.draw(|frame| view(&self.model, frame)).unwrap();
        terminal
    }
}

/// Four workers that have run for a while, with a log and events.
pub fn after_a_while() -> Monit {
    let mut monit = Monit::new(four());
    for second in 0..150u32 {
        let mut status = four();
        for row in &mut status.workers {
            let wave = f64::from((second * (3 + row.slot) + row.slot * 17) % 40) / 40.0;
            row.cpu_percent = row.cpu_percent.map(|_| 4.0 + 60.0 * wave * wave + f64::from(row.slot));
            row.memory_bytes = row.memory_bytes.map(|bytes| bytes + u64::from(second * (7 + row.slot) % 90) * 300_000);
        }
        monit.tell(Message::Status(status));
    }
    monit.tell(Message::History(history()));
    monit.log((600..660).map(request));
    for (seq, level, message) in [
        (700, "info", "web-2 (pid 9) started"),
        (701, "info", "web-2 (pid 9) is ready after 312ms (it listens)"),
        (702, "warn", "web-2 (pid 9) ended with exit code 3 after 1m01s; started again in 3.4s"),
        (703, "info", "web: scaled from 3 to 4"),
        (704, "info", "web-3 (pid 15) started"),
        (705, "info", "web-3 (pid 15) is ready after 298ms (it listens)"),
    ] {
        monit.tell(Message::Event(event(seq, level, message)));
    }
    monit
}

/// A line of a web server's log.
pub fn request(at: u64) -> Line {
    let paths = ["/", "/about", "/api/items", "/api/items/42", "/login"];
    match at % 13 {
        7 => line(at, "stderr", "warning: the cache misses: 212 of 300"),
        _ => line(at, "stdout", &format!("GET {} 200 {}ms", paths[(at * 7 % 5) as usize], at * 31 % 90 + 2)),
    }
}
