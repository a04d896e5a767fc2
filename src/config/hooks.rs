//! Parses hooks: the commands that rinit runs at certain moments of a worker's life.

use super::duration::duration;
use super::reader::Value;
use super::shell;
use std::time::Duration;

/// The time that a hook may take, unless it is given.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The hooks of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hooks {
    /// Runs before a worker is started.
    pub(super) pre_start: Option<Vec<String>>,
    /// Runs when a worker is ready.
    pub(super) post_ready: Option<Vec<String>>,
    /// Runs before a worker is asked to stop.
    pub(super) pre_stop: Option<Vec<String>>,
    /// Runs when a worker has ended.
    pub(super) post_exit: Option<Vec<String>>,
    /// Runs when a worker has failed for good.
    pub(super) on_failed: Option<Vec<String>>,
    /// The time that each may take.
    pub(crate) timeout: Duration,
}

/// One line of a file's `hooks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HookSetting {
    /// A moment, and the command to run.
    Command(Moment, Vec<String>),
    /// The time that each may take.
    Timeout(Duration),
}

/// The moment at which a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before a worker is started. When the hook fails, it is not.
    PreStart,
    /// When it is ready.
    PostReady,
    /// Before it is asked to stop.
    PreStop,
    /// When it has ended.
    PostExit,
    /// When it has failed for good.
    OnFailed,
}

impl Moment {
    /// Its name, as the file has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Moment::PreStart => "pre_start",
            Moment::PostReady => "post_ready",
            Moment::PreStop => "pre_stop",
            Moment::PostExit => "post_exit",
            Moment::OnFailed => "on_failed",
        }
    }
}

impl Hooks {
    /// The command for that moment.
    pub(crate) fn command(&self, moment: Moment) -> Option<&[String]> {
        let command = match moment {
            Moment::PreStart => &self.pre_start,
            Moment::PostReady => &self.post_ready,
            Moment::PreStop => &self.pre_stop,
            Moment::PostExit => &self.post_exit,
            Moment::OnFailed => &self.on_failed,
        };
        command.as_deref()
    }

    /// The hooks of these lines; of two for the same moment, the last.
    pub(super) fn of(settings: Vec<HookSetting>) -> Hooks {
        let mut hooks = Hooks {
            pre_start: None,
            post_ready: None,
            pre_stop: None,
            post_exit: None,
            on_failed: None,
            timeout: DEFAULT_TIMEOUT,
        };
        for setting in settings {
            match setting {
                HookSetting::Timeout(timeout) => hooks.timeout = timeout,
                HookSetting::Command(moment, command) => {
                    let hook = match moment {
                        Moment::PreStart => &mut hooks.pre_start,
                        Moment::PostReady => &mut hooks.post_ready,
                        Moment::PreStop => &mut hooks.pre_stop,
                        Moment::PostExit => &mut hooks.post_exit,
                        Moment::OnFailed => &mut hooks.on_failed,
                    };
                    *hook = Some(command);
                }
            }
        }
        hooks
    }
}

impl Value for HookSetting {
    const FORM: &'static str = "MOMENT=COMMAND";
    fn parse(text: &str) -> Result<HookSetting, String> {
        const ALLOWED: &str = "allowed: pre_start, post_ready, pre_stop, post_exit, on_failed, timeout";
        let (name, value) = text.split_once('=').ok_or(ALLOWED)?;
        let moment = match name.replace('-', "_").as_str() {
            "pre_start" => Moment::PreStart,
            "post_ready" => Moment::PostReady,
            "pre_stop" => Moment::PreStop,
            "post_exit" => Moment::PostExit,
            "on_failed" => Moment::OnFailed,
            "timeout" => {
                return match duration(value)? {
                    Duration::ZERO => Err("a hook takes more than no time; allowed: more than 0, such as 30s".into()),
                    time => Ok(HookSetting::Timeout(time)),
                };
            }
            _ => return Err(format!("{name:?} is no hook; {ALLOWED}")),
        };
        Ok(HookSetting::Command(moment, shell::split(value)?.into_words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_a_command_and_the_last_of_a_moment_counts() {
        let lines = ["pre_start=./migrate --all", "pre-start=echo \"$RINIT_WORKER\"", "timeout=5s"];
        let hooks = Hooks::of(lines.iter().map(|line| HookSetting::parse(line).unwrap()).collect());
        assert_eq!(hooks.pre_start.unwrap(), ["sh", "-c", "exec echo \"$RINIT_WORKER\""]);
        assert_eq!((hooks.pre_stop, hooks.timeout), (None, Duration::from_secs(5)));
        for line in ["before=x", "pre_start=", "pre_start", "timeout=0", "timeout=5"] {
            assert!(HookSetting::parse(line).is_err(), "{line}");
        }
    }
}
