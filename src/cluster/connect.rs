//! Connections to the server that is responsible for a name: alone, behind Sentinels, in a Redis
//! Cluster, over TCP, TLS or a Unix socket.
//!
//! Owns the way from the options to a connection. Does not own the time of an attempt, or the calls
//! (`net`).

use super::exchange::{CONFIG, INCOMPATIBLE, describe, send};
use super::resolve::addresses;
use super::rights::missing_right;
use super::tls::{Tls, TlsOptions, is_of_certificate};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, ServerErrorKind,
};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};

/// Servers, and the way to them. Times are in ms.
#[derive(Clone, PartialEq)]
pub struct Endpoint {
    /// URLs of the server, of the Sentinels, or of some nodes of a Redis Cluster.
    pub urls: Vec<String>,
    /// Name of the primary that the Sentinels watch; `urls` are theirs if it is set.
    pub sentinel_master: Option<String>,
    /// User name at the server, if the URL has none. URLs of Sentinels hold those of the Sentinels.
    pub username: Option<String>,
    /// Password at the server, likewise.
    pub password: Option<String>,
    /// TLS; `None` if the URLs are not `rediss:`.
    pub tls: Option<TlsOptions>,
    /// Longest time that a connection may take.
    pub connect_timeout_ms: f64,
    /// True to accept a server that evicts keys.
    pub allow_eviction: bool,
}

/// Oldest server whose scripts may write after they have read the time.
const OLDEST: (u32, u32) = (6, 2);
/// Servers of a Redis Cluster that one attempt asks after another.
const REDIRECTS_MAX: usize = 5;

/// A server and the rights there.
#[derive(Clone)]
struct Target {
    address: ConnectionAddr,
    redis: RedisConnectionInfo,
}

/// A connection that is ready for calls.
pub(super) struct Opened {
    pub(super) connection: MultiplexedConnection,
    /// The task that reads and writes.
    pub(super) driver: AbortHandle,
    /// Identity of the server's process.
    pub(super) run: String,
    /// True if the name's slot is moving to this server: each command needs `ASKING`.
    pub(super) is_asking: bool,
}

/// Makes connections to the server that holds one key.
pub(super) struct Connector {
    targets: Vec<Target>,
    /// Rights at the server that Sentinels name.
    server: RedisConnectionInfo,
    sentinel_master: Option<String>,
    tls: Option<Tls>,
    timeout: Duration,
    allow_eviction: bool,
    key: Vec<u8>,
}

