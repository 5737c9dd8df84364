//! Connections: to whom, as whom, and under which certificates.

use std::time::Duration;

use onlyonce_core::{Operation, StoreError, StoreErrorKind};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _,
    ProtocolVersion, PushInfo, RedisConnectionInfo, RedisResult, TlsCertificates,
};

use crate::url::{Address, Credentials, TlsFiles};

/// What pushes from the server are handed to.
pub(crate) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// How to connect to any server of the store.
#[derive(Clone, Debug)]
pub(crate) struct Dialler {
    credentials: Credentials,
    database: i64,
    tls: Option<TlsCertificates>,
    timeout: Duration,
}

impl Dialler {
    /// Reads the certificates. **Blocks**, for as long as reading small files takes.
    pub(crate) fn new(
        credentials: Credentials,
        database: i64,
        tls: Option<&TlsFiles>,
        timeout: Duration,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            credentials,
            database,
            tls: tls.map(certificates).transpose()?,
            timeout,
        })
    }

    /// The same, as somebody else and to no database: for Sentinels.
    pub(crate) fn for_sentinels(&self, credentials: Credentials) -> Self {
        Self {
            credentials,
            database: 0,
            tls: self.tls.clone(),
            timeout: self.timeout,
        }
    }

    /// Connects. Requests on the connection have no time limit of their own.
    pub(crate) async fn dial(
        &self,
        server: &Address,
        on_push: Option<OnPush>,
    ) -> RedisResult<MultiplexedConnection> {
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        if let Some(on_push) = on_push {
            config = config.set_push_sender(move |push: PushInfo| {
                on_push(push);
                Ok::<_, redis::aio::SendError>(())
            });
        }
        let client = self.client(server)?;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    fn client(&self, server: &Address) -> RedisResult<Client> {
        let mut settings = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(self.database)
            .set_lib_name("onlyonce-redis", env!("CARGO_PKG_VERSION"));
        if let Some(user) = &self.credentials.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.credentials.password {
            settings = settings.set_password(password);
        }
        let (host, port) = (server.host.to_string(), server.port);
        let Some(certificates) = &self.tls else {
            let info = ConnectionAddr::Tcp(host, port).into_connection_info()?;
            return Client::open(info.set_redis_settings(settings));
        };
        let address = ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        };
        let info = address.into_connection_info()?.set_redis_settings(settings);
        Client::build_with_tls(info, certificates.clone())
    }
}

fn certificates(files: &TlsFiles) -> Result<TlsCertificates, StoreError> {
    // The process may have chosen a provider already: then that one it is.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| {
            misconfigured(format!("{} can't be read", path.display())).with_source(error)
        })
    };
    let client_tls = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => Some(ClientTlsConfig {
            client_cert: read(certificate)?,
            client_key: read(key)?,
        }),
        (None, None) => None,
        (Some(_), None) => return Err(misconfigured("`cert_file` needs its `key_file`")),
        (None, Some(_)) => return Err(misconfigured("`key_file` needs its `cert_file`")),
    };
    Ok(TlsCertificates {
        client_tls,
        root_cert: files.authority.as_ref().map(read).transpose()?,
    })
}

fn misconfigured(message: impl Into<Box<str>>) -> StoreError {
    StoreError::new(Operation::Open, StoreErrorKind::Misconfigured, message)
}
