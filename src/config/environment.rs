//! Reads settings from `RINIT_*` variables, and knows which other variables of that form are not rinit's settings.

use super::faults::Faults;
use super::given::Given;
use super::layer::Layer;
use super::settings::{self, PREFIX, Setting};
use std::ffi::OsString;

/// Variables that rinit sets for workers; a rinit inside a worker sees them too.
const SET_FOR_WORKERS: [&str; 4] = ["RINIT_APP", "RINIT_WORKER", "RINIT_WORKERS", "RINIT_PORTS"];

/// Variables by which sockets and channels are handed to a process. Those that rinit itself got are not its workers', and
/// rinit sets a worker's own.
pub const HANDED_OVER: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "NODE_CHANNEL_FD",
    "NODE_CHANNEL_SERIALIZATION_MODE",
    "NODE_UNIQUE_ID",
];

/// True if a variable is rinit's to set: a user's value for workers would be lost, or would break what rinit hands over.
pub fn is_reserved(key: &str) -> bool {
    let is_own = key.starts_with(PREFIX) && !is_kubernetes_variable(key);
    is_own || key == "NODE_APP_INSTANCE" || HANDED_OVER.contains(&key)
}

/// Returns the settings that the environment gives, and a warning for each variable that looks like a setting and is none.
/// A variable without a value is not a setting; in one that repeats, values are separated by commas.
pub fn from_environment(environment: &[(OsString, OsString)], faults: &mut Faults) -> (Layer, Vec<String>) {
    let mut layer = Layer::default();
    let mut warnings = Vec::new();
    for (key, value) in environment {
        let Some(key) = key.to_str().filter(|key| key.starts_with(PREFIX)) else { continue };
        let setting = settings::all().find(|setting| setting.variable() == key);
        match (setting, value.to_str()) {
            (_, Some("")) => {}
            (Some(setting), Some(value)) => {
                let values = if setting.repeats { value.split(',').collect() } else { vec![value] };
                for one in values {
                    layer.put(setting.flag, Given::by_variable(one));
                }
            }
            (Some(_), None) => faults.note(format!("{key}={value:?}"), "not UTF-8"),
            (None, _) if is_kubernetes_variable(key) || SET_FOR_WORKERS.contains(&key) => {}
            (None, _) => {
                let variables: Vec<String> = settings::all().map(Setting::variable).collect();
                let meant = nearest(key, variables.iter().map(String::as_str));
                let advice = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                warnings.push(format!("{key} is no setting of rinit{advice}"));
            }
        }
    }
    (layer, warnings)
}

/// True if Kubernetes puts variables of that form into every pod beside a Service called `rinit…`: `RINIT_PORT`,
/// `RINIT_SERVICE_HOST`, `RINIT_SERVICE_PORT_HTTP`, `RINIT_PORT_80_TCP_ADDR`.
pub fn is_kubernetes_variable(key: &str) -> bool {
    let port_of = |key: &str| {
        key.split("_PORT_").skip(1).any(|rest| {
            let mut parts = rest.split('_');
            let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
            number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        })
    };
    key.ends_with("_SERVICE_HOST") || key.ends_with("_PORT") || key.contains("_SERVICE_PORT") || port_of(key)
}

/// The number of characters in which two names may differ that are near each other.
const MAX_DISTANCE: usize = 3;

/// Returns the known name that is nearest to the given one, if one is near.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Names of another length are not near, and a long one would take much time and memory.
    let known = known.filter(|name| name.len().abs_diff(given.len()) <= MAX_DISTANCE);
    let (distance, name) = known.map(|name| (strsim::damerau_levenshtein(given, name), name)).min()?;
    (distance <= MAX_DISTANCE && distance < name.len() / 2).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Layer, Vec<String>) {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.into(), value.into())).collect();
        let mut faults = Faults::default();
        let read = from_environment(&pairs, &mut faults);
        assert!(faults.0.is_empty(), "{faults:?}");
        read
    }

    #[test]
    fn every_setting_has_a_variable_and_an_empty_one_is_none() {
        for setting in settings::all() {
            let (layer, warnings) = read(&[(&setting.variable(), "x"), ("RINIT_NAME", "")]);
            let given: Vec<_> = layer.given().map(|(setting, values)| (setting.flag, values.all().to_vec())).collect();
            assert_eq!(given, [(setting.flag, vec![Given::by_variable("x")])]);
            assert!(warnings.is_empty());
        }
    }

    #[test]
    fn a_variable_that_repeats_is_separated_by_commas() {
        let (layer, _) = read(&[("RINIT_LISTEN", "1,2"), ("RINIT_READY", "exec:a,b")]);
        assert_eq!(layer.by_flag("listen").all(), [Given::by_variable("1"), Given::by_variable("2")]);
        assert_eq!(layer.by_flag("ready").all(), [Given::by_variable("exec:a,b")]);
    }

    #[test]
    fn an_unknown_variable_is_a_warning_and_kubernetes_ones_are_passed_over() {
        let (layer, warnings) = read(&[
            ("RINIT_INSTANCE", "2"),
            ("RINIT_PORT", "tcp://10.0.0.1:80"),
            ("RINIT_SERVICE_HOST", "10.0.0.1"),
            ("RINIT_SERVICE_PORT_HTTP", "80"),
            ("RINIT_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("RINIT_WORKER", "0"),
        ]);
        assert_eq!(layer, Layer::default());
        assert_eq!(warnings, ["RINIT_INSTANCE is no setting of rinit; did you mean RINIT_INSTANCES?"]);
    }
}
