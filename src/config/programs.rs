//! Lists the programs that start others (`env`, `nice`, `gosu`) and those that run scripts, with the options that take a value.

/// A program that starts the command in its arguments.
pub(super) struct Wrapper {
    pub(super) names: &'static [&'static str],
    pub(super) options: Options,
    /// The number of words between its options and the command: `gosu USER command`.
    pub(super) operands: usize,
    /// True if it becomes the command (execve(2)) or starts it as a child.
    pub(super) execs: bool,
}

/// A program that runs a script or program text.
pub(super) struct Interpreter {
    pub(super) names: &'static [&'static str],
    pub(super) options: Options,
    /// The letters of options that are followed by program text, or with which no script is run.
    pub(super) text: &'static str,
    /// The long forms of these.
    pub(super) text_long: &'static [&'static str],
    /// The letter of the option that names a module or a file to run.
    pub(super) target: &'static str,
    /// Words before the script that are not the script: `deno run app.ts`.
    pub(super) subcommands: &'static [&'static str],
}

/// The options of a program that take a value.
pub(super) struct Options {
    /// Letters with the value in the same word or the next one: `-n 5`, `-n5`.
    pub(super) values: &'static str,
    /// Letters with the value in the same word only: `-Mstrict`.
    pub(super) attached: &'static str,
    /// Long options with the value in the next word.
    pub(super) long: &'static [&'static str],
}

const fn options(values: &'static str, attached: &'static str, long: &'static [&'static str]) -> Options {
    Options { values, attached, long }
}

const fn wrapper(names: &'static [&'static str], options: Options, operands: usize, execs: bool) -> Wrapper {
    Wrapper { names, options, operands, execs }
}

pub(super) const WRAPPERS: &[Wrapper] = &[
    wrapper(&["env"], options("uCa", "", &["unset", "chdir", "argv0"]), 0, true),
    wrapper(&["nice"], options("n", "", &["adjustment"]), 0, true),
    wrapper(&["ionice"], options("cn", "", &["class", "classdata"]), 0, true),
    wrapper(
        &["setpriv"],
        options(
            "",
            "",
            &[
                "reuid",
                "regid",
                "ruid",
                "rgid",
                "euid",
                "egid",
                "groups",
                "inh-caps",
                "ambient-caps",
                "bounding-set",
                "securebits",
                "pdeathsig",
                "selinux-label",
                "apparmor-profile",
                "landlock-access",
                "landlock-rule",
                "seccomp-filter",
                "ptracer",
            ],
        ),
        0,
        true,
    ),
    wrapper(&["gosu", "su-exec", "s6-setuidgid", "setuidgid"], options("", "", &[]), 1, true),
    wrapper(&["chpst"], options("uUbedomrtnplfc/", "", &[]), 0, true),
    wrapper(&["nohup", "ddtrace-run", "opentelemetry-instrument"], options("", "", &[]), 0, true),
    wrapper(&["stdbuf"], options("ioe", "", &["input", "output", "error"]), 0, true),
    wrapper(&["taskset", "chrt"], options("", "", &[]), 1, true),
    wrapper(&["setsid"], options("", "", &[]), 0, false),
    wrapper(&["timeout"], options("ks", "", &["kill-after", "signal"]), 1, false),
    wrapper(&["sudo", "doas"], options("ugCDhpRTUrt", "", &["user", "group", "chdir", "host"]), 0, false),
    wrapper(&["tini", "tini-static", "docker-init"], options("pe", "", &[]), 0, false),
    wrapper(&["dumb-init"], options("r", "", &["rewrite"]), 0, false),
    wrapper(&["catatonit"], options("", "", &[]), 0, false),
];

