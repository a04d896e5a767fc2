//! Compares the mechanisms by which N Node processes share a port, in one run: `cargo bench --bench ports`.
//!
//! `-- quick` takes a minute or two and measures less; `-- crash reload` runs two of the measurements alone. pm2 is
//! measured where it is on `PATH`. All load is bounded and stays on 127.0.0.1. The variants are measured in turn, so that a
//! drift of the machine's speed affects all. `ok` and `MISSED` compare a figure of rinit with its target.

mod common;
#[path = "ports/load.rs"]
mod load;
#[path = "ports/variants.rs"]
mod variants;

use common::median;
use load::{Kind, Load, Outcome};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use variants::{App, Fleet, Means, Plan, REFERENCE, ROUND_ROBIN, SHARED, VARIANTS, Variant, signal};

type Measurement = (&'static str, fn(&mut Bench));

const MEASUREMENTS: [Measurement; 7] = [
    ("speed", Bench::speed),
    ("python", Bench::python),
    ("blocked", Bench::blocked),
    ("crash", Bench::crash),
    ("reload", Bench::reload),
    ("signals", Bench::signals),
    ("stuck", Bench::stuck),
];
const CLIENTS: usize = 64;
/// The least share of `shared`'s rate of new connections that `round-robin` is to have.
const LEAST_OF_SHARED: f64 = 0.97;
/// The most processor time that rinit is to take for a connection that it hands out, in microseconds.
const MAX_MICROS: f64 = 40.0;
const PLAN: Plan = Plan { app: App::Node, workers: 2, backoff: None, held: false, min_uptime: "300ms" };

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let quick = words.iter().any(|word| word == "quick");
    let chosen = |name: &str| words.iter().all(|word| word == "quick") || words.iter().any(|word| word == name);
    let known = |word: &String| word == "quick" || MEASUREMENTS.iter().any(|(name, _)| word == name);
    if !words.iter().all(known) {
        let names: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        panic!("only these words are known: quick {}", names.join(" "));
    }
    // For 2000 connections at once.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65536), most).unwrap();
    let mut bench = Bench {
        quick,
        end: Instant::now() + Duration::from_secs(if quick { 120 } else { 480 }),
        folder: std::env::temp_dir().join(format!("rinit-ports-{}", std::process::id())),
        absent: BTreeMap::new(),
        columns: Vec::new(),
    };
    println!("rinit: {}", variants::binary().display());
    for (_, measure) in MEASUREMENTS.iter().filter(|(name, _)| chosen(name)) {
        measure(&mut bench);
    }
    bench.summary();
    let _ = fs::remove_dir_all(&bench.folder);
}

