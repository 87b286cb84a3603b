//! Operations: frames of the v1 dialect that are about rooms, not messages.

use serde::{Deserialize, Serialize};

use super::{DEEPEST, TOO_DEEP, code};
use crate::{BadFrame, Violation};

/// An operation of the v1 dialect, as a client sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Become a member of another room.
    #[serde(rename_all = "camelCase")]
    Join {
        /// The room.
        room_id: String,
        /// Resume after this position.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// The last so many messages first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        history: Option<usize>,
        /// Comes back in the `welcome` or the error.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// Stop being a member of a room.
    #[serde(rename_all = "camelCase")]
    Leave {
        /// The room.
        room_id: String,
        /// Comes back in the `left` event or the error.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
}

impl Op {
    /// The operation in a frame; `None` when the frame has no `op` and so is a message, or nothing at all.
    ///
    /// # Errors
    /// What is wrong with the operation.
    pub fn of(frame: &str) -> Option<Result<Op, BadFrame>> {
        #[derive(Deserialize)]
        struct HasOp<'a> {
            #[serde(borrow)]
            op: Option<&'a serde_json::value::RawValue>,
        }
        // Most frames are messages, and a search is cheaper than a parse.
        if !frame.contains("\"op\"") || !frame.trim_start().starts_with('{') {
            return None;
        }
        match serde_json::from_str::<HasOp<'_>>(frame) {
            Ok(HasOp { op: Some(_) }) => {}
            Ok(HasOp { op: None }) => return None,
            // Two of them: one reader would take the first, another the last.
            Err(error) if error.is_data() => return Some(Err(bad(code::BAD_OP, "op", error.to_string()))),
            Err(_) => return None,
        }
        if nests_deeper_than(DEEPEST, frame) {
            return Some(Err(bad(code::TOO_DEEP, "frame", TOO_DEEP.to_owned())));
        }
        Some(serde_json::from_str(frame).map_err(|error| bad(code::BAD_OP, "op", error.to_string())))
    }
}

fn bad(code: &'static str, field: &'static str, problem: String) -> BadFrame {
    BadFrame { code, violations: vec![Violation::new(field, problem)], id: None, reference: None }
}

/// Whether JSON text nests deeper than that.
fn nests_deeper_than(most: usize, json: &str) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(frame: &str) -> Option<&'static str> {
        Op::of(frame).map(|op| op.expect_err(frame).code)
    }

    #[test]
    fn a_frame_without_an_op_is_not_one() {
        for frame in ["{}", r#"{"message":"op"}"#, r#"{"op":null,"message":"x"}"#, r#"["op"]"#, r#""op""#, r#"{"op":"#] {
            assert_eq!(Op::of(frame), None, "{frame}");
        }
    }

    #[test]
    fn two_ops_in_one_frame_are_none() {
        assert_eq!(code_of(r#"{"op":"join","roomId":"a","op":"leave"}"#), Some(code::BAD_OP));
        assert_eq!(code_of(r#"{"op":"join","roomId":"a","roomId":"b"}"#), Some(code::BAD_OP));
    }

    #[test]
    fn depth_counts_what_is_not_quoted() {
        let nested = |n: usize| format!(r#"{{"op":"leave","roomId":"a","x":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(Op::of(&nested(DEEPEST - 1)).is_some_and(|op| op.is_ok()));
        assert_eq!(code_of(&nested(DEEPEST)), Some(code::TOO_DEEP));
        let quoted = format!(r#"{{"op":"leave","roomId":"a","ref":"\"{}"}}"#, "[".repeat(100));
        assert!(Op::of(&quoted).is_some_and(|op| op.is_ok()));
    }
}
