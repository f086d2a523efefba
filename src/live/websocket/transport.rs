//! What tungstenite reads from and writes to. Owns the checks of inbound bytes: their rate, and whether they are frames that
//! may come; and that the bytes of two outbound frames never mix.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::protocol::frame::coding::CloseCode;

use super::rate_limit::RateLimit;
use super::{CloseReason, End, Limits, SessionHandler};
use crate::http::socket::receive_now;
use crate::json::CLOSE_FRAME;
use crate::live::frame_check::FrameCheck;
use crate::live::subscriber::{Drained, Subscriber, WRITE_DEADLINE};

/// Bytes that a message's frame headers may add to it, when inbound bytes are counted.
const MESSAGE_OVERHEAD_BYTES: usize = 16;

/// The socket of a session: reads come from it, writes go through the subscriber.
pub(super) struct Transport<H> {
    pub(super) stream: Arc<TcpStream>,
    /// What the client has sent after its handshake and was not read yet.
    early: Vec<u8>,
    frame_check: FrameCheck,
    /// Why no further input is read. tungstenite only passes on that a read failed.
    pub(super) stop: Option<End>,
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) handler: H,
    /// When the client's last bytes came, or the session began.
    pub(super) heard: Instant,
    /// How long a read waits.
    pub(super) patience: Duration,
    /// How long a write waits for room in the queue: not at all on a thread that others wait for.
    pub(super) write_patience: Duration,
    /// When reading ends, however much still comes; `None` while the session is open.
    pub(super) deadline: Option<Instant>,
    byte_rate: Option<RateLimit>,
}

impl<H> Transport<H> {
    pub(super) fn boxed(
        stream: Arc<TcpStream>,
        early: Vec<u8>,
        subscriber: Arc<Subscriber>,
        limits: Limits,
        handler: H,
    ) -> Box<Self> {
        let message_bytes = (limits.message_bytes + MESSAGE_OVERHEAD_BYTES) as u32;
        let byte_rate =
            limits.messages_per_second.map(|messages| RateLimit::new(messages.saturating_mul(message_bytes)));
        let frame_check = FrameCheck::default();
        Box::new(Self {
            stream,
            early,
            frame_check,
            stop: None,
            subscriber,
            handler,
            heard: Instant::now(),
            patience: Duration::ZERO,
            write_patience: WRITE_DEADLINE,
            deadline: None,
            byte_rate,
        })
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.early[..length]);
            self.early.drain(..length);
            if self.early.is_empty() {
                // Its memory would stay with the session for its whole life.
                self.early = Vec::new();
            }
            return Ok(length);
        }
        loop {
            if let Some(deadline) = self.deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                self.stream.set_read_timeout(Some(left))?;
            } else if !self.patience.is_zero() {
                self.stream.set_read_timeout(Some(self.patience))?;
            }
            let read = if self.deadline.is_none() && self.patience.is_zero() {
                receive_now(&self.stream, buffer)
            } else {
                (&*self.stream).read(buffer)
            };
            match read {
                // A read with a timeout is interrupted when a stopped process continues.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn stop(&mut self, end: impl Into<End>) -> io::Error {
        self.stop = Some(end.into());
        io::Error::other("the session ends")
    }
}

impl<H: SessionHandler> Read for Transport<H> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.deadline.is_some() {
            // The session is closing: what still comes is dropped, whatever it is.
            return self.receive(buffer);
        }
        if self.stop.is_some() {
            return Err(io::Error::other("the session ends"));
        }
        // Checked here too, not only with each message: pings, and frames that never become a message, would keep a
        // session open whose token has been removed.
        if let Err(reason) = self.handler.check() {
            return Err(self.stop(reason));
        }
        let read = self.receive(buffer)?;
        self.heard = Instant::now();
        if self.byte_rate.as_mut().is_some_and(|rate| !rate.allows(read as u32)) {
            return Err(self.stop(CloseReason(CloseCode::Policy, "too many frames; slow down")));
        }
        match self.frame_check.check(&buffer[..read]) {
            Ok(()) => Ok(read),
            Err((valid, violation)) => {
                let error = self.stop(violation);
                // The valid bytes before the violation are answered first.
                if valid > 0 { Ok(valid) } else { Err(error) }
            }
        }
    }
}

impl<H: SessionHandler> Write for Transport<H> {
    /// Takes everything: tungstenite writes whole frames, because its own write buffer is switched off.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.first() == Some(&CLOSE_FRAME) {
            // No total may follow a close frame (RFC 6455, section 5.5.1).
            let _ = self.subscriber.finish(bytes.to_vec());
            self.handler.end(&self.subscriber);
        } else if self.subscriber.send(bytes.to_vec(), self.write_patience)? == Drained::MustCatchUp {
            self.handler.request_catch_up(&self.subscriber);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
