//! What may be shown on a terminal, and how.

use std::io::{self, IsTerminal, Write};

use unicode_width::UnicodeWidthChar;

/// Colours, where they are wanted: on a terminal and without `NO_COLOR` (<https://no-color.org>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// As standard output wants it.
    pub(crate) fn for_stdout() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self(io::stdout().is_terminal() && !forbidden)
    }

    /// Never.
    pub(crate) const fn never() -> Self {
        Self(false)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// The same name has the same colour.
    pub(crate) fn name(self, name: &str) -> String {
        const COLOURS: [&str; 6] = ["36", "33", "35", "32", "34", "96"];
        let hash = name.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        self.with(COLOURS[hash % COLOURS.len()], name)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Prints a line. Whoever reads it may have gone (`| head -1`): that is no reason to fall over, but one to end.
pub(crate) fn print(line: &str) -> bool {
    writeln!(io::stdout(), "{line}").is_ok()
}

/// `text` on one line and harmless: control characters (a terminal would obey them), and marks that hide or turn
/// text around, become visible escapes.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            '\n' => out.push('⏎'),
            _ if c.is_control() || turns_or_hides(c) => out.extend(c.escape_unicode()),
            _ => out.push(c),
        }
    }
    out
}

/// Zero-width and bidirectional marks, but not the joiner that emoji and some scripts are made with.
fn turns_or_hides(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}')
}

/// How many columns `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_passes() {
        assert_eq!(harmless("a\x1b[2Jb\x07\r\nc\td"), r"a\u{1b}[2Jb\u{7}\u{d}⏎c d");
        assert_eq!(harmless("\u{9b}31m\u{202e}evil"), r"\u{9b}31m\u{202e}evil");
        assert!((0..=0x10ffff).filter_map(char::from_u32).all(|c| !harmless(&c.to_string()).chars().any(char::is_control)));
    }

    #[test]
    fn what_people_write_passes_as_it_is() {
        for text in ["héllo wörld", "日本語", "👩\u{200d}👩\u{200d}👧", "נחמד", "a\\u{1b}"] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn without_colours_text_stays_text() {
        assert_eq!(Paint::never().bad("x"), "x");
        assert_eq!(Paint(true).dim("x"), "\x1b[2mx\x1b[0m");
    }
}
