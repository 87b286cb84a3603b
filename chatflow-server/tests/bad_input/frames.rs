//! Text frames that are no messages, or messages that break rules: each is answered with an `error` frame, and the connection goes on.

use serde_json::{Value, json};

use crate::health::unharmed;
use crate::process::Server;
use crate::wire::{Wire, said};

/// Sends each row's text on one connection, with a good message after each; asserts the code of the error and the fields that it names.
fn each_is_refused(args: &[&str], code: &str, fields: &[&str], rows: impl IntoIterator<Item = (impl Into<String>, String)>) {
    let server = Server::start(args);
    let mut wire = Wire::open(&server, "7?deliver=none");
    for (row, text) in rows {
        let row = row.into();
        wire.text(&text);
        let error = wire.answer();
        assert_eq!(
            (&error["status"], &error["code"], &error["retryable"]),
            (&json!("error"), &json!(code), &json!(false)),
            "{row}: {error}"
        );
        assert!(error["timestamp"].as_str().unwrap().ends_with('Z'));
        let named: Vec<_> =
            error["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap().split(':').next().unwrap()).collect();
        assert_eq!(named, fields, "{row}: {error}");
        wire.json(&said("fine"));
        assert_eq!(wire.answer()["status"], "SUCCESS", "after {row}");
    }
    unharmed(&server);
}

/// A message with one field changed.
fn with(field: &str, value: Value) -> String {
    let mut message = said("hello");
    message[field] = value;
    message.to_string()
}

fn without(field: &str) -> String {
    let mut message = said("hello");
    message.as_object_mut().unwrap().remove(field);
    message.to_string()
}

/// A message with raw JSON put in front of its fields.
fn before(raw: &str) -> String {
    said("hello").to_string().replacen('{', &format!("{{{raw},"), 1)
}

#[test]
fn what_is_not_one_json_object_is_bad_json() {
    let rows =
        ["", " ", "hello", "null", "true", "7", "\"text\"", "[]", "[{}]", "{", "}", "{}{}", "{} x", "{\"a\":}", "{'a':1}", "{\"a\":01}"];
    each_is_refused(&[], "bad_json", &["frame"], rows.map(|text| (text, text.to_owned())));
}

#[test]
fn json_that_is_only_nearly_json_is_bad_json() {
    let trailing_comma = said("x").to_string().replace('}', ",}");
    let raw_control = said("x").to_string().replace("\"x\"", "\"\u{1}\"");
    let byte_order_mark = format!("\u{feff}{}", said("x"));
    let comment = format!("{}// done", said("x"));
    each_is_refused(
        &[],
        "bad_json",
        &["frame"],
        [
            ("NaN", before("\"userId\":NaN")),
            ("comma", trailing_comma),
            ("control", raw_control),
            ("BOM", byte_order_mark),
            ("comment", comment),
        ],
    );
}

#[test]
fn lone_surrogates_are_bad_json() {
    let texts = [r"\ud800", r"\udc00", r"a\ud83dz", r"\ud83d\ud83d", r"\udc00\ud800"];
    let rows = texts.map(|text| (text, said("SURROGATE").to_string().replace("SURROGATE", text)));
    each_is_refused(&[], "bad_json", &["frame"], rows);
}

#[test]
fn a_pair_of_surrogates_is_one_character() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    wire.text(&said("smile").to_string().replace("smile", r"\ud83d\ude00\u0000"));
    assert_eq!(wire.next_json(|frame| frame.get("status").is_none())["message"], "😀\0");
}

