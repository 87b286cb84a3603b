//! The documents say what is so: every file, test, setting, metric and code that they name exists, every one that exists and
//! matters to a reader is named, and every piece of JSON and TOML in them can be read.

#![allow(clippy::unwrap_used)]

mod text;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use text::{Block, blocks, code_spans, links};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents, by their paths from the root.
fn documents() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.to_string_lossy()));
    let of_root = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(String::from);
    let mut paths: Vec<_> = docs.chain(of_root).filter(|path| path.ends_with(".md")).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// Every Rust file of the workspace, in one text.
fn sources() -> String {
    fn gather(folder: &Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                gather(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = String::new();
    gather(&root(), &mut all);
    all
}

fn output(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_chatflow-server")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// `section.key` and the default as it is written, of every setting.
fn settings() -> Vec<(String, String)> {
    let (done, document) = output(&["default-config"]);
    assert!(done);
    let mut section = "";
    let mut settings = Vec::new();
    for line in document.lines().filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once(" = ") {
            settings.push((format!("{section}.{key}"), value.to_owned()));
        }
    }
    assert!(settings.len() > 40, "{settings:?}");
    settings
}

#[test]
fn every_link_and_file_is_there() {
    let tops = ["chatflow-core/", "chatflow-server/", "chatflow-client/", "examples/", "benches/", "testkit/", "scripts/", "docs/"];
    let mut missing = Vec::new();
    for (document, text) in documents() {
        let folder = root().join(&document).parent().unwrap().to_owned();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { root().join(&document) } else { folder.join(path) };
            let there = match std::fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || text::anchors(&text).contains(anchor),
                Err(_) => target.is_dir() && anchor.is_empty(),
            };
            if !there {
                missing.push(format!("{document}: {link}"));
            }
        }
        for span in code_spans(&text).into_iter().filter(|span| tops.iter().any(|top| span.starts_with(top))) {
            let path = span.split_whitespace().next().unwrap();
            if !path.contains(['*', '{', '…']) && !root().join(path).exists() {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_test_behind_a_guarantee_is_there() {
    let sources = sources();
    let settings = settings();
    let text = read("docs/guarantees.md");
    let names: BTreeSet<_> = code_spans(&text).into_iter().filter(|span| text::is_test_name(span)).collect();
    assert!(names.len() > 30, "{names:?}");
    let is_test = |name: &str| sources.contains(&format!("fn {name}("));
    let is_key = |name: &str| settings.iter().any(|(key, _)| key.ends_with(&format!(".{name}")));
    let missing: Vec<_> = names.iter().filter(|name| !is_test(name) && !is_key(name) && **name != "not_kept").collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn settings_are_the_servers() {
    let settings = settings();
    let sections: BTreeSet<_> = settings.iter().filter_map(|(key, _)| key.split_once('.').map(|(section, _)| section.to_owned())).collect();
    let mut wrong = Vec::new();
    for (document, text) in documents() {
        for span in code_spans(&text) {
            let name = span.split([' ', '=']).next().unwrap();
            let Some((section, key)) = name.split_once('.') else { continue };
            let is_setting = sections.contains(section) && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && !key.is_empty();
            if is_setting && !["rs", "md", "toml"].contains(&key) && !settings.iter().any(|(known, _)| known == name) {
                wrong.push(format!("{document}: {name}"));
            }
        }
    }
    let reference = read("docs/operations.md");
    for (key, default) in &settings {
        if !reference.contains(&format!("| `{key}` | `{default}` |")) {
            wrong.push(format!("docs/operations.md: no row for {key} = {default}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn metrics_are_the_servers() {
    let shown = metrics();
    let shown: BTreeSet<_> = shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(shown.len() > 15, "{shown:?}");
    let steps = [
        "store/postgres/schema/1.sql",
        "store/postgres/schema/2.sql",
        "store/postgres/schema/3.sql",
        "store/postgres/schema/4.sql",
        "store/postgres/schema/5.sql",
        "store/postgres/schema/6.sql",
        "outbox/schema/postgres.sql",
    ];
    let tables = steps.map(|step| read(&format!("chatflow-core/src/{step}"))).concat();
    let is_other = |span: &str| span.starts_with("chatflow_core") || span.starts_with("chatflow_client") || tables.contains(span);
    let is_metric = |span: &&String| span.starts_with("chatflow_") && !is_other(span);
    for (document, text) in documents() {
        let unknown: Vec<_> = code_spans(&text).into_iter().filter(|span| is_metric(&span) && !shown.contains(span.as_str())).collect();
        assert!(unknown.is_empty(), "{document}: {unknown:?}");
    }
    let reference = read("docs/operations.md");
    let missing: Vec<_> = shown.iter().filter(|name| !reference.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/operations.md: {missing:?}");
}

/// What `/metrics` of a running server says.
fn metrics() -> String {
    struct Ended(Child);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let mut server = Command::new(env!("CARGO_BIN_EXE_chatflow-server"));
    server.args(["--listen", "127.0.0.1:0", "--store", "none"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Ended(server.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_else(|| panic!("{line}"));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn codes_are_the_protocols() {
    let source = read("chatflow-core/src/protocol.rs");
    let reference = read("docs/protocol.md");
    let constants = |kind: &str| -> Vec<String> {
        let lines = source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(kind));
        lines.map(|(_, value)| value.trim_matches([' ', '=', ';', '"']).to_owned()).collect()
    };
    let (errors, closes) = (constants(": &str"), constants(": u16"));
    assert!(errors.len() > 10 && closes.len() > 10, "{errors:?} {closes:?}");
    let missing: Vec<_> = errors
        .iter()
        .filter(|code| *code != "chatflow.v1" && !reference.contains(&format!("| `{code}` |")))
        .chain(closes.iter().filter(|code| !reference.contains(&format!("| {code} |"))))
        .collect();
    assert!(missing.is_empty(), "docs/protocol.md: {missing:?}");
}

#[test]
fn json_and_toml_can_be_read() {
    for (document, text) in documents() {
        for Block { language, text } in blocks(&text) {
            match language {
                "json" => {
                    let values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>().collect::<Result<Vec<_>, _>>();
                    let count = values.unwrap_or_else(|error| panic!("{document}: {error} in {text}")).len();
                    assert!(count > 0, "{document}: an empty block of JSON");
                }
                "toml" if !text.contains("[dependencies]") => {
                    let mut file = tempfile::NamedTempFile::new().unwrap();
                    file.write_all(text.as_bytes()).unwrap();
                    let (done, said) = output(&["check-config", "--config", file.path().to_str().unwrap()]);
                    assert!(done, "{document}: {said} in {text}");
                }
                "toml" => drop(text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{document}: {error} in {text}"))),
                _ => {}
            }
        }
    }
}
