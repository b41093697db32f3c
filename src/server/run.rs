//! Binding, serving, and an end in good order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::config::Config;
use super::dialer::Dialer;
use super::routes::app;
use super::service::{Service, StartError};

/// What requests may take that are still being answered when everything else is over.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Why the service could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The HTTP socket could not be bound.
    #[error("setting `server.bind`: cannot bind {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// The service could not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The HTTP socket broke.
    #[error("HTTP: {0}")]
    Serve(#[from] io::Error),
}

/// A bound service, ready to be served.
pub struct Server {
    listener: TcpListener,
    service: Arc<Service>,
}

impl Server {
    /// Binds the HTTP socket (port 0: a free one) and starts the service.
    ///
    /// # Errors
    /// When the socket cannot be bound or the service not started.
    pub async fn bind(mut config: Config, dialer: Arc<dyn Dialer>) -> Result<Self, RunError> {
        // First the settings as they were written, so that a refusal does not depend on what the system gave.
        config.check().map_err(StartError::from)?;
        let address = config.server.bind;
        let listener =
            TcpListener::bind(address).await.map_err(|source| RunError::Bind { address, source })?;
        config.server.bind = listener.local_addr()?;
        let service = Service::start(config, dialer).await?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        Ok(Self { listener, service })
    }

    /// Where HTTP is served.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> Arc<Service> {
        self.service.clone()
    }

    /// Serves until `shutdown` completes, then drains: new calls are refused, living ones may end by themselves for
    /// `server.drain_seconds`, and every call's end is written down.
    ///
    /// # Errors
    /// When the socket breaks.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        let Self { listener, service } = self;
        let patience = Duration::from_secs(service.config.server.drain_seconds);
        let router = app(service.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let (stop, stopped) = oneshot::channel::<()>();
        let http = axum::serve(listener, router).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let mut http = tokio::spawn(http.into_future());
        tokio::select! {
            ended = &mut http => return ended.map_err(io::Error::other)?.map_err(RunError::from),
            () = shutdown => {}
        }
        service.drain(patience).await;
        let _ = stop.send(());
        if tokio::time::timeout(LAST_ANSWERS, &mut http).await.is_err() {
            http.abort();
        }
        Ok(())
    }
}

/// Binds, serves until `shutdown` completes, and drains.
///
/// # Errors
/// As [`Server::bind`] and [`Server::serve`].
pub async fn run(
    config: Config,
    dialer: Arc<dyn Dialer>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    Server::bind(config, dialer).await?.serve(shutdown).await
}
