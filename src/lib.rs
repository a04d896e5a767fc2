//! rinit: a container's init that also runs, reloads and scales the app. `ARCHITECTURE.md` is the map.

pub mod core;
pub mod sys;
