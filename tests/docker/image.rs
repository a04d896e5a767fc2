//! The image that others copy rinit from.

use crate::engine::{Container, docker, engine};
use std::process::{Command, Stdio};

#[test]
fn the_image_holds_rinit_and_nothing_else() {
    let Some(engine) = engine() else { return };
    let container = Container::create(&[], &engine.rinit, &[]);
    let mut export = Command::new("docker").args(["export", &container.name]).stdout(Stdio::piped()).spawn().unwrap();
    let list = Command::new("tar").args(["-t"]).stdin(export.stdout.take().unwrap()).output().unwrap();
    assert!(export.wait().unwrap().success() && list.status.success());
    let list = String::from_utf8(list.stdout).unwrap();
    // The engine adds to every container what it mounts over.
    const ENGINES: [&str; 5] = [".dockerenv", "dev/", "etc/", "proc/", "sys/"];
    let own = list.lines().filter(|path| !ENGINES.iter().any(|start| path.starts_with(start)));
    assert_eq!(own.collect::<Vec<_>>(), ["rinit"], "{list}");
}

#[test]
fn the_image_runs_without_a_shell_or_a_libc() {
    let Some(engine) = engine() else { return };
    let ran = engine.run(&[], &engine.rinit, &["--version"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, concat!("rinit ", env!("CARGO_PKG_VERSION"), "\n")));
    let ran = engine.run(&[], &engine.rinit, &["-i", "1", "--restart", "never", "--", "/rinit", "--version"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, concat!("rinit-0 | rinit ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn the_binary_is_within_its_budget() {
    let Some(engine) = engine() else { return };
    let size = std::fs::metadata(&engine.binary).unwrap().len();
    assert!(size <= 4_000_000, "{size} bytes");
    let image = docker(&["image", "inspect", "--format", "{{.Size}}", &engine.rinit]);
    assert_eq!(image.stdout.trim(), size.to_string(), "the image's size is the binary's");
}