struct Bench {
    quick: bool,
    /// No round begins after this.
    end: Instant,
    folder: PathBuf,
    /// The variants that cannot be measured here, with the reason.
    absent: BTreeMap<&'static str, String>,
    /// The rows of the table at the end: a title and a cell for each variant.
    columns: Vec<(String, BTreeMap<&'static str, String>)>,
}

impl Bench {
    /// Measures keep-alive connections, and connections for one request each.
    fn speed(&mut self) {
        let time = Duration::from_millis(if self.quick { 400 } else { 1000 });
        let mut fleets = self.start(PLAN, |_| true);
        for fleet in &fleets {
            for kind in [Kind::KeepAlive, Kind::New] {
                load(fleet, kind).run_for(Duration::from_millis(300));
            }
        }
        let rounds = if self.quick { 1 } else { 5 };
        let mut spent = BTreeMap::<&str, Vec<f64>>::new();
        let outcomes = self.rounds(&mut fleets, rounds, |fleet| {
            [Kind::KeepAlive, Kind::New].map(|kind| {
                let before = processor_time(fleet.primary());
                let outcome = load(fleet, kind).run_for(time);
                if kind == Kind::New {
                    let micros = (processor_time(fleet.primary()) - before).as_secs_f64() * 1e6;
                    spent.entry(fleet.variant.name).or_default().push(micros / outcome.answers.max(1) as f64);
                }
                outcome
            })
        });
        stop(fleets);
        for (at, what, bar) in [(0, "keep-alive", 1.0), (1, "new connections", 1.5)] {
            let rows = outcomes.iter().map(|(variant, _)| {
                let ratio = ratio_to(&outcomes, *variant, REFERENCE, |outcome| outcome[at].rate());
                let of = |figure: fn(&Outcome) -> f64| median_of(&outcomes, *variant, |outcome| figure(&outcome[at]));
                let (rate, middle, tail) =
                    (of(Outcome::rate), of(|outcome| outcome.percentile(50)), of(|outcome| outcome.percentile(99)));
                let cell = format!("{rate:.0} · {ratio:.2}× · {middle:.1}/{tail:.1}");
                let line = format!("{rate:8.0}  {ratio:.2} x Node cluster  p50 {middle:5.2}  p99 {tail:5.2} ms");
                Row { variant: *variant, line, cell, good: Some(ratio >= bar) }
            });
            let rows = rows.collect();
            self.print(
                &format!(
                    "{what}, 2 workers, {CLIENTS} clients (requests/s, median of {rounds}, in turn; the ratio is the \
                     median of each round's; bar {bar} x)"
                ),
                &format!("{what}: requests/s · to Node's cluster · p50/p99 ms"),
                rows,
            );
        }
        let rates = |outcome: &[Outcome; 2]| outcome[1].rate();
        let rows = outcomes.iter().map(|(variant, _)| {
            let ratio = ratio_to(&outcomes, *variant, SHARED, rates);
            let good = (variant.name == ROUND_ROBIN).then_some(ratio >= LEAST_OF_SHARED);
            Row { variant: *variant, line: format!("{ratio:8.2} x"), cell: format!("{ratio:.2}×"), good }
        });
        let rows = rows.collect();
        self.print(
            &format!(
                "new connections, to those of rinit shared (median of each round's ratio; bar {LEAST_OF_SHARED} x)"
            ),
            "new connections: to rinit shared",
            rows,
        );
        let rows = spent.iter_mut().filter_map(|(name, micros)| {
            let variant = VARIANTS.into_iter().find(|variant| variant.name == *name && variant.shares())?;
            let micros = median(micros);
            let good = (variant.name == ROUND_ROBIN).then_some(micros <= MAX_MICROS);
            Some(Row { variant, line: format!("{micros:8.1} µs"), cell: format!("{micros:.0} µs"), good })
        });
        let rows = rows.collect();
        self.print(
            &format!("new connections: processor time of the primary for each (median; bar {MAX_MICROS} µs)"),
            "new connections: the primary's processor time for each",
            rows,
        );
    }

    /// Measures new connections of an app in Python that blocks in accept.
    fn python(&mut self) {
        let time = Duration::from_millis(if self.quick { 400 } else { 1000 });
        let mut fleets = self.start(Plan { app: App::Python, ..PLAN }, |variant| {
            variant.means == Means::Plain || [ROUND_ROBIN, SHARED].contains(&variant.name)
        });
        for fleet in &fleets {
            load(fleet, Kind::New).run_for(Duration::from_millis(300));
        }
        let rounds = if self.quick { 1 } else { 7 };
        let outcomes = self.rounds(&mut fleets, rounds, |fleet| load(fleet, Kind::New).run_for(time));
        stop(fleets);
        let rows = outcomes.iter().map(|(variant, _)| {
            let ratio = ratio_to(&outcomes, *variant, SHARED, Outcome::rate);
            let rate = median_of(&outcomes, *variant, Outcome::rate);
            let tail = median_of(&outcomes, *variant, |outcome| outcome.percentile(99));
            let line = format!("{rate:8.0}  {ratio:.2} x shared  p99 {tail:5.2} ms");
            let good = (variant.name == ROUND_ROBIN).then_some(ratio >= LEAST_OF_SHARED);
            Row { variant: *variant, line, cell: format!("{rate:.0} · {ratio:.2}×"), good }
        });
        let rows = rows.collect();
        let title = format!(
            "Python, new connections, 2 workers, {CLIENTS} clients (requests/s, median of {rounds}, in turn; bar {LEAST_OF_SHARED} x)"
        );
        self.print(&title, "Python, new connections: requests/s · to shared", rows);
    }

