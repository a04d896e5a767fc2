//! Tests the file of `--config`: several apps side by side, the properties of their processes, and the refusal of faults.

use crate::harness::{Rig, fixture, rinit};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a file of settings, in which FIXTURE stands for the fixture's path.
pub struct File {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    pub fn new(name: &str, text: &str) -> File {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let file = File { folder, path };
        file.write(text);
        file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file another text.
    pub fn write(&self, text: &str) {
        std::fs::write(&self.path, text.replace("FIXTURE", fixture().to_str().unwrap())).unwrap();
    }

    pub fn rig(&self) -> Rig {
        Rig::new(&["--config"]).arg(&self.path)
    }
}

#[test]
fn every_app_of_a_file_runs_with_its_own_workers_settings_and_name() {
    let file = File::new(
        "rinit.toml",
        r#"
[defaults]
ready = "uptime"
min_uptime = "20ms"
env = { COLOUR = "red", SHAPE = "round" }

[[app]]
name = "web"
command = ["FIXTURE", "env=COLOUR", "env=SHAPE", "env=RINIT_WORKERS", "signals"]
instances = 2
env = { COLOUR = "green" }

[[app]]
command = "FIXTURE env=RINIT_APP signals"
"#,
    );
    let rig = file.rig().start();
    rig.until("all are ready", |out| out.count("is ready") == 3);
    for line in
        ["web-0 | COLOUR=green", "web-1 | SHAPE=round", "web-1 | RINIT_WORKERS=2", "fixture-0 | RINIT_APP=fixture"]
    {
        let is_same = |printed: &String| printed.split_whitespace().eq(line.split_whitespace());
        rig.until(line, |out| out.stdout.iter().any(is_same));
    }
    assert_eq!(rig.workers().len(), 3);
    rig.signal("HUP");
    rig.until("both apps are reloaded", |out| out.count("reload to generation 2 done") == 2);
    rig.until("every new worker is up", |out| out.count("| up ") == 6);
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().count("got SIGTERM"), 6);
}

#[test]
fn the_container_ends_when_every_app_has_ended_with_the_highest_code() {
    let file = File::new(
        "rinit.json",
        r#"{ "defaults": { "restart": "never", "on_exit": "ignore" }, "app": [
            { "name": "one", "command": ["FIXTURE", "exit=3"] }, { "name": "two", "command": ["FIXTURE", "after=300", "say=last"] } ] }"#,
    );
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 3);
    assert!(rig.output().has("two-0 | last"));
}

#[test]
fn raw_lines_of_two_apps_with_one_worker_each_come_through_the_log() {
    let app = |name| {
        format!("[[app]]\nname = \"{name}\"\nrestart = \"never\"\ncommand = [\"FIXTURE\", \"say={name}\", \"state\"]\n")
    };
    let file = File::new("f.toml", &format!("log = \"raw\"\n{}{}", app("a"), app("b")));
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 0, "{:?}", rig.output());
    let mut lines: Vec<String> = rig.output().stdout.into_iter().filter(|line| line.len() == 1).collect();
    lines.sort();
    assert_eq!(lines, ["a", "b"]);
}

#[test]
fn a_worker_has_the_directory_mask_nice_value_limits_and_variables_of_the_file() {
    let file = File::new("f.toml", "");
    let folder = file.folder.path().to_str().unwrap();
    std::fs::write(file.folder.path().join("env"), "FROM=file\nBOTH=file\n").unwrap();
    let text = format!(
        r#"
[[app]]
name = "a"
command = ["sh", "-c", "echo $FROM $BOTH; echo $(pwd) $(umask) $(nice) $(ulimit -Sn) $(ulimit -Hn) $(ulimit -c)"]
restart = "never"
cwd = "{folder}"
umask = "027"
nice = 7
limits = {{ nofile = "100:200", core = 0 }}
env_file = ["{folder}/env"]
env = {{ BOTH = "key" }}
"#
    );
    std::fs::write(&file.path, text).unwrap();
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 0);
    assert_eq!(rig.output().stdout, ["a-0   | file key".to_owned(), format!("a-0   | {folder} 0027 7 100 200 0")]);
}

#[test]
fn a_probe_by_command_has_the_directory_and_mask_of_its_worker() {
    let file = File::new("f.toml", "");
    let folder = file.folder.path().to_str().unwrap();
    std::fs::write(file.folder.path().join("check"), "[ $(umask) = 0027 ]").unwrap();
    let text = format!(
        "[[app]]\nname = \"a\"\ncommand = \"FIXTURE wait\"\ncwd = \"{folder}\"\numask = \"027\"\nready = \"exec:sh ./check\"\n"
    );
    file.write(&text);
    let rig = file.rig().start();
    rig.until("its probe has passed", |out| out.told("a-0", "is ready"));
    rig.signal("TERM");
    assert_eq!(rig.wait(), 0);
}

#[test]
fn a_missing_working_directory_is_named_and_the_command_counts_as_not_executable() {
    let file = File::new("f.toml", "[[app]]\nname = \"a\"\ncommand = \"FIXTURE up\"\ncwd = \"/none/such\"\n");
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 126);
    assert!(rig.output().has("in its working directory (cwd): No such file"), "{:?}", rig.output());
}

#[test]
fn shell_syntax_runs_under_a_shell_which_is_told() {
    let file = File::new(
        "f.toml",
        "[[app]]\nname = \"a\"\nrestart = \"never\"\nenv = { X = \"y\" }\ncommand = \"echo got $X\"\n",
    );
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 0);
    let out = rig.output();
    assert!(
        out.has("a-0   | got y") && out.has("f.toml:5:11: the command has shell syntax, so sh -c runs it"),
        "{out:?}"
    );
}

#[test]
fn faults_of_a_file_keep_everything_from_starting() {
    let file = File::new("f.toml", "[[app]]\ncommand = \"FIXTURE up\"\nstop_timout = \"5s\"\nready = \"soon\"\n");
    let rig = file.rig().start();
    assert_eq!(rig.wait(), 64);
    let out = rig.output();
    assert!(out.has("f.toml:3:1: stop_timout is no setting; did you mean stop_timeout?"), "{out:?}");
    assert!(out.has("f.toml:4:9: ready=\"soon\": allowed: auto") && out.stdout.is_empty(), "{out:?}");
}

#[test]
fn config_check_tells_faults_or_apps_and_runs_nothing() {
    let check = |file: &File| {
        let output = Command::new(rinit()).args(["config", "--check"]).arg(&file.path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = check(&File::new(
        "f.toml",
        "[[app]]\ncommand = \"node a.js\"\ninstances = 2\n[[app]]\nname=\"b\"\ncommand=\"x\"\n",
    ));
    assert_eq!(code, 0);
    assert!(text.ends_with("f.toml can be used: a (2 workers), b (1 worker)\n"), "{text}");
    let (code, text) =
        check(&File::new("f.json", "{\"app\": [{\"command\": \"x\", \"backoff\": \"1s\"}], \"web\": \"x\"}"));
    assert_eq!(code, 64);
    assert!(text.contains("cannot be used, for 2 reasons:\n"), "{text}");
    assert!(text.contains("f.json:1:38: backoff=\"1s\": allowed: MIN..MAX"), "{text}");
    let (code, text) = check(&File::new("f.toml", "log = \"json\"\n"));
    assert!(code == 64 && text.contains("there is no app in it"), "{text}");
}