#[test]
fn duplicate_keys_are_bad_json() {
    let rows = [
        ("userId", before(r#""userId":"8""#)),
        ("message", before(r#""message":"another""#)),
        ("the same value twice", before(r#""messageType":"TEXT""#)),
        ("null first", before(r#""username":null"#)),
        ("escaped", before(r#""\u0075serId":"8""#)),
        ("roomId", before(r#""roomId":"7","roomId":"8""#)),
    ];
    each_is_refused(&[], "bad_json", &["frame"], rows);
}

#[test]
fn nesting_deeper_than_32_is_too_deep() {
    let lists = |depth: usize| before(&format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let objects = |depth: usize| before(&format!("\"x\":{}1{}", "{\"y\":".repeat(depth), "}".repeat(depth)));
    let rows = [
        ("33 lists", lists(32)),
        ("33 objects", objects(32)),
        ("30,000", lists(30_000)),
        ("unclosed", before(&format!("\"x\":{}", "[".repeat(60_000)))),
    ];
    each_is_refused(&[], "too_deep", &["frame"], rows);
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    for deepest in [lists(31), objects(31)] {
        wire.text(&deepest);
        assert_eq!(wire.answer()["status"], "SUCCESS");
    }
}

#[test]
fn values_of_the_wrong_type_are_invalid() {
    for field in ["username", "message", "timestamp", "messageType"] {
        let rows = [json!(1), json!(true), json!([]), json!({"a": 1}), json!(null), json!(1.5)];
        each_is_refused(&[], "invalid", &[field], rows.map(|value| (format!("{field} {value}"), with(field, value))));
    }
}

#[test]
fn a_user_id_is_a_whole_number_from_1_to_100000() {
    let texts =
        ["", "0", "100001", "-1", "+1", "1.0", "1e3", " 7", "7 ", "0x7", "seven", "٧", "99999999999999999999999999", "7\u{0}", "1 OR 1=1"];
    let numbers = ["0", "100001", "-1", "1.5", "7.0", "9007199254740993", "18446744073709551616", "1e300", "true", "[7]", "{}", "null"];
    let texts = texts.map(|text| (text.to_owned(), with("userId", json!(text))));
    let numbers = numbers.map(|raw| (raw.to_owned(), said("hello").to_string().replace("\"7\"", raw)));
    each_is_refused(&[], "invalid", &["userId"], texts.into_iter().chain(numbers));
}

#[test]
fn fields_that_are_missing_empty_or_too_long_are_invalid() {
    for field in ["userId", "username", "message", "timestamp", "messageType"] {
        each_is_refused(&[], "invalid", &[field], [("missing", without(field)), ("empty", with(field, json!("")))]);
    }
    each_is_refused(
        &[],
        "invalid",
        &["message"],
        [501, 30_000].map(|length| (length.to_string(), with("message", json!("é".repeat(length))))),
    );
    each_is_refused(
        &[],
        "invalid",
        &["username"],
        [1, 2, 21, 50_000].map(|length| (length.to_string(), with("username", json!("a".repeat(length))))),
    );
    let types = ["text", "TEXT ", "BROADCAST", "*"];
    each_is_refused(&[], "invalid", &["messageType"], types.map(|kind| (kind, with("messageType", json!(kind)))));
    let times = ["yesterday", "2026-11-20", "2026-13-01T00:00:00Z", "1763636530", &"9".repeat(1000)];
    each_is_refused(&[], "invalid", &["timestamp"], times.map(|time| (time, with("timestamp", json!(time)))));
    let ids = ["", "7", "00000000-0000-0000-0000-000000000000", "0190a3f0-0000-7000-8000-00000000000g", &"0".repeat(1000)];
    each_is_refused(&[], "invalid", &["messageId"], ids.map(|id| (id, with("messageId", json!(id)))));
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let all = r#"{"userId":[],"username":1,"message":null,"timestamp":{},"messageType":false,"messageId":"x","ref":-1,"roomId":[]}"#;
    each_is_refused(
        &[],
        "invalid",
        &["userId", "username", "timestamp", "messageType", "messageId", "roomId", "ref"],
        [("types", all.replace("\"messageId\":\"x\"", "\"messageId\":7"))],
    );
    each_is_refused(&[], "invalid", &["userId", "username", "message", "messageType", "timestamp"], [("nothing", "{}".to_owned())]);
}

const HIDDEN: [char; 22] = [
    '\0',
    '\u{1}',
    '\t',
    '\n',
    '\r',
    '\u{1b}',
    '\u{7f}',
    '\u{85}',
    '\u{ad}',
    '\u{61c}',
    '\u{180e}',
    '\u{200b}',
    '\u{200e}',
    '\u{2028}',
    '\u{202a}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2069}',
    '\u{feff}',
    '\u{fffb}',
    '\u{e0041}',
];

#[test]
fn control_and_bidi_characters_in_a_name_are_invalid() {
    let rows = || HIDDEN.map(|c| (format!("{c:?}"), with("username", json!(format!("ada{c}x")))));
    each_is_refused(&[], "invalid", &["username"], rows());
    each_is_refused(&["--set", "validator.username_alphanumeric=false"], "invalid", &["username"], rows());
    let ids = HIDDEN.map(|c| (format!("{c:?}"), with("userId", json!(format!("ada{c}x")))));
    each_is_refused(&["--set", "validator.user_id=any"], "invalid", &["userId"], ids);
}

#[test]
fn a_name_in_any_script_is_taken_where_that_is_set() {
    let server = Server::start(&["--set", "validator.username_alphanumeric=false"]);
    let mut wire = Wire::open(&server, "7?deliver=none");
    for name in ["Zoë", "李小龙", "<b>bob</b>", "O'Neil\"--", "مريم"] {
        wire.text(&with("username", json!(name)));
        assert_eq!(wire.answer()["status"], "SUCCESS", "{name}");
    }
}

#[test]
fn a_text_is_kept_as_it_was_said() {
    let server = Server::start(&[]);
    let (mut wire, mut member) = (Wire::open(&server, "7?deliver=none"), Wire::open_v1(&server, "7"));
    member.next_json(|frame| frame["event"] == "welcome");
    let texts = [
        "'; DROP TABLE messages; --",
        "\" OR \"\"=\"",
        "%_\\'\"`$1 ?1 :a @b {{7*7}} ${7*7}",
        "before\0after",
        "\0",
        "\u{1}\u{8}\t\n\r\u{1b}[31m\u{7f}",
        "\u{202e}evil\u{2066}\u{feff}",
        "<script>alert(1)</script>&amp;</title>",
        "\u{e000}\u{fffe}\u{ffff}\u{10ffff}",
        r#"{"messageId":"x","status":"SUCCESS"}"#,
        r"\u0000 \ud800 \\",
    ];
    for text in texts {
        wire.json(&said(text));
        let answer = wire.answer();
        assert_eq!(answer["status"], "SUCCESS", "{text:?}: {answer}");
        let heard = member.next_json(|frame| frame.get("message").is_some());
        assert_eq!((&heard["message"], &heard["messageId"]), (&json!(text), &answer["messageId"]));
    }
    let page = server.get("/api/v1/rooms/7/messages").json();
    let kept: Vec<_> = page["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(kept, texts);
    unharmed(&server);
}

#[test]
fn ten_errors_in_a_row_end_the_connection_and_nine_do_not() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7?deliver=none");
    let errors = |wire: &mut Wire, count| (0..count).for_each(|_| wire.text("{"));
    for _ in 0..3 {
        errors(&mut wire, 9);
        wire.json(&said("sorry"));
        for _ in 0..9 {
            assert_eq!(wire.answer()["code"], "bad_json");
        }
        assert_eq!(wire.answer()["status"], "SUCCESS");
    }
    errors(&mut wire, 9);
    wire.json(&said(""));
    // It is not heard any more.
    wire.json(&said("too late"));
    let mut codes: Vec<_> = (0..10).map(|_| wire.answer()["code"].as_str().unwrap().to_owned()).collect();
    assert_eq!((codes.pop().as_deref(), codes), (Some("invalid"), vec!["bad_json".to_owned(); 9]));
    assert_eq!(wire.end(), (1008, "ten errors in a row".to_owned()));
    unharmed(&server);
    assert_eq!(server.get("/api/v1/rooms/7/messages?limit=1").json()["messages"][0]["message"], "sorry");
}

#[test]
fn what_the_server_is_the_reason_of_is_no_error_of_the_client() {
    let server = Server::start(&["--set", "limits.publish_rate_anonymous=1"]);
    let mut wire = Wire::open(&server, "7?deliver=none");
    for _ in 0..30 {
        wire.json(&said("hasty"));
    }
    let answers: Vec<_> = (0..30).map(|_| wire.answer()).collect();
    let limited: Vec<_> = answers.iter().filter(|answer| answer["code"] == "rate_limited").collect();
    assert!(limited.len() >= 20, "{answers:?}");
    assert!(limited.iter().all(|answer| answer["retryable"] == true && answer["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0)));
}

#[test]
fn a_message_id_that_was_used_for_another_message_is_a_conflict() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7?deliver=none");
    let mut message = said("first");
    message["messageId"] = json!("0190a3f0-0000-7000-8000-000000000001");
    wire.json(&message);
    let first = wire.answer();
    wire.json(&message);
    assert_eq!(wire.answer()["position"], first["position"]);
    message["message"] = json!("second");
    wire.json(&message);
    let conflict = wire.answer();
    assert_eq!((&conflict["code"], &conflict["messageId"]), (&json!("id_conflict"), &message["messageId"]));
    unharmed(&server);
}

#[test]
fn operations_that_break_rules_are_bad_ops() {
    let server = Server::start(&[]);
    let mut wire = Wire::open_v1(&server, "7?deliver=none");
    for (op, code) in [
        (r#"{"op":"dance"}"#, "bad_op"),
        (r#"{"op":7}"#, "bad_op"),
        (r#"{"op":null}"#, "invalid"),
        (r#"{"op":"join"}"#, "bad_op"),
        (r#"{"op":"join","roomId":7}"#, "bad_op"),
        (r#"{"op":"join","roomId":"a","roomId":"b"}"#, "bad_op"),
        (r#"{"op":"join","op":"leave","roomId":"a"}"#, "bad_op"),
        (r#"{"op":"join","roomId":"a","history":-1}"#, "bad_op"),
        (r#"{"op":"join","roomId":"a","history":1e9}"#, "bad_op"),
        (r#"{"op":"leave","roomId":"a"}"#, "wrong_room"),
        (&format!(r#"{{"op":"join","roomId":"a","x":{}{}}}"#, "[".repeat(32), "]".repeat(32)), "too_deep"),
        (&format!(r#"{{"op":"join","roomId":"a","x":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000)), "too_deep"),
        (r#"["op"]"#, "bad_json"),
        (r#"{"op":"join""#, "bad_json"),
    ] {
        wire.text(op);
        let error = wire.answer();
        assert_eq!((&error["status"], &error["code"]), (&json!("error"), &json!(code)), "{op}: {error}");
        wire.json(&said("fine"));
        assert_eq!(wire.answer()["status"], "SUCCESS");
    }
    unharmed(&server);
}
