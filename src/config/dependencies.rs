//! Checks how the apps of a container belong together: their names, and the order in which they start.

use super::app::AppConfig;
use super::environment::nearest;
use super::faults::Faults;
use super::given::Place;
use super::layer::Layer;
use super::settings::by_key;
use std::collections::BTreeMap;

/// Checks the names of several apps and what each is to be started after.
pub(super) fn check(apps: &[(AppConfig, Option<Place>, Layer)], faults: &mut Faults) {
    let mut places: BTreeMap<&str, Option<&Place>> = BTreeMap::new();
    for (app, place, _) in apps {
        let name = app.name.as_str();
        let is_worker_of = |other: &str| {
            let number = name.strip_prefix(other).and_then(|rest| rest.strip_prefix('-'));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let why = if places.insert(name, place.as_ref()).is_some() {
            Some(format!("two apps are called {name}: give each a name of its own"))
        } else if name == "all" {
            Some("an app cannot be called all, which means every worker".into())
        } else {
            let other = apps.iter().map(|(other, ..)| other.name.as_str()).find(|other| is_worker_of(other));
            other.map(|other| format!("the name {name} is that of a worker of {other}: give the app another name"))
        };
        match (why, place) {
            (None, _) => {}
            (Some(why), Some(place)) => faults.note_place(place, why),
            (Some(why), None) => faults.note("--name", why),
        }
    }
    let unknown = |name: &str| {
        let advice = nearest(name, places.keys().copied()).map(|near| format!("; did you mean {near}?"));
        format!("there is no app {name}{}", advice.unwrap_or_default())
    };
    for (setting, layer) in
        by_key("after").iter().flat_map(|setting| apps.iter().map(move |(.., layer)| (setting, layer)))
    {
        for given in layer.values(setting).all().iter().filter(|given| !places.contains_key(given.text.trim())) {
            faults.note_value(setting, given, unknown(given.text.trim()));
        }
    }
    if let Some(cycle) = find_cycle(apps) {
        let place = cycle.first().and_then(|name| places.get(name).copied().flatten());
        let why = format!("these apps wait for each other: {}", cycle.join(" after "));
        match place {
            Some(place) => faults.note_place(place, why),
            None => faults.note("after", why),
        }
    }
}

/// The names along a cycle, of which the last is the first again.
fn find_cycle(apps: &[(AppConfig, Option<Place>, Layer)]) -> Option<Vec<&str>> {
    // An app is free when everything that it waits for is: those that never become free wait for a cycle.
    let mut waiting: Vec<&AppConfig> = apps.iter().map(|(app, ..)| app).collect();
    loop {
        let names: Vec<&str> = waiting.iter().map(|app| app.name.as_str()).collect();
        let count = waiting.len();
        waiting.retain(|app| app.after.iter().any(|other| names.contains(&other.as_str())));
        if waiting.len() == count {
            break;
        }
    }
    let mut path = vec![waiting.first()?.name.as_str()];
    loop {
        let app = waiting.iter().find(|app| Some(&app.name.as_str()) == path.last())?;
        let next = app.after.iter().find(|next| waiting.iter().any(|other| other.name == **next))?;
        if let Some(at) = path.iter().position(|name| name == next) {
            let cycle = path.get(at..).unwrap_or_default();
            return Some(cycle.iter().copied().chain([next.as_str()]).collect());
        }
        path.push(next);
    }
}