    /// Measures keep-alive connections over 4 workers, and one of 4 workers at a time blocked for 500 ms.
    fn blocked(&mut self) {
        let rounds = if self.quick { 1 } else { 3 };
        let mut fleets = self.start(Plan { workers: 4, ..PLAN }, Variant::shares);
        for fleet in &fleets {
            load(fleet, Kind::New).run_for(Duration::from_millis(300));
        }
        let spread = self.rounds(&mut fleets, if self.quick { 1 } else { 5 }, |fleet| {
            let outcome = load(fleet, Kind::KeepAlive).run_for(Duration::from_millis(300));
            let busiest = outcome.connections.iter().max().map_or(f64::NAN, |most| f64::from(*most));
            busiest / (CLIENTS as f64 / 4.0)
        });
        let rows = each(&spread, |share| *share).into_iter().map(|(variant, share)| {
            let cell = format!("{share:.2}");
            Row { variant, line: format!("{share:8.2}"), cell, good: Some(share <= 1.1) }
        });
        self.print(
            "64 keep-alive connections over 4 workers (busiest / fair share, median, in turn; bar 1.1)",
            "busiest of 4 ÷ fair share",
            rows.collect(),
        );

        let time = Duration::from_millis(if self.quick { 1200 } else { 2400 });
        let outcomes = self.rounds(&mut fleets, rounds, |fleet| {
            [Kind::New, Kind::KeepAlive].map(|kind| {
                let workers = fleet.workers();
                let load = load(fleet, kind);
                thread::scope(|scope| {
                    // One after the other, and 100 ms between them.
                    scope.spawn(|| {
                        let start = Instant::now();
                        for worker in workers.iter().cycle() {
                            if start.elapsed() + Duration::from_millis(550) > time {
                                break;
                            }
                            signal(*worker, Signal::SIGUSR2);
                            thread::sleep(Duration::from_millis(600));
                        }
                    });
                    load.run_for(time)
                })
            })
        });
        stop(fleets);
        for (at, what) in [(0, "new connections"), (1, "keep-alive")] {
            let limit = Duration::from_millis(100);
            let reference = outcomes.iter().find(|(variant, _)| variant.name == REFERENCE).map(|(variant, _)| *variant);
            let reference =
                reference.map_or(f64::NAN, |variant| median_of(&outcomes, variant, |o| o[at].percentile(99)));
            let rows = each(&outcomes, |outcome| outcome[at].slower_than(limit)).into_iter().map(|(variant, slow)| {
                let tail = median_of(&outcomes, variant, |outcome| outcome[at].percentile(99));
                let rate = median_of(&outcomes, variant, |outcome| outcome[at].rate());
                let cell = format!("{slow:.2} % · {tail:.1}");
                let ratio = tail / reference;
                let line =
                    format!("{slow:7.2} %  p99 {tail:6.1} ms, {ratio:.2} x Node cluster  ({rate:.0} requests/s)");
                Row { variant, line, cell, good: Some(slow < 1.0) }
            });
            self.print(
                &format!(
                    "one of 4 workers at a time blocked for 500 ms, {what} (over 100 ms, median of {rounds}; bar 1 %)"
                ),
                &format!("one of 4 blocked, {what}: over 100 ms · p99 ms"),
                rows.collect(),
            );
        }
    }

