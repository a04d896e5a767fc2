//! Tests the control socket's file: it is made again when a cleaner has removed it.

use crate::client::ask;
use crate::harness::eventually;
use crate::started::start;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_socket_whose_file_was_removed_is_made_again() {
    let rinit = start(&["--socket-mode", "0660"], "up wait");
    // First while no client has come yet, then while the server runs.
    for _ in 0..2 {
        std::fs::remove_file(&rinit.socket).unwrap();
        let mode = || Some(std::fs::metadata(&rinit.socket).ok()?.permissions().mode() & 0o777);
        eventually("it is there again, for the same users", || (mode() == Some(0o660)).then_some(()));
        let answers = || std::os::unix::net::UnixStream::connect(&rinit.socket).ok();
        eventually("it is listened on", answers);
        assert_eq!(ask(&rinit.socket, "GET", "/readyz", "").status, 200);
    }
    rinit.rig.until("it is logged", |out| out.count("was removed: it has been made again") == 2);
    rinit.rig.signal("TERM");
    eventually("its file goes with it", || (!rinit.socket.exists()).then_some(()));
}

#[test]
fn another_file_at_the_sockets_path_is_left_alone() {
    let rinit = start(&[], "up wait");
    std::fs::remove_file(&rinit.socket).unwrap();
    std::fs::write(&rinit.socket, "another program's").unwrap();
    rinit.rig.signal("TERM");
    rinit.rig.until("it has ended", |out| out.has("stopped"));
    assert_eq!(std::fs::read_to_string(&rinit.socket).unwrap(), "another program's");
}
