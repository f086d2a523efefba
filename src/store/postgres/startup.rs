//! The start of a session: the socket, TLS, the login.
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, ErrorFields, Message};
use postgres_protocol::message::frontend;

use super::error::{PgError, Reason};
use super::passfile::{self, Wanted};
use super::target::{Host, SslMode, Target};
use super::tls;
use super::wire::{Socket, Stream, Wire, away, left};

/// The stack of a thread that looks up a host name. The C library may load modules that take much; only what is used counts.
const RESOLVER_STACK_BYTES: usize = 1024 * 1024;

/// Of the text of a server's error no more is kept.
const MAX_ERROR_LETTERS: usize = 1_000;

/// The addresses of a host. The C library has no deadline for a look-up, so that it has a thread of its own, which may end
/// after this call.
pub(super) fn resolve(host: &Host, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, host.port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let (name, port) = (host.name.clone(), host.port);
    let look_up = move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        let _ = sender.send(found);
    };
    thread::Builder::new().name("resolver".to_owned()).stack_size(RESOLVER_STACK_BYTES).spawn(look_up)?;
    receiver.recv_timeout(left(deadline)?).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Connects to one server and logs in.
pub(super) fn start(target: &Target, host: &Host, deadline: Instant) -> Result<Wire, PgError> {
    let mut wire = match secured(target, host, deadline)? {
        Ok(stream) => Wire::new(stream),
        // As with libpq, `prefer` does without TLS where the handshake fails.
        Err(_) if target.ssl_mode == SslMode::Prefer => Wire::new(Stream::Plain(connect(host, deadline)?)),
        Err(why) => return Err(PgError::unreachable(why)),
    };
    log_in(&mut wire, target, host, deadline)?;
    Ok(wire)
}

/// Tries the addresses of a host in turn, each for its share of the time.
fn connect(host: &Host, deadline: Instant) -> Result<Socket, PgError> {
    let fail = |error: io::Error| match error.kind() {
        ErrorKind::TimedOut => PgError::Away { reason: Reason::Deadline, may_have_run: false },
        _ => PgError::unreachable(error),
    };
    if host.is_local() {
        return Socket::local(&host.socket(), deadline).map_err(fail);
    }
    let addresses = resolve(host, deadline).map_err(fail)?;
    let mut last = PgError::unreachable("the host has no address");
    for (number, address) in addresses.iter().enumerate() {
        match share(deadline, addresses.len() - number).and_then(|until| Socket::tcp(*address, until)) {
            Ok(mut socket) => {
                socket.set_deadline(deadline);
                return Ok(socket);
            }
            Err(error) => last = fail(error),
        }
    }
    Err(last)
}

/// The deadline of one of `count` tries that share the time.
pub(super) fn share(deadline: Instant, count: usize) -> io::Result<Instant> {
    Ok(Instant::now() + left(deadline)? / u32::try_from(count).unwrap_or(u32::MAX).max(1))
}

