//! Calls to SNS and SQS, and what their errors mean.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{Region, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_types::SdkConfig;

use super::SqsBrokerConfig;
use crate::{Backoff, Error, ErrorKind};

/// How long connecting, and how long one call may take. The first call to an emulator takes five seconds.
const CONNECT: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(10);

/// An HTTP client over rustls with ring, for an `SdkConfig`: none comes with it here.
pub fn http_client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Both services.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub(super) sns: aws_sdk_sns::Client,
    pub(super) sqs: aws_sdk_sqs::Client,
    /// Where they are, for errors: the region, and the endpoint if it is not what AWS has there.
    pub(super) place: String,
}

impl Clients {
    pub(super) fn new(config: &SqsBrokerConfig, sdk: &SdkConfig) -> Self {
        let mut builder = sdk
            .to_builder()
            .region(Region::new(config.region.clone()))
            // What is tried again, when and with which dedup id is this broker's own business.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(CALL))
            // Waiting for entries looks like a stalled stream.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if sdk.http_client().is_none() {
            builder = builder.http_client(http_client());
        }
        if let Some(endpoint) = &config.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        let sdk = builder.build();
        // The environment may name one as well (`AWS_ENDPOINT_URL`).
        let endpoint = sdk.endpoint_url().map(|url| format!(" at {url}")).unwrap_or_default();
        let place = format!("{}{endpoint}", config.region);
        Self { sns: aws_sdk_sns::Client::new(&sdk), sqs: aws_sdk_sqs::Client::new(&sdk), place }
    }
}

/// Timeouts for calls that may take `call` each.
pub(super) fn timeouts(call: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(call).build()
}

/// What to do about a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The topic or queue does not exist.
    Gone,
    /// One of that name exists and is different.
    Different,
    /// Too many calls; later.
    Throttled,
    /// Not reached, or the outcome is not known.
    Away,
    /// Something that time alone does not mend.
    Refused,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) error: Error,
}

impl Fault {
    pub(super) fn is(&self, cause: Cause) -> bool {
        self.cause == cause
    }

    /// The same where what is missing is only missing for now, and nothing is to be concluded from it.
    pub(super) fn for_now(self) -> Self {
        match self.cause {
            Cause::Gone => Self { cause: Cause::Away, ..self },
            _ => self,
        }
    }

    /// A fault of what answered rather than of a call.
    pub(super) fn odd(what: &'static str) -> Self {
        Self { cause: Cause::Away, error: Error::new(ErrorKind::Unavailable, "sqs", what) }
    }

    /// A setting that does not fit the installation.
    pub(super) fn config(text: String) -> Self {
        Self { cause: Cause::Refused, error: Error::new(ErrorKind::Config, "sqs", text) }
    }

    fn new<E>(what: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let code = error.code().unwrap_or_default().to_owned();
        let text = error.message().unwrap_or_default().to_owned();
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let has = |parts: &[&str]| parts.iter().any(|part| code.contains(part));
        let (cause, kind, text) = if has(&["NotFound", "NonExistent", "DoesNotExist"]) {
            (Cause::Gone, ErrorKind::Unavailable, format!("{what}: it does not exist"))
        } else if has(&["QueueAlreadyExists", "QueueNameExists"]) || text.contains("different tags") {
            (Cause::Different, ErrorKind::Config, format!("{what}: another one of that name exists: {text}"))
        } else if has(&["Throttl", "TooManyRequests", "OverLimit", "LimitExceeded", "QueueDeletedRecently"]) || status == 429 {
            (Cause::Throttled, ErrorKind::Unavailable, format!("{what}: not now: {code}: {text}"))
        } else if status == 401 || status == 403 || has(&["AccessDenied", "AuthorizationError", "SignatureDoesNotMatch"]) {
            let text = text.trim_end_matches('.');
            let advice = "give this node credentials that are valid and may use the installation's topics and queues";
            (Cause::Refused, ErrorKind::Config, format!("{what}: AWS does not let us: {code}: {text}; {advice}"))
        } else if status >= 500 {
            (Cause::Away, ErrorKind::Unavailable, format!("{what}: the service fails with status {status}: {code} {text}"))
        } else if let Some(reason) = credentials(&error) {
            (Cause::Refused, ErrorKind::Config, format!("{what}: no AWS credentials: {reason}"))
        } else {
            match &error {
                SdkError::ServiceError(_) if code.is_empty() => {
                    (Cause::Refused, ErrorKind::Config, format!("{what}: this is no answer of SNS or SQS: {}", reason(&error)))
                }
                SdkError::ServiceError(_) => (Cause::Refused, ErrorKind::Config, format!("{what}: refused: {code}: {text}")),
                SdkError::TimeoutError(_) => (Cause::Away, ErrorKind::Timeout, format!("{what}: no answer in time")),
                SdkError::ConstructionFailure(_) => (Cause::Refused, ErrorKind::Config, format!("{what}: {}", reason(&error))),
                _ => (Cause::Away, ErrorKind::Unavailable, format!("{what}: {}", reason(&error))),
            }
        };
        Self { cause, error: Error::new(kind, "sqs", text) }
    }
}

/// Why no credentials were had, if that is what is wrong.
fn credentials(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut at = Some(error);
    while let Some(error) = at {
        let text = error.to_string();
        if text.contains("credential") || text.contains("identity") {
            // The first sentence; others are advice to programmers.
            return reason(error).split(". ").next().map(str::to_owned);
        }
        at = error.source();
    }
    None
}

/// The innermost reasons: the SDK's outer ones only say that there was an error.
fn reason(error: &(dyn StdError + 'static)) -> String {
    let (mut texts, mut at) = (Vec::new(), Some(error));
    while let Some(error) = at {
        texts.push(error.to_string());
        at = error.source();
    }
    texts.dedup();
    let skip = texts.len().saturating_sub(2);
    texts[skip..].join(": ")
}

/// One call.
pub(super) async fn once<T, E, F>(what: &'static str, send: F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    send.await.map_err(|error| Fault::new(what, error))
}

/// A call that is repeated while the service asks for patience, some seconds at the most.
pub(super) async fn call<T, E, F>(what: &'static str, send: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    for attempt in 0..6 {
        match once(what, send()).await {
            Err(fault) if fault.is(Cause::Throttled) => tokio::time::sleep(backoff.delay(attempt)).await,
            outcome => return outcome,
        }
    }
    once(what, send()).await
}
