//! Which database a node uses: the address of `--store`, by libpq's rules for connection URIs. What only libpq has is
//! refused by name: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS>.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The port where the address has none.
const DEFAULT_PORT: u16 = 5432;

/// The folder of the Unix socket where the address has no host. It is Debian's.
const DEFAULT_SOCKET_FOLDER: &str = "/var/run/postgresql";

/// One server of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// A name, an address without brackets, or the folder of a Unix socket, which begins with `/`.
    pub(super) name: String,
    pub(super) port: u16,
}

impl Host {
    /// Whether it is reached over a Unix socket.
    pub(super) fn is_local(&self) -> bool {
        self.name.starts_with('/')
    }

    /// The path of the Unix socket.
    pub(super) fn socket(&self) -> PathBuf {
        PathBuf::from(format!("{}/.s.PGSQL.{}", self.name, self.port))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false if self.is_local() => write!(f, "{}", self.socket().display()),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// What a connection needs of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server has it.
    Prefer,
    /// TLS; the certificate is checked only with a root certificate.
    Require,
    /// TLS with a certificate that a root certificate vouches for.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

const SSL_MODES: [(&str, SslMode); 5] = [
    ("disable", SslMode::Disable),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// A database and how to reach it. Neither form of its text shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// At least one, in the order in which they are tried.
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    /// Whether a server that takes no changes is passed over.
    pub(super) read_write: bool,
    pub(super) ssl_mode: SslMode,
    /// A file of certificates in PEM.
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) passfile: Option<PathBuf>,
    /// The most time for one server.
    pub(super) connect_timeout: Option<Duration>,
    pub(super) application_name: String,
}

impl Target {
    /// Whether the text looks like the address of a PostgreSQL database.
    #[must_use]
    pub fn is_url(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Reads `postgres://USER:PASSWORD@HOST:PORT,…/DATABASE?PARAMETER=VALUE&…`.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without the password.
    pub fn parse(url: &str) -> Result<Target, String> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or("the address of the database begins with postgres://")?;
        let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        if !authority.contains('@') && (database.contains('@') || parameters.contains('@')) {
            let why = "a password in the address of the database has / as %2F, ? as %3F, @ as %40 and % as %25";
            return Err(why.to_owned());
        }
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "the password")?)),
            None => (login, None),
        };
        let mut names = Vec::new();
        let mut ports = Vec::new();
        for host in hosts.split(',') {
            let (name, port) = split_port(host)?;
            names.push(decoded(name, "the host")?);
            ports.push(port.to_owned());
        }
        let mut target = Target {
            hosts: Vec::new(),
            user: decoded(user, "the user")?,
            password: password.filter(|password| !password.is_empty()),
            database: decoded(database, "the database")?,
            read_write: false,
            ssl_mode: SslMode::Prefer,
            root_certificates: None,
            passfile: None,
            connect_timeout: None,
            application_name: "ordercast".to_owned(),
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or("a parameter of the address has no value")?;
            let name = decoded(name, "the name of a parameter")?;
            let value = decoded(value, &name)?;
            match name.as_str() {
                "host" => names = value.split(',').map(str::to_owned).collect(),
                "port" => ports = value.split(',').map(str::to_owned).collect(),
                _ => target.set(&name, value)?,
            }
        }
        target.hosts = hosts_of(names, &ports)?;
        if target.user.is_empty() {
            return Err("the address of the database names no user: postgres://USER@HOST/DATABASE".to_owned());
        }
        if target.database.is_empty() {
            target.database.clone_from(&target.user);
        }
        let needs_root = target.ssl_mode >= SslMode::VerifyCa;
        if needs_root && target.root_certificates.is_none() {
            return Err("sslmode=verify-ca and verify-full need sslrootcert=FILE".to_owned());
        }
        let texts =
            [Some(&target.user), target.password.as_ref(), Some(&target.database), Some(&target.application_name)];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            return Err("the address of the database has a zero byte (%00)".to_owned());
        }
        Ok(target)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "user" => self.user = value,
            "password" => self.password = Some(value).filter(|password| !password.is_empty()),
            "dbname" => self.database = value,
            "target_session_attrs" => {
                self.read_write = match value.as_str() {
                    "any" => false,
                    "read-write" => true,
                    _ => return Err(format!("target_session_attrs is any or read-write, not {value:?}")),
                };
            }
            "sslmode" => {
                let mode = SSL_MODES.iter().find(|(name, _)| *name == value);
                self.ssl_mode = mode.map(|(_, mode)| *mode).ok_or_else(|| {
                    format!("sslmode is disable, prefer, require, verify-ca or verify-full, not {value:?}")
                })?;
            }
            "sslrootcert" => self.root_certificates = Some(value.into()),
            "passfile" => self.passfile = Some(value.into()),
            "connect_timeout" => {
                let seconds: u64 =
                    value.parse().map_err(|_| format!("connect_timeout is in seconds, not {value:?}"))?;
                // libpq: zero stands for no limit.
                self.connect_timeout = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            "application_name" => self.application_name = value,
            _ => return Err(format!("the address of the database has a parameter that is not supported: {name:?}")),
        }
        Ok(())
    }
}

/// Splits the port from a host of the authority. An IPv6 address is in brackets.
fn split_port(host: &str) -> Result<(&str, &str), String> {
    let Some(address) = host.strip_prefix('[') else { return Ok(host.split_once(':').unwrap_or((host, ""))) };
    let (address, port) = address.split_once(']').ok_or("a host of the address has a [ without ]")?;
    match port.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if port.is_empty() => Ok((address, "")),
        None => Err("only a port may follow a host in brackets".to_owned()),
    }
}

/// Joins hosts and ports. One port may stand for all hosts; an empty one is the default.
fn hosts_of(names: Vec<String>, ports: &[String]) -> Result<Vec<Host>, String> {
    if ports.len() != 1 && ports.len() != names.len() {
        return Err(format!("the address of the database has {} hosts and {} ports", names.len(), ports.len()));
    }
    let host = |(number, name): (usize, String)| {
        let port = ports.get(number).or(ports.first()).map_or("", String::as_str);
        let is_port = |port: &u16| *port > 0;
        let port = match port {
            "" => DEFAULT_PORT,
            // Without a user before it this is a password.
            _ => port.parse().ok().filter(is_port).ok_or("a port of the address is not a number from 1 to 65535")?,
        };
        let name = if name.is_empty() { DEFAULT_SOCKET_FOLDER.to_owned() } else { name };
        if name.contains('\0') { Err("a host has a zero byte (%00)".to_owned()) } else { Ok(Host { name, port }) }
    };
    names.into_iter().enumerate().map(host).collect()
}

/// The text without percent-encoding; `what` names it in the error.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let wrong = || format!("{what} in the address of the database has a percent sign that encodes no UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = after else { return Err(wrong()) };
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(wrong()) };
        bytes.push((high * 16 + low) as u8);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        write!(f, "postgres://{}@{}/{}", self.user, hosts.join(","), self.database)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} (sslmode {:?}, read-write {})", self.ssl_mode, self.read_write)
    }
}

#[cfg(test)]
mod tests;