/// Checks options without connecting.
///
/// # Errors
/// The option that cannot be used, with its code.
pub fn check_endpoint(endpoint: &Endpoint) -> Result<(), String> {
    Connector::new(endpoint, Vec::new()).map(|_| ())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    /// Reads the options. `key` is the key by which a Redis Cluster finds the server.
    ///
    /// # Errors
    /// The option that cannot be used, with its code.
    pub(super) fn new(endpoint: &Endpoint, key: Vec<u8>) -> Result<Self, String> {
        let mut targets = Vec::new();
        for url in &endpoint.urls {
            targets.push(target_of(url)?);
        }
        let mut server = match (&endpoint.sentinel_master, targets.first()) {
            (None, Some(first)) => first.redis.clone(),
            _ => RedisConnectionInfo::default(),
        };
        server = with_rights(server, endpoint);
        for target in &mut targets {
            let own = target.redis.clone();
            target.redis = if endpoint.sentinel_master.is_none() {
                with_rights(own, endpoint)
            } else {
                with_password(own)
            };
        }
        let tls = match &endpoint.tls {
            Some(options) => {
                Some(Tls::new(options).map_err(|problem| format!("{CONFIG}: {problem}"))?)
            }
            None => None,
        };
        Ok(Self {
            targets,
            server,
            sentinel_master: endpoint.sentinel_master.clone(),
            tls,
            timeout: Duration::from_secs_f64(endpoint.connect_timeout_ms / 1e3),
            allow_eviction: endpoint.allow_eviction,
            key,
        })
    }

    /// Connects to the server that holds the key: the first URL that leads there.
    ///
    /// # Errors
    /// The problem of the last URL that was tried, but one of the options before all others.
    pub(super) async fn open(&self) -> Result<Opened, String> {
        let mut worst = "no URL".to_owned();
        for target in &self.targets {
            match self.open_by(target).await {
                Ok(opened) => return Ok(opened),
                Err(problem) if worst.starts_with("ERR_") && !problem.starts_with("ERR_") => {}
                Err(problem) => worst = problem,
            }
        }
        Err(worst)
    }

    async fn open_by(&self, target: &Target) -> Result<Opened, String> {
        let Some(name) = &self.sentinel_master else {
            return self.open_slot(target.clone()).await;
        };
        let address = self.within(self.primary(target, name)).await?;
        self.open_slot(Target {
            address,
            redis: self.server.clone(),
        })
        .await
    }

    /// Ends an attempt that takes too long.
    async fn within<T>(
        &self,
        attempt: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        tokio::time::timeout(self.timeout, attempt)
            .await
            .map_err(|_| format!("no connection within {} ms", self.timeout.as_millis()))?
    }

    /// Asks a Sentinel for the address of the primary.
    async fn primary(&self, sentinel: &Target, name: &str) -> Result<ConnectionAddr, String> {
        let (mut connection, driver) = self.connect(sentinel).await?;
        let asked: Result<Option<(String, u16)>, RedisError> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(name)
            .query_async(&mut connection)
            .await;
        driver.abort();
        match asked.map_err(|error| describe(&error))? {
            Some((host, port)) => Ok(ConnectionAddr::Tcp(host, port)),
            None => Err(format!(
                "{CONFIG}: the Sentinel watches no primary of the name sentinelMaster"
            )),
        }
    }

    /// Connects to a server, and follows its redirections to the one that holds the key.
    async fn open_slot(&self, mut target: Target) -> Result<Opened, String> {
        let mut is_asking = false;
        for _ in 0..REDIRECTS_MAX {
            let (opened, redirect) = self.within(self.look(&target, is_asking)).await?;
            let Some((address, is_move)) = redirect else {
                return Ok(opened);
            };
            opened.driver.abort();
            target.address = elsewhere(&target.address, &address)?;
            is_asking = !is_move;
        }
        Err("the servers of the Redis Cluster redirect to each other".to_owned())
    }

    /// Connects, and checks the server. Returns the address that it redirects to, and whether the slot
    /// has moved there for good.
    async fn look(
        &self,
        target: &Target,
        is_asking: bool,
    ) -> Result<(Opened, Option<(String, bool)>), String> {
        let (mut connection, driver) = self.connect(target).await?;
        let info: Result<String, RedisError> =
            redis::cmd("INFO").query_async(&mut connection).await;
        let info = info.map_err(|error| describe(&error))?;
        let redirect = if is_of_cluster(&info) {
            redirection(&mut connection, &self.key, is_asking).await?
        } else {
            None
        };
        let run = match &redirect {
            Some(_) => String::new(),
            None => {
                let run = check_server(&info, self.allow_eviction)?;
                missing_right(&mut connection, &self.key, is_asking).await?;
                run
            }
        };
        let opened = Opened {
            connection,
            driver,
            run,
            is_asking,
        };
        Ok((opened, redirect))
    }

    async fn connect(
        &self,
        target: &Target,
    ) -> Result<(MultiplexedConnection, AbortHandle), String> {
        let stream = self.stream(&target.address).await?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&target.redis, stream, config)
                .await
                .map_err(|error| describe(&error))?;
        Ok((connection, spawn_local(driver).abort_handle()))
    }

    async fn stream(&self, address: &ConnectionAddr) -> Result<Box<dyn Stream>, String> {
        let (host, port) = match address {
            ConnectionAddr::Tcp(host, port) => (host, *port),
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                let socket = tokio::net::UnixStream::connect(path).await;
                return Ok(Box::new(socket.map_err(|error| error.to_string())?));
            }
            _ => return Err(format!("{CONFIG}: such a URL is not supported here")),
        };
        // The name is resolved for each connection: a failover may have changed it.
        let found = addresses(host, port).await?;
        let stream = TcpStream::connect(found.as_slice())
            .await
            .map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = tls.name(host)?;
        match tls.connector.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) if is_of_certificate(&error) => {
                Err(format!("{CONFIG}: TLS of the server: {error}"))
            }
            Err(error) => Err(format!("TLS of the server: {error}")),
        }
    }
}

