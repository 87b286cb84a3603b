//! What a typed line means.

/// A typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed<'a> {
    Nothing,
    Say(&'a str),
    Help,
    Quit,
    Who,
    Join(&'a str),
    Leave,
    Unknown(&'a str),
}

pub(super) const HELP: &str = "\
/join ROOM   enter another room, or turn to one that you are in
/leave       leave this room
/who         who is here
/quit        leave (or Ctrl-D)
//text       say a text that begins with a slash";

pub(super) fn read(line: &str) -> Typed<'_> {
    let line = line.trim_end();
    if line.trim().is_empty() {
        return Typed::Nothing;
    }
    let Some(command) = line.strip_prefix('/') else { return Typed::Say(line) };
    if command.starts_with('/') {
        return Typed::Say(command);
    }
    let mut words = command.split_whitespace();
    match (words.next().unwrap_or_default(), words.next(), words.next()) {
        ("help" | "h" | "?", None, _) => Typed::Help,
        ("quit" | "q" | "exit", None, _) => Typed::Quit,
        ("who" | "w", None, _) => Typed::Who,
        ("join" | "j", Some(room), None) => Typed::Join(room),
        ("leave" | "l", None, _) => Typed::Leave,
        _ => Typed::Unknown(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_say() {
        for (line, typed) in [
            ("", Typed::Nothing),
            ("   ", Typed::Nothing),
            ("hello /quit", Typed::Say("hello /quit")),
            ("  indented ", Typed::Say("  indented")),
            ("/quit ", Typed::Quit),
            ("/join 8", Typed::Join("8")),
            ("/join", Typed::Unknown("/join")),
            ("/join 8 9", Typed::Unknown("/join 8 9")),
            ("/", Typed::Unknown("/")),
            ("//shrug", Typed::Say("/shrug")),
            ("/leave", Typed::Leave),
            ("/who", Typed::Who),
            ("/help", Typed::Help),
        ] {
            assert_eq!(read(line), typed, "{line:?}");
        }
    }
}