pub(super) const NODE: Interpreter = Interpreter {
    names: &["node", "nodejs"],
    // Those of Node 18 to 26 (`node --help`). V8's own options have their values in the same word.
    options: options(
        "rC",
        "",
        &[
            "allow-fs-read",
            "allow-fs-write",
            "bench-isolation",
            "bench-name-pattern",
            "bench-reporter",
            "bench-reporter-destination",
            "bench-samples",
            "bench-warmup",
            "build-snapshot-config",
            "conditions",
            "cpu-prof-dir",
            "cpu-prof-interval",
            "cpu-prof-name",
            "debug-port",
            "diagnostic-dir",
            "disable-proto",
            "disable-warning",
            "dns-result-order",
            "env-file",
            "env-file-if-exists",
            "es-module-specifier-resolution",
            "experimental-config-file",
            "experimental-default-type",
            "experimental-loader",
            "experimental-package-map",
            "experimental-policy",
            "experimental-sea-config",
            "experimental-specifier-resolution",
            "experimental-test-isolation",
            "experimental-test-tag-filter",
            "heap-prof-dir",
            "heap-prof-interval",
            "heap-prof-name",
            "heapsnapshot-near-heap-limit",
            "heapsnapshot-signal",
            "icu-data-dir",
            "import",
            "input-type",
            "inspect-port",
            "inspect-publish-uid",
            "loader",
            "localstorage-file",
            "max-http-header-size",
            "max-old-space-size-percentage",
            "network-family-autoselection-attempt-timeout",
            "openssl-config",
            "policy-integrity",
            "redirect-warnings",
            "report-dir",
            "report-directory",
            "report-filename",
            "report-signal",
            "require",
            "secure-heap",
            "secure-heap-min",
            "snapshot-blob",
            "test-concurrency",
            "test-coverage-branches",
            "test-coverage-exclude",
            "test-coverage-functions",
            "test-coverage-include",
            "test-coverage-lines",
            "test-global-setup",
            "test-isolation",
            "test-name-pattern",
            "test-random-seed",
            "test-reporter",
            "test-reporter-destination",
            "test-rerun-failures",
            "test-shard",
            "test-skip-pattern",
            "test-timeout",
            "title",
            "tls-cipher-list",
            "tls-keylog",
            "trace-event-categories",
            "trace-event-file-pattern",
            "trace-require-module",
            "unhandled-rejections",
            "use-largepages",
            "v8-pool-size",
            "vfs-load",
            "vfs-mount",
            "watch-kill-signal",
            "watch-path",
        ],
    ),
    text: "epci",
    text_long: &["eval", "print", "check", "interactive", "test", "run", "build-sea"],
    target: "",
    subcommands: &[],
};

pub(super) const INTERPRETERS: &[Interpreter] = &[
    NODE,
    Interpreter {
        names: &["sh", "bash", "dash", "ash", "zsh", "ksh"],
        options: options("oO", "", &["rcfile", "init-file"]),
        text: "cs",
        text_long: &[],
        target: "",
        subcommands: &[],
    },
    Interpreter {
        names: &["python", "pypy"],
        options: options("WXQ", "", &["check-hash-based-pycs"]),
        text: "c",
        text_long: &[],
        target: "m",
        subcommands: &[],
    },
    Interpreter {
        names: &["ruby"],
        options: options("IrCEX", "FKTWix0", &["encoding", "external-encoding", "internal-encoding"]),
        text: "e",
        text_long: &[],
        target: "",
        subcommands: &[],
    },
    Interpreter {
        names: &["perl"],
        options: options("I", "MmiFCDxV0", &[]),
        text: "eE",
        text_long: &[],
        target: "",
        subcommands: &[],
    },
    Interpreter {
        names: &["php"],
        options: options("cdtSzT", "", &["php-ini", "define", "docroot", "server", "zend-extension"]),
        text: "rBREF",
        text_long: &["run", "process-begin", "process-code", "process-end", "process-file"],
        target: "f",
        subcommands: &[],
    },
    Interpreter {
        names: &["bun", "deno", "tsx", "ts-node"],
        options: options("rcL", "", &["config", "import-map", "require", "preload", "tsconfig", "project", "env-file"]),
        text: "ep",
        text_long: &["eval", "print"],
        target: "",
        subcommands: &["run", "serve"],
    },
];
