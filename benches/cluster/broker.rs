//! A private broker, and the network in front of it.

use chatflow_testkit::{Proxy, RabbitMq, Redis, Service, Sqs};

use crate::args::{Args, Fault, Kind};

/// A broker.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) service: Service,
    /// Only where the network is to fail: it costs time.
    pub(crate) network: Option<Proxy>,
}

impl Broker {
    /// Starts one.
    pub(crate) async fn start(args: &Args) -> Self {
        let settings = args.broker_settings.iter();
        let service = match args.broker {
            Kind::Redis => Service::start_new(settings.fold(Redis::new(), |redis, (key, value)| redis.set(key, value))).await,
            Kind::RabbitMq => Service::start_new(settings.fold(RabbitMq::new(), |rabbit, (key, value)| rabbit.set(key, value))).await,
            Kind::Sqs => Service::start_new(Sqs::new()).await,
        };
        let network = match args.fault {
            Fault::Cut | Fault::Silence => Some(Proxy::start(service.address()).await),
            Fault::None | Fault::Kill | Fault::Restart => None,
        };
        Self { service, network }
    }

    /// Where the servers find it.
    pub(crate) fn url(&self) -> String {
        match &self.network {
            Some(network) => self.service.url_through(&[network.address()]),
            None => self.service.url(),
        }
    }
}
