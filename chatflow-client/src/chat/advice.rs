//! What happened, and what to do about it, in one line.

use chatflow_client::{ConnectFailure, Error, close, code};

use crate::terminal::harmless;

/// The error and a way out.
pub(super) fn explain(error: &Error) -> String {
    let text = harmless(&error.to_string());
    match advice(error) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::Unreachable(errors) => errors.iter().find_map(|e| failure(&e.failure)),
        Error::Refused(frame) => match frame.code.as_str() {
            code::BAD_ROOM => Some("choose another room"),
            code::FORBIDDEN => Some("ask for access, or give another --token"),
            code::INVALID => Some("the server's rules for --username and --user-id may differ from the usual ones"),
            _ => None,
        },
        Error::ClosedByServer { code, .. } => closed(*code),
        _ => None,
    }
}

fn failure(failure: &ConnectFailure) -> Option<&'static str> {
    match failure {
        ConnectFailure::Refused => Some("is a server running? start one with `chatflow-server`, or check host and port"),
        ConnectFailure::Resolve { .. } => Some("check the host's name and the network"),
        ConnectFailure::Status { status: 401, .. } => Some("give a valid --token"),
        ConnectFailure::Status { status: 403, .. } => Some("ask for access, or give another --token"),
        ConnectFailure::Status { status: 404, .. } => Some("check the address: there is no ChatFlow at this path"),
        ConnectFailure::Status { status: 429 | 503, .. } => Some("try again in a while"),
        ConnectFailure::Closed { code, .. } => closed(*code),
        ConnectFailure::Tls(_) => Some("is it ws:// instead of wss://, or a certificate that this machine does not trust?"),
        ConnectFailure::TimedOut(_) => Some("check host and port, and whether a firewall is in between"),
        _ => None,
    }
}

fn closed(code: u16) -> Option<&'static str> {
    match code {
        close::BAD_TOKEN => Some("give a valid --token"),
        close::FORBIDDEN => Some("ask for access, or give another --token"),
        close::POLICY => Some("too many messages were refused in a row"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chatflow_client::ConnectError;

    #[test]
    fn it_says_what_happened_and_what_to_do_on_one_harmless_line() {
        let failure = ConnectFailure::Closed { code: 3500, reason: "expired\n\x1b[31m".into() };
        let error = Error::Unreachable(vec![ConnectError { url: "ws://h".into(), failure }]);
        let text = explain(&error);
        assert_eq!(text, r"ws://h: the server closed the connection (3500: expired⏎\u{1b}[31m); give a valid --token");
    }
}
