//! What may be said: drafts, the rules for them, and what is wrong with one.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use crate::MessageId;

/// What a client wants to publish, before it was validated and given a place.
///
/// A [`Codec`](crate::Codec) makes it of a client's frame, or an application builds one for
/// [`Engine::publish`](crate::Engine::publish). Texts share the frame's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// The client's own id for it; the server makes a UUIDv7 where there is none.
    pub id: Option<MessageId>,
    /// The room that the frame names; `None` means the one that the connection is in.
    pub room: Option<ByteString>,
    /// What the client wants to see again in the answer.
    pub reference: Option<ByteString>,
    /// Who says it (`userId`).
    pub sender: ByteString,
    /// The name that members see (`username`).
    pub name: ByteString,
    /// `messageType`.
    pub kind: ByteString,
    /// What is said (`message`).
    pub text: ByteString,
    /// When the client says that it was said, ISO-8601.
    pub timestamp: ByteString,
    /// The payload of an application with a codec of its own; the chat codec leaves it empty.
    pub body: Bytes,
}

/// One rule that a draft breaks. All of them are told to the sender, in one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Violation {
    /// The field, by its name on the wire.
    pub field: ByteString,
    /// What is wrong with it and what is allowed, for a person.
    pub problem: String,
}

impl Violation {
    /// `field` breaks a rule: `problem` says which.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field: ByteString::from_static(field), problem: problem.into() }
    }
}

/// Decides whether a draft may be published.
///
/// # Guarantees
/// 1. It is pure: the same draft gets the same answer, and nothing else changes.
/// 2. It names every violation, not only the first.
/// 3. It never waits; it runs on the connection's own task for each message.
///
/// Closures are validators:
///
/// ```
/// use chatflow_core::{Draft, MessageValidator, Violation};
///
/// let polite = |draft: &Draft| match draft.text.contains("please") {
///     true => Ok(()),
///     false => Err(vec![Violation::new("message", "must say please")]),
/// };
/// assert!(polite.validate(&Draft::default()).is_err());
/// ```
pub trait MessageValidator: Send + Sync + 'static {
    /// Every rule that `draft` breaks, or `Ok`.
    fn validate(&self, draft: &Draft) -> Result<(), Vec<Violation>>;
}

impl<F> MessageValidator for F
where
    F: Fn(&Draft) -> Result<(), Vec<Violation>> + Send + Sync + 'static,
{
    fn validate(&self, draft: &Draft) -> Result<(), Vec<Violation>> {
        self(draft)
    }
}

impl fmt::Debug for dyn MessageValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dyn MessageValidator")
    }
}

/// The rules of a chat message, each a setting. The defaults are those of the systems that ChatFlow replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// Length of `message`, in characters (Unicode scalar values). Default 1–500.
    pub message: RangeInclusive<usize>,
    /// Length of `username`, in characters. Default 3–20.
    pub username: RangeInclusive<usize>,
    /// Whether a `username` may hold only `[A-Za-z0-9]`. Default true.
    pub username_alphanumeric: bool,
    /// The range that a `userId` must be a whole number of; `None` takes any text of 1–128 bytes. Default 1–100000.
    pub user_id: Option<RangeInclusive<u64>>,
    /// The kinds (`messageType`) that are taken. Default TEXT, JOIN, LEAVE.
    pub kinds: Vec<ByteString>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 1..=500,
            username: 3..=20,
            username_alphanumeric: true,
            user_id: Some(1..=100_000),
            kinds: vec![crate::kind::TEXT, crate::kind::JOIN, crate::kind::LEAVE],
        }
    }
}

/// The longest user id that is taken when any text is, in bytes.
const LONGEST_USER_ID: usize = 128;

/// The validator of chat messages: [`Limits`], applied.
#[derive(Debug, Clone, Default)]
pub struct ChatValidator {
    limits: Limits,
}

impl ChatValidator {
    /// A validator of these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    fn user_id(&self, id: &str) -> Option<String> {
        match &self.limits.user_id {
            Some(range) => {
                let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
                let inside = digits && id.parse().is_ok_and(|n| range.contains(&n));
                (!inside).then(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
            }
            None => {
                let fits = (1..=LONGEST_USER_ID).contains(&id.len()) && !id.chars().any(is_invisible);
                (!fits).then(|| format!("must be 1 to {LONGEST_USER_ID} bytes without control characters"))
            }
        }
    }

    fn username(&self, name: &str) -> Option<String> {
        let (range, letters) = (&self.limits.username, self.limits.username_alphanumeric);
        let allowed = if letters { name.bytes().all(|b| b.is_ascii_alphanumeric()) } else { !name.chars().any(is_invisible) };
        let rule = if letters { "of A-Z a-z 0-9" } else { "without control or direction marks" };
        let fits = allowed && range.contains(&name.chars().count());
        (!fits).then(|| format!("must be {} to {} characters {rule}", range.start(), range.end()))
    }
}

/// Control characters, and what turns, breaks or hides text: bidi marks and overrides, line separators, characters without a
/// width, tags (Unicode's `Default_Ignorable_Code_Point` without variation selectors, which emoji need). A name holds none.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

