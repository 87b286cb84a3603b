//! An emulator of SNS and SQS (LocalStack 4.3.0, a Python program) for the tests of this file alone, on a free port.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends with its owner, whichever way that ends: the shell reads from it.
const SHELL: &str = r#""$0" -c "$1" >"$2/log" 2>&1 & pid=$!; cat >/dev/null; kill -9 $pid"#;

/// LocalStack gives a message its sequence number and puts it in line in two steps, so two publishers at once can have their numbers
/// and their messages the other way round. SNS can't.
const PROGRAM: &str = r"
import functools, threading
import localstack.services.sns.provider as sns
line = threading.Lock()
def in_line(call):
    @functools.wraps(call)
    def alone(*args, **kwargs):
        with line:
            return call(*args, **kwargs)
    return alone
sns.SnsProvider.publish = in_line(sns.SnsProvider.publish)
sns.SnsProvider.publish_batch = in_line(sns.SnsProvider.publish_batch)
from localstack.runtime.main import main
main()
";

/// Where `scripts/test` installs it, or where somebody else has.
fn python() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = || std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("chatflow/localstack");
    std::env::var_os("CHATFLOW_LOCALSTACK").map_or_else(cache, PathBuf::from).join("bin/python")
}

/// A running emulator. What it holds is gone when it stops.
#[derive(Debug)]
pub(crate) struct Emulator {
    port: u16,
    process: Option<Child>,
    files: tempfile::TempDir,
}

impl Emulator {
    /// One that answers.
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let mut emulator = Self { port, process: None, files: tempfile::tempdir().expect("a folder") };
        emulator.resume();
        emulator
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it at once.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("it ends");
        }
    }

    /// Starts it again, empty.
    pub(crate) fn resume(&mut self) {
        let python = python();
        let files = self.files.path();
        let process = Command::new("sh")
            .args(["-c", SHELL])
            .arg(python)
            .arg(PROGRAM)
            .arg(files)
            .env("SERVICES", "sqs,sns")
            .env("GATEWAY_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("FILESYSTEM_ROOT", files)
            // Else all of them write one certificate.
            .env("TMPDIR", files)
            .envs([("DNS_ADDRESS", "0"), ("SKIP_SSL_CERT_DOWNLOAD", "1"), ("DISABLE_EVENTS", "1")])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        self.process = Some(process);
        let began = Instant::now();
        // Its first answer takes seconds and more than its health says.
        while !self.answers() {
            assert!(
                began.elapsed() < Duration::from_secs(180),
                "no emulator: {}",
                std::fs::read_to_string(files.join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether a message that is published comes through a queue: only then does it have all that it loads when it is first needed.
    fn answers(&self) -> bool {
        const SNS: &str = "Version=2010-03-31&TopicArn=arn:aws:sns:eu-west-1:000000000000:first";
        let url = format!("http%3A%2F%2F127.0.0.1%3A{}%2F000000000000%2Ffirst", self.port);
        [
            ("sqs", "Version=2012-11-05&Action=CreateQueue&QueueName=first".to_owned(), "200 OK"),
            ("sns", "Version=2010-03-31&Action=CreateTopic&Name=first".to_owned(), "200 OK"),
            ("sns", format!("{SNS}&Action=Subscribe&Protocol=sqs&Endpoint=arn:aws:sqs:eu-west-1:000000000000:first"), "200 OK"),
            ("sns", format!("{SNS}&Action=Publish&Message=first"), "200 OK"),
            ("sqs", format!("Version=2012-11-05&Action=ReceiveMessage&WaitTimeSeconds=5&QueueUrl={url}"), "<ReceiptHandle>"),
        ]
        .iter()
        .all(|(service, body, expected)| self.call(service, body).is_ok_and(|answer| answer.contains(expected)))
    }

    fn call(&self, service: &str, body: &str) -> std::io::Result<String> {
        let mut answer = String::new();
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(
            socket,
            "POST / HTTP/1.1\r\nHost: {service}.eu-west-1.amazonaws.com\r\nConnection: close\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}