fn target_of(url: &str) -> Result<Target, String> {
    // TLS is not the crate's: it cannot name a server otherwise than by its host.
    let plain = match url.strip_prefix("rediss://") {
        Some(rest) => format!("redis://{rest}"),
        None => url.to_owned(),
    };
    let info = plain
        .as_str()
        .into_connection_info()
        .map_err(|error| format!("{CONFIG}: {}", describe(&error)))?;
    Ok(Target {
        address: info.addr().clone(),
        // Replies are read as those of RESP2, whatever the URL asks for.
        redis: info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP2),
    })
}

/// Adds the user and the password of the options, where the URL has none.
fn with_rights(mut rights: RedisConnectionInfo, endpoint: &Endpoint) -> RedisConnectionInfo {
    if let (None, Some(username)) = (rights.username(), &endpoint.username) {
        rights = rights.set_username(username);
    }
    if let (None, Some(password)) = (rights.password(), &endpoint.password) {
        rights = rights.set_password(password);
    }
    with_password(rights)
}

/// Gives a user without a password an empty one: the user of the ACL needs none, but has to be named by `AUTH`.
fn with_password(rights: RedisConnectionInfo) -> RedisConnectionInfo {
    if rights.username().is_some() && rights.password().is_none() {
        return rights.set_password("");
    }
    rights
}

/// Returns the address of a redirection. Without a host it is the host that was asked.
fn elsewhere(asked: &ConnectionAddr, address: &str) -> Result<ConnectionAddr, String> {
    let unknown = || "the Redis Cluster redirects to no address".to_owned();
    let (host, port) = address.rsplit_once(':').ok_or_else(unknown)?;
    let port = port.parse().map_err(|_| unknown())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match asked {
        ConnectionAddr::Tcp(same, _) if host.is_empty() || host == "?" => {
            Ok(ConnectionAddr::Tcp(same.clone(), port))
        }
        _ => Ok(ConnectionAddr::Tcp(host.to_owned(), port)),
    }
}

/// Asks a server of a Redis Cluster for the key; returns the redirection, if it is one.
async fn redirection(
    connection: &mut MultiplexedConnection,
    key: &[u8],
    is_asking: bool,
) -> Result<Option<(String, bool)>, String> {
    let mut get = redis::cmd("HGET");
    get.arg(key).arg("g");
    match send(connection, &get, is_asking).await {
        Ok(_) => Ok(None),
        Err(error) => match (error.kind(), error.redirect_node()) {
            (ErrorKind::Server(kind), Some((address, _))) => {
                Ok(Some((address.to_owned(), kind == ServerErrorKind::Moved)))
            }
            _ => Err(describe(&error)),
        },
    }
}

/// Returns a field of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map_or("", str::trim)
}

/// True for a server of a Redis Cluster. Valkey names the field anew.
fn is_of_cluster(info: &str) -> bool {
    ["redis_mode", "server_mode"]
        .iter()
        .any(|name| field(info, name) == "cluster")
}