/// A connection with TLS, or without it where that is asked for; the inner error is a handshake that failed.
fn secured(target: &Target, host: &Host, deadline: Instant) -> Result<Result<Stream, String>, PgError> {
    let mut socket = connect(host, deadline)?;
    if target.ssl_mode == SslMode::Disable || socket.is_local() {
        return Ok(Ok(Stream::Plain(socket)));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    let mut answer = [0];
    socket.write_all(&request).and_then(|()| socket.read_exact(&mut answer)).map_err(|error| {
        let reason =
            if error.kind() == ErrorKind::TimedOut { Reason::Deadline } else { Reason::Connection(error.to_string()) };
        PgError::Away { reason, may_have_run: false }
    })?;
    match answer {
        // Only this byte was read, so that nothing from before the handshake is taken for something after it.
        [b'S'] => Ok(tls::start(socket, &tls::config(target).map_err(PgError::Unexpected)?, &host.name)),
        [b'N'] if target.ssl_mode == SslMode::Prefer => Ok(Ok(Stream::Plain(socket))),
        [b'N'] => Ok(Err("the server has no TLS".to_owned())),
        [byte] => Err(PgError::Unexpected(format!("the byte {byte} as the answer to a request for TLS"))),
    }
}

/// Sends the first message, proves who we are, and reads up to the end of the start.
fn log_in(wire: &mut Wire, target: &Target, host: &Host, deadline: Instant) -> Result<(), PgError> {
    let mut message = BytesMut::new();
    let parameters = [
        ("user", target.user.as_str()),
        ("database", &target.database),
        ("application_name", &target.application_name),
        ("client_encoding", "UTF8"),
    ];
    frontend::startup_message(parameters, &mut message).map_err(|error| unexpected(&error))?;
    wire.send(&message, deadline)?;
    let mut has_logged_in = false;
    loop {
        match next(wire, deadline)? {
            Message::AuthenticationOk => has_logged_in = true,
            Message::AuthenticationCleartextPassword => {
                send_password(wire, password(target, host)?.as_bytes(), deadline)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let password = password(target, host)?;
                let hash = md5_hash(target.user.as_bytes(), password.as_bytes(), body.salt());
                send_password(wire, hash.as_bytes(), deadline)?;
            }
            Message::AuthenticationSasl(body) => scram(wire, &body, &password(target, host)?, deadline)?,
            Message::BackendKeyData(_) | Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
            Message::ReadyForQuery(_) if has_logged_in => return Ok(()),
            _ => return Err(PgError::Unexpected("the server asks for a login that is not supported".to_owned())),
        }
    }
}

/// The next message; an error of the server is one.
fn next(wire: &mut Wire, deadline: Instant) -> Result<Message, PgError> {
    match wire.receive(deadline)? {
        Some(Message::ErrorResponse(body)) => Err(server_error(body.fields())),
        Some(message) => Ok(message),
        None => Err(away(Reason::Deadline)),
    }
}

/// The error that a server describes.
pub(super) fn server_error(mut fields: ErrorFields<'_>) -> PgError {
    let (mut code, mut message) = (String::new(), String::new());
    // What cannot be read of it does not hide what can.
    while let Ok(Some(field)) = fields.next() {
        let text = || String::from_utf8_lossy(field.value_bytes()).chars().take(MAX_ERROR_LETTERS).collect::<String>();
        match field.type_() {
            b'C' => code = text(),
            b'M' => message = text(),
            b'D' => message = format!("{message}: {}", text()),
            _ => {}
        }
    }
    PgError::of_server(code, message)
}

fn send_password(wire: &mut Wire, password: &[u8], deadline: Instant) -> Result<(), PgError> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message).map_err(|error| unexpected(&error))?;
    wire.send(&message, deadline)
}

/// SCRAM-SHA-256 (RFC 7677), without binding to the TLS channel.
fn scram(wire: &mut Wire, body: &AuthenticationSaslBody, password: &str, deadline: Instant) -> Result<(), PgError> {
    let knows =
        body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256)).map_err(|error| unexpected(&error))?;
    if !knows {
        return Err(PgError::Unexpected("the server offers no login with SCRAM-SHA-256".to_owned()));
    }
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)
        .map_err(|error| unexpected(&error))?;
    wire.send(&message, deadline)?;
    let Message::AuthenticationSaslContinue(body) = next(wire, deadline)? else { return Err(wrong_step()) };
    scram.update(body.data()).map_err(|error| unexpected(&error))?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(|error| unexpected(&error))?;
    wire.send(&message, deadline)?;
    let Message::AuthenticationSaslFinal(body) = next(wire, deadline)? else { return Err(wrong_step()) };
    // The server proves that it knows the password too.
    scram.finish(body.data()).map_err(|error| unexpected(&error))
}

fn wrong_step() -> PgError {
    PgError::Unexpected("a message out of turn during the login".to_owned())
}

fn unexpected(error: &io::Error) -> PgError {
    PgError::Unexpected(format!("the start of a session: {error}"))
}

/// The password of the address, or that of the file of passwords.
fn password(target: &Target, host: &Host) -> Result<String, PgError> {
    if let Some(password) = &target.password {
        return Ok(password.clone());
    }
    let path = target.passfile.clone().or_else(passfile::default_path);
    let mut names = vec![host.name.as_str()];
    if host.is_local() {
        names.push("localhost");
    }
    for name in names {
        let wanted = Wanted { host: name, port: host.port, database: &target.database, user: &target.user };
        let found = path.as_deref().map_or(Ok(None), |path| passfile::find(path, wanted));
        if let Some(password) = found.map_err(PgError::Unexpected)? {
            return Ok(password);
        }
    }
    let lacks = path.map_or("there is no password file".to_owned(), |path| {
        let Target { database, user, .. } = target;
        let name = if host.is_local() { "localhost" } else { &host.name };
        let lacks = if path.exists() { "has no line for" } else { "is missing, with a line for" };
        format!("the password file {} {lacks} {name}:{}:{database}:{user}", path.display(), host.port)
    });
    Err(PgError::Unexpected(format!("{host} asks for a password; the address has none, and {lacks}")))
}
