//! What touches the kernel: the only place with `unsafe`, and with none of rinit's decisions.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod process;
pub mod reap;
pub mod signals;
pub mod tty;
pub mod user;
