//! Builds the preloaded library (`src/ports/preload/library.rs` and its modules), and compresses all files that rinit carries: it,
//! the dashboard, the API's description, the script for Node (`src/embedded.rs`).
//!
//! The library is built for the same machine as rinit itself, and needs no more than rinit's own build: the compiler, `core`
//! and the linker.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

const SOURCE: &str = "src/ports/preload/library.rs";
const MODULES: &str = "src/ports/preload/library";
const PROTOCOL: &str = "src/ports/preload/protocol.rs";
const DESCRIPTION: &str = "src/control/openapi.json";
const NODE_SCRIPT: &str = "src/ports/node/worker.cjs";
const DASHBOARD: &str = "src/control/dashboard";
/// The parts of the dashboard's script, in their order.
const DASHBOARD_SCRIPT: [&str; 8] =
    ["format.js", "elements.js", "client.js", "graphs.js", "workers.js", "lines.js", "logs.js", "main.js"];
/// DEFLATE's best level.
const LEVEL: u8 = 10;

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build.rs");
    match build_library().and_then(|()| embed_texts()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("cannot build the files that rinit contains: {words}");
            ExitCode::FAILURE
        }
    }
}

/// Compresses the texts. Where there are none, this is a build of the dependencies alone.
fn embed_texts() -> Result<(), String> {
    let read = |path: &str| {
        println!("cargo:rerun-if-changed={path}");
        fs::read_to_string(path).unwrap_or_default()
    };
    let part = |name: &str| read(&format!("{DASHBOARD}/{name}"));
    let script = DASHBOARD_SCRIPT.map(part).concat();
    let page = part("page.html").replacen("/*style*/", &part("style.css"), 1).replacen("/*script*/", &script, 1);
    embed("dashboard.html", &page)?;
    embed("openapi.json", &minified(&read(DESCRIPTION)))?;
    embed("worker.cjs", &read(NODE_SCRIPT))
}

fn embed(name: &str, text: &str) -> Result<(), String> {
    let file = Path::new(&variable("OUT_DIR")?).join(format!("{name}.deflate"));
    fs::write(file, compressed(text.as_bytes())).map_err(|error| error.to_string())
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec(bytes, LEVEL)
}

/// A JSON text without the spaces between its parts.
fn minified(text: &str) -> String {
    let (mut dense, mut in_string, mut escaped) = (String::new(), false, false);
    for character in text.chars() {
        if in_string || !character.is_ascii_whitespace() {
            dense.push(character);
        }
        in_string ^= character == '"' && !escaped;
        escaped = in_string && character == '\\' && !escaped;
    }
    dense
}

fn build_library() -> Result<(), String> {
    let output = Path::new(&variable("OUT_DIR")?).join("preload.so");
    let packed = output.with_extension("so.deflate");
    let is_supported = ["x86_64", "aarch64"].contains(&variable("CARGO_CFG_TARGET_ARCH")?.as_str())
        && variable("CARGO_CFG_TARGET_OS")? == "linux"
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH")? == "64";
    let has_source = Path::new(SOURCE).exists();
    if !has_source {
        // This is a build of the dependencies alone. A file that never exists makes Cargo run this again the next time,
        // whatever the times of the files are then.
        println!("cargo:rerun-if-changed={SOURCE}.missing");
    }
    if !has_source || !is_supported {
        return fs::write(&packed, "").map_err(|error| error.to_string());
    }
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed={MODULES}");
    println!("cargo:rerun-if-changed={PROTOCOL}");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition=2024", "--crate-name=preload", "--crate-type=cdylib", "--target", &variable("TARGET")?]);
    rustc.args(["-Copt-level=z", "-Cpanic=abort", "-Ccodegen-units=1", "-Cstrip=symbols"]);
    // A thread that is cancelled while it waits in the library is unwound (`pthread_cancel(3)`).
    rustc.arg("-Cforce-unwind-tables=yes");
    // Also for musl, a library that the program's own loader accepts.
    rustc.args(["-Crelocation-model=pic", "-Ctarget-feature=-crt-static"]);
    // Every worker loads it: sections share pages, and none is protected after loading.
    rustc.args(["-Crelro-level=off"]);
    let linker = linker()?;
    // A C compiler passes options on to the linker, and must add none of its own.
    let bare = linker.as_deref().is_some_and(is_bare);
    let prefix = if bare { "" } else { "-Wl," };
    let options = ["--gc-sections", "--hash-style=both", "--build-id=none", "-znow", "-znoseparate-code"];
    rustc.args(options.map(|option| format!("-Clink-arg={prefix}{option}")));
    if !bare {
        rustc.arg("-Clink-arg=-nostdlib");
    }
    rustc.args(linker.map(|linker| format!("-Clinker={linker}")));
    let result = rustc.arg("-o").arg(&output).arg(SOURCE).output().map_err(|error| error.to_string())?;
    let words = String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        return Err(format!("{}\n{words}", result.status));
    }
    for line in words.lines() {
        println!("cargo:warning={line}");
    }
    fs::read(&output).and_then(|library| fs::write(packed, compressed(&library))).map_err(|error| error.to_string())
}

/// The linker of rinit itself, if it is not rustc's default.
fn linker() -> Result<Option<String>, String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    // rustc takes the last one that is given.
    let flag = flags.rsplit('\x1f').find_map(|flag| flag.strip_prefix("-C").unwrap_or(flag).strip_prefix("linker="));
    let named = flag.map(String::from).or(env::var("RUSTC_LINKER").ok());
    // rustc's default is `cc`, which links for the machine that it runs on. `cargo check` needs no linker, and must not need
    // one because of this library: rustc contains one.
    let is_foreign = variable("HOST")?.split('-').next() != Some(variable("CARGO_CFG_TARGET_ARCH")?.as_str());
    Ok(named.or(is_foreign.then(|| "rust-lld".into())))
}

/// True if it is a linker and not a compiler that calls one. rustc too decides that by the name: `rust-lld`, `ld.lld`,
/// `aarch64-linux-gnu-ld`.
fn is_bare(linker: &str) -> bool {
    let name = Path::new(linker).file_stem().and_then(|name| name.to_str());
    name.is_some_and(|name| ["ld", "lld", "rust-lld", "mold"].contains(&name) || name.ends_with("-ld"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
