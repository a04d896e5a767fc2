//! Checks the promises of `ARCHITECTURE.md` against the source.

use rinit::config::{
    APP_SETTINGS, COMMON_SETTINGS, CONTAINER_SETTINGS, Faults, INIT_SETTINGS, Layer, NO_DEFAULT, PROGRAM_SETTINGS,
    Scope, Setting, for_supervisor, parse_file,
};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The code without its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn the_core_knows_nothing_but_std_and_itself() {
    const FORBIDDEN: [&str; 14] = [
        "nix::",
        "libc::",
        "tokio",
        "tracing",
        "serde",
        "crate::",
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "std::io",
        "std::env",
        "Instant",
        "SystemTime",
    ];
    for (path, text) in sources("src/core") {
        for line in code(&text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for word in FORBIDDEN {
                assert!(!line.contains(word), "{}: {word} in {line:?}", path.display());
            }
        }
    }
}

/// The fleet is read to be shown (`status.rs`), and asked what is due and whether it has finished. What is to be done, it
/// says itself: nothing else may follow from its state.
#[test]
fn the_shell_does_not_read_the_fleet_to_decide() {
    let in_the_loop = ["handle(", "next_deadline(", "end("];
    for (path, text) in sources("src/supervisor") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let allowed: &[&str] = match name {
            "status.rs" => continue,
            "event_loop.rs" => &in_the_loop,
            // What a call is answered with, and that a container which stops reads no settings.
            "reconfigure.rs" => &["admit(", "apps(", "is_stopping("],
            "triggers.rs" => &["is_stopping("],
            "sampling.rs" => &["wanted_usage("],
            _ => &[],
        };
        for line in code(&text).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for call in line.split("fleet.").skip(1) {
                assert!(allowed.iter().any(|known| call.starts_with(known)), "{}: {line:?}", path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_src_sys_alone() {
    for (path, text) in sources("src") {
        let is_sys = path.starts_with("src/sys");
        assert!(is_sys || !text.contains("allow(unsafe_code)"), "{}", path.display());
    }
}

#[test]
fn no_source_file_is_longer_than_a_reader_can_hold() {
    for (path, text) in sources("src") {
        let lines = code(&text).lines().count();
        assert!(lines <= 400, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_readme_lists_every_setting_as_it_is() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for table in [APP_SETTINGS, CONTAINER_SETTINGS, COMMON_SETTINGS, INIT_SETTINGS, PROGRAM_SETTINGS] {
        let table = table.iter().map(row).collect::<String>();
        assert!(readme.contains(&table), "README.md must hold this table:\n{table}");
    }
}

/// Editors find it by `"$schema"` in JSON, and by `#:schema` in TOML.
#[test]
fn the_schema_of_the_file_of_settings_is_as_the_tables_say() {
    let path = root().join("docs/rinit.schema.json");
    let schema = rinit::config::schema();
    if fs::read_to_string(&path).unwrap_or_default() != schema {
        let made = root().join("target/rinit.schema.json");
        fs::write(&made, schema).unwrap();
        panic!("docs/rinit.schema.json must be as {} is now", made.display());
    }
}

/// The files of settings in the documents and examples, each with its name.
fn files_of_settings() -> Vec<(String, String)> {
    let mut found = vec![];
    for path in ["README.md", "examples/apps/rinit.toml"].map(|path| root().join(path)) {
        found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
    }
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push((path.display().to_string(), fs::read_to_string(path).unwrap()));
        }
    }
    let mut files = vec![];
    for (name, text) in found {
        if name.ends_with(".toml") {
            files.push((name, text));
            continue;
        }
        for (at, block) in text.split("```").enumerate().filter(|(at, _)| at % 2 == 1) {
            let (format, block) = block.split_once('\n').unwrap();
            let is_settings = block.contains("[[app]]") || block.contains("\"apps\"");
            if matches!(format, "toml" | "json") && is_settings {
                files.push((format!("{name}-{at}.{format}"), block.to_owned()));
            }
        }
    }
    files
}

#[test]
fn every_file_of_settings_in_the_documents_can_be_used() {
    let files = files_of_settings();
    assert!(files.len() > 6, "{files:?}");
    for (name, text) in files {
        assert_eq!(read(&name, &text).concat(), [""; 0], "{text}");
    }
}

/// The faults of a file of settings, and the warnings.
fn read(name: &str, text: &str) -> [Vec<String>; 2] {
    let mut faults = Faults::default();
    let file = parse_file(Path::new(name), text, &Layer::default(), &mut faults);
    let config = for_supervisor(&Layer::default(), &file, &[], Path::new("/"), &mut faults);
    [faults.lines(), config.warnings]
}

/// The settings in the first and second column of the pages for those who come from another supervisor.
#[test]
fn the_migration_pages_name_settings_that_there_are() {
    let keys: Vec<String> = [APP_SETTINGS, CONTAINER_SETTINGS, COMMON_SETTINGS, PROGRAM_SETTINGS]
        .into_iter()
        .flatten()
        .map(Setting::key)
        .collect();
    let flags: Vec<&str> = rinit::config::all().map(|setting| setting.flag).collect();
    let hooks = ["pre_start", "post_ready", "pre_stop", "post_exit", "on_failed"];
    for page in ["pm2", "supervisord", "s6", "gunicorn", "tini"] {
        let text = fs::read_to_string(root().join(format!("docs/from-{page}.md"))).unwrap();
        for row in text.lines().filter(|line| line.starts_with("| ") && !line.contains("|---")) {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
            let Some(ours) = cells.get(if page == "tini" { 2 } else { 1 }) else { continue };
            for code in ours.split('`').skip(1).step_by(2) {
                let word = code.split([' ', '=']).next().unwrap();
                if let Some(flag) = word.strip_prefix("--") {
                    assert!(flag.is_empty() || flags.contains(&flag), "{page}: {code}");
                } else if code.contains(" = ")
                    || word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                {
                    assert!(keys.iter().any(|key| key == word) || hooks.contains(&word), "{page}: {code}");
                    if code.contains(" = ") && word != "user" {
                        let text =
                            format!("[[app]]\nname = \"db\"\ncommand = \"db\"\n[[app]]\ncommand = \"app\"\n{code}\n");
                        // A warning may be about the lack of the others of its row.
                        let [faults, _] = read(&format!("{page}.toml"), &text);
                        assert_eq!(faults, [""; 0], "{page}: {code}");
                    }
                }
            }
        }
    }
}

fn row(setting: &Setting) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let letter = setting.letter.map_or(String::new(), |letter| format!("-{letter}, "));
    let form = if setting.form.is_empty() { String::new() } else { format!(" {}", cell(setting.form)) };
    let repeats = if setting.repeats { " (repeats)" } else { "" };
    let default = (setting.default)();
    if setting.scope == Scope::Program {
        return format!("| `{}` | {default} | {} |\n", setting.key(), cell(setting.help));
    }
    let default = if default == NO_DEFAULT { default } else { format!("`{}`", cell(&default)) };
    format!("| `{letter}--{}{form}`{repeats} | {default} | {} |\n", setting.flag, cell(setting.help))
}

#[test]
fn every_room_of_the_code_map_is_there() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for line in map.lines().filter(|line| line.starts_with("src/") || line.starts_with("tests/")) {
        let place = line.split_whitespace().next().unwrap();
        assert!(root().join(place).exists(), "{place} is on the map and not in the tree");
    }
    for (path, _) in sources("src") {
        let folder = path.parent().unwrap().display().to_string() + "/";
        let on_the_map = map.contains(&folder) || map.contains(&path.display().to_string());
        assert!(on_the_map, "{} is in the tree and not on the map", path.display());
    }
}

/// A release renames the head "Unreleased" to "VERSION (DATE)"; `release/notes` reads that section.
#[test]
fn the_changelog_begins_with_what_comes_next_or_with_this_version() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let versions = headings.iter().filter(|heading| **heading != "Unreleased").map(|heading| {
        let dated = heading.split_once(" (").and_then(|(version, rest)| Some((version, rest.strip_suffix(')')?)));
        let (version, date) = dated.unwrap_or_else(|| panic!("{heading:?} is neither Unreleased nor VERSION (DATE)"));
        assert_eq!(date.split('-').map(str::len).collect::<Vec<_>>(), [4, 2, 2], "{heading:?} has no date");
        numbers(version)
    });
    let versions: Vec<_> = versions.collect();
    let this = numbers(env!("CARGO_PKG_VERSION"));
    assert!(versions.is_sorted_by(|newer, older| newer > older), "{headings:?}");
    match headings.first() {
        Some(&"Unreleased") => {
            assert!(versions.iter().all(|version| *version < this), "{this:?} is released: {headings:?}")
        }
        _ => assert_eq!(versions.first(), Some(&this), "{headings:?}"),
    }
}

fn numbers(version: &str) -> [u32; 3] {
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().expect("a number")).collect();
    parts.try_into().expect("three numbers")
}

#[test]
fn the_api_describes_every_kind_of_event() {
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    let api: serde_json::Value = serde_json::from_str(&read("src/control/openapi.json")).unwrap();
    let described: Vec<_> =
        api["components"]["schemas"]["Event"]["properties"]["kind"]["enum"].as_array().unwrap().clone();
    let journal = read("src/control/journal.rs");
    let arms = journal.split("fn kind_of").nth(1).unwrap().split("\n}").next().unwrap();
    let kinds: Vec<_> = arms.split("=> (\"").skip(1).map(|arm| arm.split('"').next().unwrap()).collect();
    assert!(kinds.len() > 20, "{kinds:?}");
    assert_eq!(described, kinds);
}