/// Checks the server; returns the identity of its process.
fn check_server(info: &str, allow_eviction: bool) -> Result<String, String> {
    if ["redis_mode", "server_mode"]
        .iter()
        .any(|name| field(info, name) == "sentinel")
    {
        return Err(format!(
            "{CONFIG}: the server is a Sentinel: name its primary by sentinelMaster"
        ));
    }
    let version = field(info, "redis_version");
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let numbers = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if !version.is_empty() && numbers < OLDEST {
        return Err(format!(
            "{INCOMPATIBLE}: the server is Redis {version}, and 6.2 is the oldest that works"
        ));
    }
    let policy = field(info, "maxmemory_policy");
    if policy.starts_with("allkeys-") && field(info, "maxmemory") != "0" && !allow_eviction {
        return Err(format!(
            "{CONFIG}: maxmemory-policy {policy} evicts seats: use noeviction, or set allowEviction"
        ));
    }
    if field(info, "role") == "slave" {
        return Err("the server is a replica: name its primary, or use Sentinels".to_owned());
    }
    if field(info, "loading") == "1" {
        return Err("the server is still loading its data".to_owned());
    }
    Ok(field(info, "run_id").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_names_a_server() {
        let asked = ConnectionAddr::Tcp("seed".into(), 1);
        let tcp = |host: &str, port| ConnectionAddr::Tcp(host.into(), port);
        for (address, found) in [
            ("10.0.0.1:7000", tcp("10.0.0.1", 7000)),
            (":7001", tcp("seed", 7001)),
            ("?:7002", tcp("seed", 7002)),
            ("2001:db8::1:7003", tcp("2001:db8::1", 7003)),
        ] {
            assert_eq!(elsewhere(&asked, address), Ok(found));
        }
        assert!(elsewhere(&asked, "nowhere").is_err());
        assert!(elsewhere(&asked, "host:port").is_err());
    }

    #[test]
    fn the_options_name_the_user_and_the_password_that_a_url_lacks() {
        let rights = |url: &str, username: Option<&str>, password: Option<&str>, sentinel| {
            let endpoint = Endpoint {
                urls: vec![url.into()],
                sentinel_master: sentinel,
                username: username.map(str::to_owned),
                password: password.map(str::to_owned),
                tls: None,
                connect_timeout_ms: 100.0,
                allow_eviction: false,
            };
            let made = Connector::new(&endpoint, Vec::new()).unwrap_or_else(|error| {
                unreachable!("{error}");
            });
            let of = |rights: &RedisConnectionInfo| {
                let text = |part: Option<&str>| part.unwrap_or("none").to_owned();
                format!("{} {}", text(rights.username()), text(rights.password()))
            };
            (of(&made.targets[0].redis), of(&made.server))
        };
        let same = |text: &str| (text.to_owned(), text.to_owned());
        for (url, username, password, expected) in [
            ("redis://h", None, None, "none none"),
            ("redis://a:b@h", Some("c"), Some("d"), "a b"),
            ("redis://a@h", Some("c"), Some("d"), "a d"),
            ("redis://:b@h", Some("c"), Some("d"), "c b"),
            ("redis://h", Some("c"), Some("d"), "c d"),
            ("redis://h", Some("c"), None, "c "),
            ("redis://a@h", None, None, "a "),
            ("unix:///s?user=a&pass=b", Some("c"), Some("d"), "a b"),
            ("unix:///s?user=a", None, None, "a "),
        ] {
            assert_eq!(
                rights(url, username, password, None),
                same(expected),
                "{url}"
            );
        }
        let master = Some("main".to_owned());
        let (sentinel, server) = rights("redis://a@h", Some("c"), None, master);
        assert_eq!((sentinel.as_str(), server.as_str()), ("a ", "c "));
    }

    #[test]
    fn replies_are_those_of_resp2_whatever_a_url_asks_for() {
        for url in ["redis://h?protocol=resp3", "unix:///s?protocol=3"] {
            let protocol = target_of(url).map(|target| target.redis.protocol());
            assert_eq!(protocol, Ok(ProtocolVersion::RESP2));
        }
    }

    #[test]
    fn a_server_of_a_cluster_is_known_by_the_field_of_redis_and_of_valkey() {
        assert!(is_of_cluster(
            "redis_version:7.0.15\r\nredis_mode:cluster\r\n"
        ));
        assert!(is_of_cluster(
            "redis_version:7.2.4\r\nserver_mode:cluster\r\n"
        ));
        assert!(!is_of_cluster("redis_mode:standalone\r\n"));
        assert!(!is_of_cluster("server_mode:sentinel\r\n"));
    }

    #[test]
    fn a_server_is_checked() {
        let info = |more: &str| format!("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n{more}");
        assert_eq!(check_server(&info(""), false), Ok("abc".into()));
        let policy = "maxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n";
        assert!(check_server(&info(policy), false).is_err_and(|text| text.starts_with(CONFIG)));
        assert!(check_server(&info(policy), true).is_ok());
        assert!(check_server(&info("role:slave\r\n"), false).is_err());
        let sentinel = check_server(&info("redis_mode:sentinel\r\n"), false);
        assert!(sentinel.is_err_and(|text| text.starts_with(CONFIG)));
        assert!(check_server(&info("loading:1\r\n"), false).is_err());
        let old = check_server("redis_version:6.0.16\r\n", false);
        assert!(old.is_err_and(|text| text.starts_with(INCOMPATIBLE)));
        assert!(check_server("redis_version:6.2.0\r\nrun_id:x\r\n", false).is_ok());
    }
}
