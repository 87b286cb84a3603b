//! Reading a client's frame without trusting it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use bytestring::ByteString;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::protocol::{DEEPEST, TOO_DEEP, code};
use crate::{BadFrame, Draft, MessageId, Violation};

/// Beyond this, a JSON number has lost digits on its way through JavaScript.
const LARGEST_NUMBER: u64 = 1 << 53;

/// The fields that mean something, in the order of [`Fields`]; all others are ignored.
const NAMES: [&str; 8] = ["userId", "username", "message", "timestamp", "messageType", "messageId", "roomId", "ref"];

/// A field's value as found: text (numbers keep their digits), or the name of another type.
enum Value<'a> {
    Text(Cow<'a, str>),
    Number(u64),
    Null,
    Other(&'static str),
}

type Fields<'a> = [Option<Value<'a>>; NAMES.len()];

/// Makes a draft of a frame, or says everything that is wrong with its form.
pub(super) fn draft(frame: &ByteString) -> Result<Draft, BadFrame> {
    let depth = Depth(Cell::new(0));
    let mut json = serde_json::Deserializer::from_str(frame);
    let read = FrameSeed(&depth).deserialize(&mut json).and_then(|fields| json.end().map(|()| fields));
    let fields = read.map_err(|error| {
        let too_deep = error.to_string().starts_with(TOO_DEEP);
        let (code, problem) = match too_deep {
            true => (code::TOO_DEEP, TOO_DEEP.to_owned()),
            false => (code::BAD_JSON, format!("must be one JSON object: {error}")),
        };
        BadFrame { code, violations: vec![Violation::new("frame", problem)], id: None, reference: None }
    })?;
    fill(frame, fields)
}

fn fill(frame: &ByteString, fields: Fields<'_>) -> Result<Draft, BadFrame> {
    let mut violations = Vec::new();
    let mut text = |index: usize, number_too: bool| -> Option<ByteString> {
        let problem = match fields[index].as_ref()? {
            Value::Text(Cow::Borrowed(text)) => return Some(share(frame, text)),
            Value::Text(Cow::Owned(text)) => return Some(text.as_str().into()),
            Value::Number(n) if number_too => return Some(n.to_string().into()),
            Value::Null => return None,
            Value::Number(_) => "must be a text, not a number".to_owned(),
            Value::Other(what) if number_too => format!("must be a text or a whole number of at most 2^53, not {what}"),
            Value::Other(what) => format!("must be a text, not {what}"),
        };
        violations.push(Violation::new(NAMES[index], problem));
        None
    };
    let sender = text(0, true).unwrap_or_default();
    let name = text(1, false).unwrap_or_default();
    let message = text(2, false).unwrap_or_default();
    let timestamp = text(3, false).unwrap_or_default();
    let kind = text(4, false).unwrap_or_default();
    let id_text = text(5, false);
    let room = text(6, true);
    let reference = text(7, true);
    let id = id_text.as_ref().and_then(|text| MessageId::try_parse(text).ok().filter(|id| !id.is_nil()));
    if id_text.is_some() && id.is_none() {
        violations.push(Violation::new("messageId", "must be a UUID"));
    }
    if violations.is_empty() {
        return Ok(Draft { id, room, reference, sender, name, kind, text: message, timestamp, body: Default::default() });
    }
    Err(BadFrame { code: code::INVALID, violations, id: id_text, reference })
}

/// The frame's own memory where the text stands in it as it is.
fn share(frame: &ByteString, text: &str) -> ByteString {
    frame.slice_ref(text)
}

struct Depth(Cell<usize>);

impl Depth {
    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        self.0.set(self.0.get() + 1);
        if self.0.get() > DEEPEST { Err(E::custom(TOO_DEEP)) } else { Ok(()) }
    }

    fn leave(&self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The frame: an object without duplicate keys among those that mean something.
struct FrameSeed<'d>(&'d Depth);

