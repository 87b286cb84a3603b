//! Start and end.

use crate::process::{Server, eventually};

#[test]
fn a_signal_drains_and_ends_with_0() {
    for name in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let mut member = server.connect("/chat/7", true);
        member.next(|frame| frame["event"] == "welcome");
        server.signal(name);
        assert_eq!(member.close_code(), 1012);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    }
}

#[test]
fn a_second_signal_ends_at_once_and_says_what_is_lost() {
    let mut server = Server::start(&[]);
    // A member that never answers the close keeps the drain waiting.
    let members: Vec<_> = (0..3).map(|_| server.connect("/chat/7", true)).collect();
    server.signal("TERM");
    eventually("the shutdown is logged", || server.log().contains("shutting down").then_some(()));
    server.signal("TERM");
    let code = server.ended().code();
    // The drain may win the race; then there is nothing to be said.
    assert!(code == Some(0) || code == Some(1) && server.log().contains("ended by a second SIGTERM: 0 accepted messages"), "{code:?}");
    drop(members);
}

#[test]
fn the_one_line_on_stdout_is_all_that_a_script_needs() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    assert!(server.admin.is_some_and(|admin| admin != server.address));
    assert!(server.log().lines().all(|line| line.starts_with('{')), "not on a terminal, each line of the log is JSON");
}
