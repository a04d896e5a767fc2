//! `rinit monit`: its state and its pictures, without a terminal, and the whole of it in one.

mod fixtures;
mod frames;
mod picture;
mod real;
mod server;
mod state;
mod terminal;
