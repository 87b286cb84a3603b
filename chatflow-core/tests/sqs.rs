//! The broker on SNS and SQS, on an emulator.

#[path = "support/emulator.rs"]
mod emulator;

use std::sync::{Arc, LazyLock};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, SharedCredentialsProvider};
use aws_types::SdkConfig;
use aws_types::region::Region;
use chatflow_core::broker::sqs::{SqsBroker, SqsBrokerConfig};
use chatflow_core::broker_suite;
use chatflow_core::conformance::broker::Subject;
use uuid::Uuid;

use emulator::Emulator;

static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::start);

fn sdk() -> SdkConfig {
    let credentials = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "the test"));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials)
        .region(Region::new("eu-west-1"))
        .build()
}

fn config(endpoint: &str) -> SqsBrokerConfig {
    let mut config =
        SqsBrokerConfig::new("eu-west-1").with_endpoint(endpoint).with_prefix(format!("t{}", Uuid::new_v4().simple()).split_at(12).0);
    (config.logs, config.entries, config.retain, config.receivers) = (2, 64, 16, 2);
    config
}

fn broker(config: &SqsBrokerConfig) -> Arc<SqsBroker> {
    Arc::new(SqsBroker::new(config.clone(), &sdk()).expect("a broker"))
}

broker_suite!(sqs, async {
    let endpoint = tokio::task::spawn_blocking(|| EMULATOR.endpoint()).await.expect("an emulator");
    Subject::new(broker(&config(&endpoint)), 64)
});
