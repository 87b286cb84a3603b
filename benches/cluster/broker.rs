//! A private broker, and the network in front of it.

use chatflow_testkit::{Proxy, RabbitMq, Redis, Service, Sqs};

use crate::args::{Args, Fault, Kind};

/// A broker.
#[derive(Debug)]
pub(crate) struct Broker {
    /// `None`: in the server's memory.
    pub(crate) service: Option<Service>,
    /// Only where the network is to fail: it costs time.
    pub(crate) network: Option<Proxy>,
}

impl Broker {
    /// Starts one.
    pub(crate) async fn start(args: &Args) -> Self {
        let settings = args.broker_settings.iter();
        let service = match args.broker {
            Kind::Memory => None,
            Kind::Redis => Some(Service::start_new(settings.fold(Redis::new(), |redis, (key, value)| redis.set(key, value))).await),
            Kind::RabbitMq => Some(Service::start_new(settings.fold(RabbitMq::new(), |rabbit, (key, value)| rabbit.set(key, value))).await),
            Kind::Sqs => Some(Service::start_new(Sqs::new()).await),
        };
        let network = match (args.fault, &service) {
            (Fault::Cut | Fault::Silence, Some(service)) => Some(Proxy::start(service.address()).await),
            _ => None,
        };
        Self { service, network }
    }

    /// Where the servers find it.
    pub(crate) fn url(&self) -> String {
        match (&self.service, &self.network) {
            (None, _) => "memory:".to_owned(),
            (Some(service), Some(network)) => service.url_through(&[network.address()]),
            (Some(service), None) => service.url(),
        }
    }

    /// The numbers of its processes.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.service.as_ref().map(Service::processes).unwrap_or_default()
    }
}
