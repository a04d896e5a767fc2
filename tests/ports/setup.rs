//! Installs the programs that the tests run and this repository does not hold: several versions of Node, Bun, Deno, npm
//! packages, Python packages, and a static program.
//!
//! Each set is installed once, by whichever test comes first, into `target/tmp/ports/`, under a lock that other test
//! processes wait for, in a folder named by a hash of its lock file. Nothing in there is ever changed; remove it and it
//! is made again.

use crate::harness::lacking;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A file of `tests/ports/apps/`.
pub fn app(name: &str) -> String {
    here().join("apps").join(name).display().to_string()
}

/// A program on `PATH`; skips the test that asks for it when it is not there.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        lacking(&format!("there is no {name}"));
    }
    found
}

/// Node as the machine has it.
pub fn node() -> Option<String> {
    Some(program("node")?.display().to_string())
}

/// `node18` and so on, `bun` or `deno`, by the name that `package.json` gives it.
pub fn runtime(name: &str) -> Option<String> {
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let folder = npm()?.join(format!("{name}-{machine}"));
    let program = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let file = [folder.join("bin").join(program), folder.join(program)].into_iter().find(|file| file.is_file());
    if file.is_none() {
        lacking(&format!("npm carries no {name} for {machine}"));
    }
    Some(file?.display().to_string())
}

/// The folder `node_modules`.
pub fn npm() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = |folder: &Path| {
        for name in ["package.json", "package-lock.json", ".npmrc"] {
            fs::copy(here().join(name), folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        }
        // No package's script is run: the programs are files of the packages.
        run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder))
    };
    MADE.get_or_init(|| Some(install("npm", &["package.json", "package-lock.json"], make)?.join("node_modules")))
        .clone()
}

/// The folder of programs of a Python with gunicorn, hypercorn, uvicorn and Flask.
pub fn venv() -> Option<PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = |folder: &Path| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--require-hashes", "-r"];
        run(Command::new(folder.join("bin/python")).args(pip).arg(here().join("requirements.txt")))
    };
    MADE.get_or_init(|| Some(install("python", &["requirements.txt"], make)?.join("bin"))).clone()
}

/// A program that is linked statically: `apps/static.rs`.
pub fn static_program() -> Option<String> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = |folder: &Path| {
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let (linker, is_static) = ("linker=rust-lld", "target-feature=+crt-static");
        let compile = ["--edition", "2024", "--target", &target, "-C", linker, "-C", is_static, "-o"];
        run(Command::new("rustc").args(compile).arg(folder.join("static")).arg(app("static.rs")))
    };
    let made = MADE.get_or_init(|| Some(install("static", &["apps/static.rs"], make)?.join("static")));
    Some(made.as_ref()?.display().to_string())
}

/// A program that makes the calls which its words name: `apps/calls.c`.
pub fn c_program() -> Option<String> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = |folder: &Path| {
        let options = ["-O1", "-pthread", "-Wall", "-o"];
        run(Command::new("cc").args(options).arg(folder.join("calls")).arg(app("calls.c")))
    };
    let made = MADE.get_or_init(|| Some(install("calls", &["apps/calls.c"], make)?.join("calls")));
    Some(made.as_ref()?.display().to_string())
}

/// Compiles for a machine without a compiler: `tests/engines/aarch64`.
#[test]
fn a_static_program_can_be_compiled() {
    let made = static_program();
    assert!(made.iter().all(|path| Path::new(path).exists()), "{made:?}");
}

/// Installs for a machine on which this takes longer than a test may: `tests/engines/aarch64`.
#[test]
fn programs_can_be_installed() {
    let made = [npm(), venv(), c_program().map(PathBuf::from)];
    assert!(made.iter().flatten().all(|path| path.exists()), "{made:?}");
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ports")
}

/// The folder that `make` fills, for these files as they are now.
fn install(what: &str, keys: &[&str], make: impl Fn(&Path) -> Result<(), String>) -> Option<PathBuf> {
    let mut hash = DefaultHasher::new();
    keys.iter().for_each(|key| fs::read(here().join(key)).unwrap().hash(&mut hash));
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
    fs::create_dir_all(&all).unwrap();
    let folder = all.join(format!("{what}-{:016x}", hash.finish()));
    let done = folder.join(".done");
    let lock = File::create(all.join(format!("{what}.lock"))).unwrap();
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap();
    if !done.exists() {
        // The files of another lock file, or of an interrupted installation: hundreds of megabytes.
        for entry in fs::read_dir(&all).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{what}-")) {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        fs::create_dir_all(&folder).unwrap();
        if let Err(why) = make(&folder) {
            lacking(&format!("what {what} brings cannot be installed: {why}"));
            return None;
        }
        fs::write(done, "").unwrap();
    }
    Some(folder)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
}