    /// Measures a kill of one of two workers, which comes back after 3 s. The connections that it held are known, except for
    /// one that it may have been accepting.
    fn crash(&mut self) {
        let backoff = Duration::from_secs(3);
        let plan = Plan { backoff: Some(backoff), held: true, min_uptime: "60s", ..PLAN };
        let mut fleets = self.start(plan, Variant::shares);
        let (before, after) = if self.quick { (200, 2200) } else { (500, 2800) };
        let kills = if self.quick { 1 } else { 3 };
        let outcomes = self.rounds(&mut fleets, kills, |fleet| {
            fleet.until(Duration::from_secs(8), Fleet::is_whole);
            let worker = fleet.workers().first().copied();
            let load = load(fleet, Kind::New);
            let outcome = thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(Duration::from_millis(before));
                    if let Some(worker) = worker {
                        signal(worker, Signal::SIGKILL);
                    }
                });
                load.run_for(Duration::from_millis(before + after))
            });
            (outcome, worker.map_or(0, |worker| fleet.held(worker)))
        });
        stop(fleets);
        let lost = |variant: Variant| {
            let of = outcomes.iter().filter(|(other, _)| *other == variant).flat_map(|(_, outcomes)| outcomes);
            of.fold((0, 0, 0), |sum, (outcome, held)| (sum.0 + outcome.broken, sum.1 + held, sum.2 + outcome.timed_out))
        };
        let rows = outcomes.iter().map(|(variant, _)| {
            let (broken, held, late) = lost(*variant);
            let cell = format!("{broken} ({held} held) / {late}");
            let line = format!("{broken:5} of which it held {held:3}, {late:5} timed out");
            Row { variant: *variant, line, cell, good: Some(broken <= held + kills as u64 && late == 0) }
        });
        let title = format!(
            "one of 2 workers killed and back after 3 s, new connections (read errors, 2 s time-outs, sum of {kills}; \
             bar: what it held, give or take one a kill, and 0)"
        );
        self.print(&title, &format!("{kills} crashes: read errors / time-outs"), rows.collect());
    }

    /// Measures rolling reloads under load.
    fn reload(&mut self) {
        let reloads = if self.quick { 1 } else { 4 };
        let mut fleets = self.start(PLAN, Variant::reloads);
        let outcomes = self.rounds(&mut fleets, 1, |fleet| {
            [Kind::KeepAlive, Kind::New].map(|kind| {
                let load = load(fleet, kind);
                let busy = AtomicBool::new(true);
                thread::scope(|scope| {
                    let client = scope.spawn(|| load.run(|| busy.load(Ordering::Relaxed)));
                    thread::sleep(Duration::from_millis(200));
                    let done = (0..reloads).take_while(|_| fleet.reload()).count();
                    thread::sleep(Duration::from_millis(100));
                    busy.store(false, Ordering::Relaxed);
                    (client.join().unwrap(), done)
                })
            })
        });
        stop(fleets);
        let rows = outcomes.iter().flat_map(|(variant, rounds)| rounds.iter().map(|modes| (*variant, modes))).map(
            |(variant, [(kept, first), (new, second)])| {
                let done = first.min(second);
                let unfinished =
                    if *done < reloads { format!("; only {done} finished in 15 s") } else { String::new() };
                let (kept_lost, new_lost) = (kept.lost(), new.lost());
                let cell = format!("{kept_lost} / {new_lost}{unfinished}");
                let (all_kept, all_new) = (kept.answers, new.answers);
                let line = format!(
                    "keep-alive {kept_lost:4} of {all_kept:7}, new connections {new_lost:4} of {all_new:7}{unfinished}"
                );
                Row { variant, line, cell, good: Some(kept_lost + new_lost == 0 && *done == reloads) }
            },
        );
        let rows = rows.collect();
        let title = format!("{reloads} rolling reloads of 2 workers (requests lost; bar 0)");
        self.print(&title, &format!("{reloads} reloads: lost, keep-alive / new"), rows);
    }

    /// Measures the time from a signal to its effect, while connections arrive as fast as they can be made.
    fn signals(&mut self) {
        const CLIENTS: usize = 256;
        let signals = if self.quick { 10 } else { 50 };
        let mut fleets = self.start(PLAN, Variant::scales_by_signal);
        let times = self.rounds(&mut fleets, 1, |fleet| {
            let load = Load { clients: CLIENTS, ..load(fleet, Kind::New) };
            let busy = AtomicBool::new(true);
            thread::scope(|scope| {
                let client = scope.spawn(|| load.run(|| busy.load(Ordering::Relaxed)));
                thread::sleep(Duration::from_millis(300));
                let reaction = |name| {
                    let _ = fleet.lines.try_iter().count();
                    let before = Instant::now();
                    signal(fleet.primary(), name);
                    let scaled = || loop {
                        let (at, line) = fleet.lines.recv_timeout(Duration::from_secs(2)).ok()?;
                        if line.contains("scaled from") {
                            return Some((at - before).as_secs_f64() * 1e3);
                        }
                    };
                    let time = scaled().unwrap_or(f64::INFINITY);
                    thread::sleep(Duration::from_millis(80));
                    time
                };
                let mut times = Vec::new();
                while times.len() < signals && times.last().is_none_or(|time: &f64| time.is_finite()) {
                    times.push(reaction(Signal::SIGTTIN));
                    reaction(Signal::SIGTTOU);
                }
                busy.store(false, Ordering::Relaxed);
                (times, client.join().unwrap().rate())
            })
        });
        stop(fleets);
        let rows =
            times.into_iter().flat_map(|(variant, rounds)| rounds.into_iter().map(move |round| (variant, round)));
        let rows = rows.map(|(variant, (mut times, rate))| {
            let worst = times.iter().copied().fold(0.0, f64::max);
            let middle = median(&mut times);
            let cell = format!("{middle:.1} / {worst:.1}");
            let line = format!("{middle:7.2}  max {worst:7.2}  ({rate:.0} connections/s)");
            Row { variant, line, cell, good: Some(worst < 50.0) }
        });
        let rows = rows.collect();
        let title = format!(
            "SIGTTIN to its line, under new connections of {CLIENTS} clients (ms, median and max of {signals}; bar 50)"
        );
        self.print(&title, "signal to reaction, ms: median / max", rows);
    }

    /// Measures the primary's memory and descriptors while no worker accepts.
    fn stuck(&mut self) {
        const CLIENTS: usize = 2000;
        let mut fleets = self.start(PLAN, Variant::shares);
        let figures = self.rounds(&mut fleets, 1, |fleet| {
            let workers = fleet.workers();
            let rest = weight(fleet.primary());
            let load = Load { clients: CLIENTS, patience: Duration::from_secs(12), ..load(fleet, Kind::New) };
            workers.iter().for_each(|worker| signal(*worker, Signal::SIGSTOP));
            let (outcome, full) = thread::scope(|scope| {
                let client = scope.spawn(|| load.run_for(Duration::from_millis(800)));
                thread::sleep(Duration::from_millis(1500));
                let full = weight(fleet.primary());
                workers.iter().for_each(|worker| signal(*worker, Signal::SIGCONT));
                (client.join().unwrap(), full)
            });
            (rest, full, outcome)
        });
        stop(fleets);
        let rows = figures.iter().flat_map(|(variant, rounds)| rounds.iter().map(|round| (*variant, round))).map(
            |(variant, (rest, full, outcome))| {
                let ((rss, fds), (more_rss, more_fds), lost) = (rest, full, outcome.lost());
                let cell = format!("{rss} → {more_rss} kB, {fds} → {more_fds} descriptors, {lost} lost");
                let line =
                    format!("VmRSS {rss:6} -> {more_rss:6} kB, descriptors {fds:3} -> {more_fds:4}, lost {lost}");
                Row { variant, line, cell, good: None }
            },
        );
        let rows = rows.collect();
        let title = format!("both workers stopped, {CLIENTS} connections wait (the primary, at rest -> then)");
        self.print(&title, "both workers stuck, 2000 connections: the primary", rows);
    }

    /// Every variant of this sort that can be started here.
    fn start(&mut self, plan: Plan, sort: impl Fn(Variant) -> bool) -> Vec<Fleet> {
        let variants = VARIANTS.into_iter().filter(|variant| sort(*variant) && !self.absent.contains_key(variant.name));
        let variants: Vec<Variant> = variants.collect();
        let folder = |at: usize| self.folder.join(at.to_string());
        let fleets: Vec<_> = thread::scope(|scope| {
            let start = |(at, variant): (usize, &Variant)| {
                let (variant, folder) = (*variant, folder(at));
                let plan = Plan { workers: if variant.shares() { plan.workers } else { 1 }, ..plan };
                scope.spawn(move || Fleet::start(variant, plan, folder))
            };
            let threads: Vec<_> = variants.iter().enumerate().map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut running = Vec::new();
        for (variant, fleet) in variants.into_iter().zip(fleets) {
            match fleet {
                Ok(fleet) => running.push(fleet),
                Err(fault) => {
                    println!("{} is not measured: {fault}", variant.name);
                    self.absent.insert(variant.name, fault);
                }
            }
        }
        running
    }

    /// Runs each fleet in turn while there is time.
    fn rounds<T>(
        &self,
        fleets: &mut [Fleet],
        rounds: usize,
        mut measure: impl FnMut(&mut Fleet) -> T,
    ) -> Vec<(Variant, Vec<T>)> {
        let mut found: Vec<(Variant, Vec<T>)> = fleets.iter().map(|fleet| (fleet.variant, vec![])).collect();
        let (mut turns, mut disturbed) = (0, 0);
        for round in 0..rounds {
            if round > 0 && Instant::now() > self.end {
                println!("no time for more than {round} of {rounds} rounds");
                break;
            }
            for (fleet, (_, found)) in fleets.iter_mut().zip(&mut found) {
                turns += 1;
                disturbed += u32::from(busy() > 15.0);
                found.push(measure(fleet));
            }
        }
        if disturbed > 0 {
            println!("\nthe machine was busy with something else before {disturbed} of {turns} turns");
        }
        found
    }

    fn print(&mut self, title: &str, column: &str, rows: Vec<Row>) {
        println!("\n{title}");
        let mut cells = BTreeMap::new();
        for Row { variant, line, cell, good } in rows {
            let mark = match good.filter(|_| variant.is_rinit()) {
                Some(true) => "  ok",
                Some(false) => "  MISSED",
                None => "",
            };
            println!("  {:18} {line}{mark}", variant.name);
            cells.insert(variant.name, cell);
        }
        self.columns.push((column.into(), cells));
    }

    /// One table of everything, for docs/figures.md.
    fn summary(&self) {
        let has_cell = |variant: &Variant| self.columns.iter().any(|(_, cells)| cells.contains_key(variant.name));
        let variants: Vec<Variant> = VARIANTS.into_iter().filter(has_cell).collect();
        println!("\n| | {} |", variants.iter().map(|variant| variant.name).collect::<Vec<_>>().join(" | "));
        println!("|---|{}", "---|".repeat(variants.len()));
        for (title, cells) in &self.columns {
            let cells = variants.iter().map(|variant| cells.get(variant.name).map_or("–", String::as_str));
            println!("| {title} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}

/// Starts them at the same time: some take long.
fn stop(fleets: Vec<Fleet>) {
    thread::scope(|scope| {
        for fleet in fleets {
            scope.spawn(move || drop(fleet));
        }
    });
}

struct Row {
    variant: Variant,
    line: String,
    cell: String,
    /// True if it reaches its target, or has none.
    good: Option<bool>,
}

fn load(fleet: &Fleet, kind: Kind) -> Load {
    Load { port: fleet.port, kind, clients: CLIENTS, patience: Duration::from_secs(2) }
}

/// The median of a figure, for each variant.
fn each<T>(outcomes: &[(Variant, Vec<T>)], figure: impl Fn(&T) -> f64) -> Vec<(Variant, f64)> {
    outcomes.iter().map(|(variant, _)| (*variant, median_of(outcomes, *variant, &figure))).collect()
}

fn median_of<T>(outcomes: &[(Variant, Vec<T>)], variant: Variant, figure: impl Fn(&T) -> f64) -> f64 {
    let of = outcomes.iter().filter(|(other, _)| *other == variant).flat_map(|(_, outcomes)| outcomes);
    median(&mut of.map(figure).collect::<Vec<_>>())
}

/// The median of the rounds' ratios of a figure to another variant's.
fn ratio_to<T>(outcomes: &[(Variant, Vec<T>)], variant: Variant, other: &str, figure: impl Fn(&T) -> f64) -> f64 {
    let of = |name: &str| outcomes.iter().find(|(variant, _)| variant.name == name).map_or(&[][..], |(_, found)| found);
    let ratios = of(variant.name).iter().zip(of(other)).map(|(own, other)| figure(own) / figure(other));
    let mut ratios: Vec<f64> = ratios.collect();
    if ratios.is_empty() { f64::NAN } else { median(&mut ratios) }
}

/// The processor time of all threads of a process so far.
fn processor_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// Resident memory in kB, and open descriptors.
fn weight(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let rss = rss.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    (rss, fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
}

/// The share of the processors' time in use, in percent.
fn busy() -> f64 {
    let sample = || {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields = text.lines().next().unwrap_or("").split_whitespace().skip(1).take(8);
        let fields: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
        // The fourth and fifth are idle time and time idle in wait of a disk.
        (fields.iter().sum::<f64>(), fields.iter().skip(3).take(2).sum::<f64>())
    };
    let (all, idle) = sample();
    thread::sleep(Duration::from_millis(100));
    let (all_then, idle_then) = sample();
    100.0 - 100.0 * (idle_then - idle) / (all_then - all).max(1.0)
}