impl<'de> DeserializeSeed<'de> for FrameSeed<'_> {
    type Value = Fields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FrameSeed<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        self.0.enter()?;
        let mut fields = Fields::default();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let index = NAMES.iter().position(|name| *name == key);
            let value = map.next_value_seed(ValueSeed(self.0))?;
            if let Some(index) = index
                && fields[index].replace(value).is_some()
            {
                return Err(A::Error::custom(format_args!("duplicate field {}", NAMES[index])));
            }
        }
        self.0.leave();
        Ok(fields)
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// Any value: texts and whole numbers are kept, the rest is passed over with its depth counted.
struct ValueSeed<'d>(&'d Depth);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Value<'de>, E> {
        Ok(if n <= LARGEST_NUMBER { Value::Number(n) } else { Value::Other("a number past 2^53") })
    }

    fn visit_i64<E>(self, _n: i64) -> Result<Value<'de>, E> {
        Ok(Value::Other("a negative number"))
    }

    fn visit_f64<E>(self, _n: f64) -> Result<Value<'de>, E> {
        Ok(Value::Other("a fraction or a number past 2^53"))
    }

    fn visit_bool<E>(self, _b: bool) -> Result<Value<'de>, E> {
        Ok(Value::Other("true or false"))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        self.0.enter()?;
        while seq.next_element_seed(ValueSeed(self.0))?.is_some() {}
        self.0.leave();
        Ok(Value::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        self.0.enter()?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(ValueSeed(self.0))?;
        }
        self.0.leave();
        Ok(Value::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"userId":7,"username":"ada","message":"hi \"you\"","timestamp":"t","messageType":"TEXT","x":[{}],"messageId":"0190a3f0-0000-7000-8000-000000000001"}"#;

    fn fails(frame: &str) -> (&'static str, Vec<String>) {
        let bad = draft(&frame.into()).expect_err(frame);
        (bad.code, bad.violations.iter().map(|v| v.field.to_string()).collect())
    }

    #[test]
    fn fields_are_read_and_others_ignored() {
        let draft = draft(&GOOD.into()).unwrap();
        assert_eq!((&*draft.sender, &*draft.name, &*draft.text), ("7", "ada", "hi \"you\""));
        assert_eq!(draft.id.unwrap().to_string(), "0190a3f0-0000-7000-8000-000000000001");
    }

    #[test]
    fn what_is_not_an_object_is_bad_json() {
        for frame in [
            "",
            "null",
            "[]",
            "7",
            "\"x\"",
            "{",
            "{}{}",
            "{\"a\":}",
            "hello",
            r#"{"message":"\ud800"}"#,
            r#"{"message":"a","message":"b"}"#,
            "{\"message\":\"\u{1}\"}",
        ] {
            assert_eq!(fails(frame).0, code::BAD_JSON, "{frame}");
        }
    }

    #[test]
    fn every_field_of_the_wrong_type_is_named() {
        let (code, fields) =
            fails(r#"{"userId":1.5,"username":1,"message":[],"timestamp":{},"messageType":true,"messageId":"x","ref":-1}"#);
        assert_eq!(code, code::INVALID);
        assert_eq!(fields, ["userId", "username", "message", "timestamp", "messageType", "ref", "messageId"]);
        assert_eq!(fails(r#"{"userId":9007199254740993}"#).1, ["userId"]);
        assert_eq!(fails(r#"{"userId":1e400}"#).0, code::BAD_JSON);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!(r#"{{"x":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(draft(&nested(DEEPEST - 1).into()).is_ok());
        assert_eq!(fails(&nested(DEEPEST)).0, code::TOO_DEEP);
        assert_eq!(fails(&nested(30_000)).0, code::TOO_DEEP);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(frame in "\\PC{0,200}", cut in 0usize..GOOD.len()) {
            let _ = draft(&frame.into());
            prop_assert!(draft(&GOOD[..cut].into()).is_err());
        }
    }
}
