//! Reloads and replacements that nobody asks for: changed files, times, memory and age.

use crate::config_file::File;
use crate::harness::{Flag, Rig};
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn a_watched_file_that_changes_reloads_the_app_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings");
    fs::write(&file, "1").unwrap();
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "50ms", "--watch"])
        .arg(&file)
        .fixture("notify wait")
        .start();
    rig.until("it is ready", |out| out.told("fixture-0", "is ready"));
    (2..6).for_each(|n| fs::write(&file, "x".repeat(n)).unwrap());
    rig.until("it is reloaded", |out| out.has("reload to generation 2 done"));
    let new = folder.path().join("new");
    fs::write(&new, "replaced").unwrap();
    fs::rename(&new, &file).unwrap();
    rig.until("it is reloaded again", |out| out.has("reload to generation 3 done"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert_eq!(out.count("has changed (--watch)"), 2, "{out:?}");
}

#[test]
fn a_watched_file_that_changes_while_the_app_starts_reloads_it() {
    let folder = tempfile::tempdir().unwrap();
    // To look at so many takes longer than the app needs for its first word.
    (0..5000).for_each(|n| drop(fs::File::create(folder.path().join(format!("{n}"))).unwrap()));
    let new = folder.path().join("new").display().to_string();
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "50ms", "--watch"])
        .arg(folder.path())
        .fixture(&format!("unless={new} touch={new} notify wait"))
        .start();
    rig.until("it is reloaded", |out| out.has("reload to generation 2 done"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("has changed (--watch)"), 1, "{:?}", rig.output());
}

#[test]
fn a_file_that_is_watched_by_the_changed_configuration_reloads_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("env"), "A=1").unwrap();
    // With a file of variables, which is read before the new generation is there.
    let text = |word: &str, watched: &str| {
        format!(
            "[[app]]\nname = \"app\"\ncommand = \"FIXTURE {word} notify wait\"\nenv_file = \"{}\"\nwatch = \"{}\"\n\
             min_uptime = \"50ms\"\nready = \"notify\"\n",
            at("env"),
            at(watched)
        )
    };
    let file = File::new("rinit.toml", &text("say=old", "one"));
    let rig = file.rig().start();
    rig.until("it is ready", |out| out.told("app-0", "is ready"));
    file.write(&text("say=new", "two"));
    rig.signal("HUP");
    rig.until("it is reloaded", |out| out.has("reload to generation 2 done"));
    fs::write(at("two"), "changed").unwrap();
    rig.until("it is reloaded again", |out| out.has("reload to generation 3 done"));
}

#[test]
fn a_folder_of_which_a_link_is_swapped_or_that_comes_back_reloads_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for version in ["v1", "v2"] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("settings"), version).unwrap();
    }
    // As Kubernetes lays out a ConfigMap.
    fs::create_dir(at("config")).unwrap();
    symlink("../v1", at("config").join("..data")).unwrap();
    symlink("..data/settings", at("config").join("settings")).unwrap();
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "50ms", "--ignore-watch", "*.log", "--watch"])
        .arg(at("config"))
        .fixture("notify wait")
        .start();
    rig.until("it is ready", |out| out.told("fixture-0", "is ready"));
    fs::write(at("config").join("access.log"), "ignored").unwrap();
    symlink("../v2", at("config").join("..data_tmp")).unwrap();
    fs::rename(at("config").join("..data_tmp"), at("config").join("..data")).unwrap();
    rig.until("it is reloaded", |out| out.has("reload to generation 2 done"));
    fs::remove_dir_all(at("config")).unwrap();
    rig.until("the loss is seen", |out| out.has("reload to generation 3 done"));
    fs::create_dir(at("config")).unwrap();
    fs::write(at("config").join("settings"), "back").unwrap();
    rig.until("it is back", |out| out.has("reload to generation 4 done"));
}

#[test]
fn a_timetable_reloads_the_app() {
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "50ms", "--cron", "* * * * * *"])
        .fixture("notify wait")
        .start();
    rig.until("it is reloaded twice", |out| out.has("reload to generation 3 done"));
    assert!(rig.output().has("it is time (--cron)"), "{:?}", rig.output());
}

#[test]
fn a_time_zone_that_the_image_has_not_is_a_warning() {
    let start = |zone: &str| {
        let rig =
            Rig::new(&["-i", "1", "--ready", "notify", "--cron", "0 3 1 1 *"]).env("TZ", zone).fixture("notify wait");
        let rig = rig.start();
        rig.until("it is ready", |out| out.told("fixture-0", "is ready"));
        rig.output()
    };
    let out = start("Nowhere/Land");
    assert!(
        out.has("TZ=Nowhere/Land: this image has no such time zone, and the times of --cron are in UTC"),
        "{out:?}"
    );
    assert!(out.has("the first reload by --cron is at") && out.has("-01-01T03:00:00+00:00"), "{out:?}");
    let out = start("CET-1CEST,M3.5.0,M10.5.0/3");
    assert!(!out.has("no such time zone") && out.has("-01-01T03:00:00+01:00"), "{out:?}");
}

#[test]
fn a_worker_that_uses_too_much_memory_is_replaced_before_it_is_stopped() {
    let flag = Flag::new();
    let words = format!("unless={} grow=60 touch={} notify wait", flag.path(), flag.path());
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "50ms", "--max-memory", "50M"])
        .fixture(&words)
        .start();
    rig.until("it is replaced", |out| out.has("worker replaced in"));
    let out = rig.output();
    let place =
        |text: &str| out.stderr.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{out:?}"));
    assert!(place("its limit is 50.0M (--max-memory): it is replaced") < place("started as a replacement"), "{out:?}");
    assert!(place("started as a replacement") < place("gets SIGTERM"), "{out:?}");
}

#[test]
fn an_app_that_always_needs_more_than_its_limit_is_not_replaced_without_end() {
    let rig = Rig::new(&["-i", "1", "--ready", "notify", "--min-uptime", "50ms", "--max-memory", "50M"])
        .fixture("grow=60 notify wait")
        .start();
    rig.until("the second one is left alone for a while", |out| {
        out.has("as the one before it soon after the start: it is replaced in 30s, if it still does")
    });
    assert_eq!(rig.output().count("started as a replacement"), 1, "{:?}", rig.output());
}

#[test]
fn a_worker_that_has_lived_long_enough_is_replaced() {
    let rig = Rig::new(&["-i", "2", "--ready", "notify", "--min-uptime", "50ms", "--max-uptime", "2s"])
        .fixture("notify wait")
        .start();
    rig.until("both are replaced", |out| out.count("is replaced: it has lived for --max-uptime") >= 2);
    rig.until("both are new", |out| out.count("worker replaced in") >= 2);
}
