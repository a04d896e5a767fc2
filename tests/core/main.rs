//! Tests the core by histories in virtual time: random ones that must keep every promise, and named ones that show a rule.

mod apps;
mod examples;
mod histories;
mod readiness;
mod replacing;
mod scaling;
mod stops;
mod world;
