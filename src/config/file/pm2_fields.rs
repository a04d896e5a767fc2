//! Lists the fields of pm2's ecosystem file, and the meaning of each for rinit.
//!
//! Source: `lib/API/schema.json` of pm2 7.0.

/// The meaning of a field.
pub(super) enum Meaning {
    /// The setting, in the same form.
    Same(&'static str),
    /// The setting, from a number of milliseconds.
    Milliseconds(&'static str),
    /// Several fields make one setting, or the value decides what is made of it.
    Special,
    /// Nothing that must be told: it concerns pm2 itself, or rinit does so without being asked.
    Silent,
    /// What to do instead. The app runs without it.
    Instead(&'static str),
    /// What to do instead. The app would not run as it should.
    Refused(&'static str),
}

use Meaning::{Instead, Milliseconds, Refused, Same, Silent, Special};

const OUTPUT: &str = "rinit writes all lines to its own output, for docker logs";
const PM2_ITSELF: Meaning = Silent;

/// The fields of an app. Names of one meaning stand together.
pub(super) const FIELDS: &[(&[&str], Meaning)] = &[
    (&["name"], Same("name")),
    (&["script", "exec", "cmd", "command"], Special),
    (&["args"], Special),
    (&["interpreter", "exec_interpreter"], Special),
    (&["node_args", "interpreter_args", "interpreterArgs"], Special),
    (&["cwd"], Same("cwd")),
    (&["env"], Special),
    (&["port"], Special),
    (&["filter_env"], Special),
    (&["instances"], Special),
    (&["exec_mode"], Silent),
    (&["increment_var", "instance_var"], Special),
    (&["wait_ready"], Special),
    (&["listen_timeout"], Milliseconds("ready-timeout")),
    (&["kill_timeout"], Milliseconds("stop-timeout")),
    (&["shutdown_with_message"], Same("stop-message")),
    (&["autorestart"], Special),
    (&["stop_exit_codes"], Same("stop-exit-codes")),
    (&["max_restarts"], Same("max-restarts")),
    // What it decides, a stable life, is another setting of rinit's.
    (&["min_uptime"], Milliseconds("stable-after")),
    (&["restart_delay", "exp_backoff_restart_delay"], Special),
    (&["max_memory_restart"], Special),
    (&["cron_restart", "cron"], Special),
    (&["watch"], Special),
    (&["ignore_watch"], Same("ignore-watch")),
    (&["uid", "user", "gid"], Special),
    (&["log_type", "time", "log_date_format"], Special),
    (&["autostart"], Special),
    (&["source_map_support"], Special),
    (&["kill_retry_time", "merge_logs", "combine_logs", "disable_source_map_support", "execute_command"], Silent),
    (&["treekill"], Special),
    (
        &["vizion", "pmx", "automation", "trace", "disable_trace", "v8", "event_loop_inspector", "deep_monitoring"],
        PM2_ITSELF,
    ),
    (
        &[
            "windowsHide",
            "username",
            "io",
            "force",
            "write",
            "vizion_running",
            "instance_id",
            "km_link",
            "node_version",
        ],
        PM2_ITSELF,
    ),
    (&["watch_delay", "watch_options"], Instead("a reload waits until the changes have settled")),
    (&["namespace"], Instead("rinit has no namespaces: put the word into the name")),
    (
        &[
            "output",
            "out",
            "out_file",
            "out_log",
            "error",
            "err",
            "error_file",
            "err_file",
            "err_log",
            "log",
            "log_file",
        ],
        Instead(OUTPUT),
    ),
    (&["disable_logs"], Instead("send the lines away in the command: sh -c 'exec … > /dev/null'")),
    (&["pid", "pid_file"], Instead("rinit list shows the process numbers")),
    (&["append_env_to_name"], Instead("write the whole name")),
    (&["name_prefix", "post_update"], Instead("it is for deployments by pm2, which an image has behind it")),
    (&["install_url"], Refused("install the app in the image")),
];
