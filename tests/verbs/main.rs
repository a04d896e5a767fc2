//! The verbs: before a server of the test's own, which says what a rinit might say, and (`real`) before a rinit.

mod calls;
mod fake;
mod looks;
mod real;
mod streams;
mod terminal;