impl MessageValidator for ChatValidator {
    fn validate(&self, draft: &Draft) -> Result<(), Vec<Violation>> {
        let limits = &self.limits;
        let mut violations = Vec::new();
        let mut check = |field, problem: Option<String>| {
            if let Some(problem) = problem {
                violations.push(Violation::new(field, problem));
            }
        };
        check("userId", self.user_id(&draft.sender));
        check("username", self.username(&draft.name));
        // Bytes bound characters from both sides, so most texts need no count.
        let (bytes, range) = (draft.text.len(), &limits.message);
        let surely_fits = bytes <= *range.end() && bytes.div_ceil(4) >= *range.start();
        let fits = surely_fits || range.contains(&draft.text.chars().count());
        let rule = || format!("must be {} to {} characters", range.start(), range.end());
        check("message", (!fits).then(rule));
        check("messageType", (!limits.kinds.contains(&draft.kind)).then(|| format!("must be one of {}", limits.kinds.join(", "))));
        check("timestamp", (!is_iso_8601(&draft.timestamp)).then(|| "must be an ISO-8601 time such as 2026-11-20T11:02:10Z".into()));
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}

/// A date and time, with or without an offset (older clients send none).
fn is_iso_8601(text: &str) -> bool {
    if text.len() < 19 || text.len() > 40 || !text.as_bytes()[10].eq_ignore_ascii_case(&b'T') {
        return false;
    }
    is_plain_utc(text.as_bytes()) || text.parse::<jiff::civil::DateTime>().is_ok() || text.parse::<jiff::Timestamp>().is_ok()
}

/// `YYYY-MM-DDThh:mm:ss[.fraction]Z`, which is what programs send, known without the general parser. Days that only some months
/// have are left to it.
fn is_plain_utc(text: &[u8]) -> bool {
    let Some((time, [fraction @ .., b'Z'])) = text.split_at_checked(19) else { return false };
    let two = |at: usize| match time[at..at + 2] {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => (tens - b'0') * 10 + (ones - b'0'),
        _ => u8::MAX,
    };
    let separated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')].iter().all(|(at, mark)| time[*at] == *mark);
    let dated = two(0) < 100 && two(2) < 100 && (1..=12).contains(&two(5)) && (1..=28).contains(&two(8));
    let timed = two(11) < 24 && two(14) < 60 && two(17) < 60;
    let divided = match fraction {
        [] => true,
        [b'.', digits @ ..] => (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    separated && dated && timed && divided
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn good() -> Draft {
        Draft {
            sender: "42".into(),
            name: "ada".into(),
            kind: crate::kind::TEXT,
            text: "hello".into(),
            timestamp: "2026-11-20T11:02:10.123Z".into(),
            ..Draft::default()
        }
    }

    fn fields(draft: &Draft) -> Vec<ByteString> {
        let found = ChatValidator::default().validate(draft).err().unwrap_or_default();
        found.into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn a_good_message_passes() {
        assert!(fields(&good()).is_empty());
        let numbers = ["1", "100000"];
        assert!(numbers.iter().all(|id| fields(&Draft { sender: (*id).into(), ..good() }).is_empty()));
    }

    #[test]
    fn every_violation_is_named_at_once() {
        let none = Draft::default();
        assert_eq!(fields(&none), ["userId", "username", "message", "messageType", "timestamp"]);
    }

    #[test]
    fn user_ids_are_whole_numbers_in_range() {
        for bad in ["0", "100001", "-1", "+1", "1.0", "1e3", " 1", "abc", "99999999999999999999999"] {
            assert_eq!(fields(&Draft { sender: bad.into(), ..good() }), ["userId"], "{bad:?}");
        }
    }

    #[test]
    fn names_hold_nothing_invisible() {
        for bad in ["ab", "a b", "ada\u{202e}", "ad\u{0}a", "é€ü", &"x".repeat(21)] {
            assert_eq!(fields(&Draft { name: bad.into(), ..good() }), ["username"], "{bad:?}");
        }
        let any = ChatValidator::new(Limits { username_alphanumeric: false, ..Limits::default() });
        assert!(any.validate(&Draft { name: "José 7".into(), ..good() }).is_ok());
        for hidden in ["\u{200b}", "\u{ad}", "\u{61c}", "\u{2028}", "\u{2066}", "\u{3164}", "\u{e0041}"] {
            assert!(any.validate(&Draft { name: format!("Jos{hidden}é").into(), ..good() }).is_err(), "{hidden:?}");
        }
    }

    #[test]
    fn a_text_is_counted_in_characters() {
        let texts = [("", false), ("x", true), (&"x".repeat(500), true), (&"x".repeat(501), false)];
        for (text, fits) in texts.into_iter().chain([(&*"é".repeat(500), true), (&*"😀".repeat(501), false), ("😀", true)]) {
            assert_eq!(fields(&Draft { text: text.into(), ..good() }).is_empty(), fits, "{} bytes", text.len());
        }
    }

    #[test]
    fn times_are_iso_8601() {
        for good_time in ["2026-11-20T11:02:10Z", "2026-11-20T11:02:10.123456789Z", "2026-11-20T11:02:10+01:00", "2026-11-20T11:02:10.5"] {
            assert!(fields(&Draft { timestamp: good_time.into(), ..good() }).is_empty(), "{good_time}");
        }
        for bad in ["", "now", "2026-11-20", "1763636530123", "2026-13-20T11:02:10Z", "2026-11-20T25:02:10Z", "2026-11-20é11:02:10Z"] {
            assert_eq!(fields(&Draft { timestamp: bad.into(), ..good() }), ["timestamp"], "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_known_without_the_parser_is_what_it_takes(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,11})?Z?") {
            let parses = text.parse::<jiff::Timestamp>().is_ok();
            prop_assert!(parses || !is_plain_utc(text.as_bytes()), "{text}");
            let usual = (1..=28).contains(&text[8..10].parse::<u8>().unwrap()) && text.ends_with('Z') && &text[17..19] != "60";
            prop_assert!(is_plain_utc(text.as_bytes()) || !(parses && usual), "{text}");
        }
    }
}
