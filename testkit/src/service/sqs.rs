//! SNS and SQS, as an emulator has them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::Program;
use crate::{Port, http, packages};

/// LocalStack with SNS and SQS. It takes any credentials, and has its topics, queues and messages in memory.
#[derive(Debug)]
pub struct Sqs(Port);

impl Default for Sqs {
    fn default() -> Self {
        Self(Port::free())
    }
}

impl Sqs {
    /// Without any topic or queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where `scripts/test` installs it, or where somebody else has.
    fn folder() -> PathBuf {
        std::env::var_os("CHATFLOW_LOCALSTACK").map_or_else(|| packages("localstack"), PathBuf::from)
    }

    fn python() -> PathBuf {
        Self::folder().join("bin/python")
    }
}

#[async_trait]
impl Program for Sqs {
    fn name(&self) -> &'static str {
        "sqs"
    }

    fn missing() -> Option<String> {
        // `scripts/test` writes it last.
        let is_whole = std::env::var_os("CHATFLOW_LOCALSTACK").is_some() || Self::folder().join("complete").is_file();
        let folder = Self::folder();
        if is_whole && Self::python().is_file() {
            None
        } else {
            Some(format!("there is no LocalStack in {} (scripts/test installs it)", folder.display()))
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.0.address()]
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        format!("sqs://us-east-1?endpoint=http://{}", addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        let mut command = Command::new(Self::python());
        command
            .args(["-m", "localstack.runtime.main"])
            .env("SERVICES", "sqs,sns")
            .env("GATEWAY_LISTEN", self.0.address().to_string())
            .env("FILESYSTEM_ROOT", folder.join("data"))
            .env("DNS_ADDRESS", "0")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("DISABLE_EVENTS", "1")
            // Else the URL of a queue has a name in it that has to be looked up on the Internet.
            .env("SQS_ENDPOINT_STRATEGY", "path")
            .env("LOCALSTACK_HOST", self.0.address().to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        vec![command]
    }

    async fn answers(&self) -> bool {
        let health = timeout(Duration::from_secs(2), http::get(self.0.address(), "/_localstack/health")).await;
        let Ok(Ok(health)) = health else { return false };
        let may_be_called =
            |name: &&str| health.json()["services"][name].as_str().is_some_and(|state| state == "available" || state == "running");
        health.status == 200 && ["sqs", "sns"].iter().all(may_be_called)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(90)
    }

    fn keeps_data(&self) -> bool {
        false
    }
}
