//! The parts of HTTP/1.1 that this server supports (RFC 9110, RFC 9112): bounded reading, framing, answers, origins,
//! handshakes. Knows nothing of orders. Uses tiny_http's types, and prints every answer but the 101 with its
//! `Response`.

pub mod chunked;
pub mod connection;
pub mod counters;
pub mod deferred;
mod framing;
pub mod handshake;
mod head;
mod input;
pub mod origin;
pub mod problem;
pub mod ready_sockets;
mod repeated;
pub mod request;
pub mod response;
pub mod service;
pub mod socket;
mod target;
