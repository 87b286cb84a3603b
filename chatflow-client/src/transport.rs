//! The byte stream to a server, plain or through TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::{ConnectFailure, Endpoint};

/// A connected byte stream. WebSocket and HTTP both run on it.
#[derive(Debug)]
pub struct Transport(Stream);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Transport {
    /// Connects to `endpoint`, trying each address that its name has. Has no time-out of its own.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    ///
    /// # Errors
    /// The name has no address, nobody listens, TLS fails.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ConnectFailure> {
        #[cfg(not(feature = "tls"))]
        if endpoint.is_secure() {
            return Err(ConnectFailure::NoTls);
        }
        let tcp = connect_tcp(endpoint).await?;
        #[cfg(feature = "tls")]
        if endpoint.is_secure() {
            return tls::connect(endpoint, tcp).await.map(|stream| Self(Stream::Tls(Box::new(stream))));
        }
        Ok(Self(Stream::Plain(tcp)))
    }
}

async fn connect_tcp(endpoint: &Endpoint) -> Result<TcpStream, ConnectFailure> {
    let unresolved = |problem: String| ConnectFailure::Resolve { host: endpoint.host().to_owned(), problem };
    let addresses = tokio::net::lookup_host((endpoint.host(), endpoint.port())).await.map_err(|e| unresolved(e.to_string()))?;
    let mut failure = unresolved("it has no address".to_owned());
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                // Messages are small and wanted at once. A socket that can't be told so works all the same.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Err(error) => failure = ConnectFailure::of_io(&error),
        }
    }
    Err(failure)
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(feature = "tls")]
mod tls {
    //! TLS by rustls, trusting the certificates that the system trusts (or `SSL_CERT_FILE` names).

    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    use crate::{ConnectFailure, Endpoint};

    pub(super) async fn connect(endpoint: &Endpoint, tcp: TcpStream) -> Result<TlsStream<TcpStream>, ConnectFailure> {
        let failed = |problem: String| ConnectFailure::Tls(problem);
        let name = ServerName::try_from(endpoint.host().to_owned()).map_err(|e| failed(e.to_string()))?;
        // Read anew for each connection: reconnects are rare, and a certificate that was added counts at once.
        let config = tokio::task::spawn_blocking(config).await.map_err(|e| failed(e.to_string()))?.map_err(failed)?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|e| failed(e.to_string()))
    }

    fn config() -> Result<ClientConfig, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let problems: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            return Err(format!("the system has no trusted certificates; install ca-certificates or set SSL_CERT_FILE {problems:?}"));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}
