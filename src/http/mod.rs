//! HTTP/1.1 as far as this server speaks it (RFC 9110, RFC 9112). Owns bounded reading, framing, answers and the rules
//! of origin; knows nothing of orders. tiny_http's types are the vocabulary, and its `Response` prints every answer.

pub mod chunked;
pub mod connection;
pub mod deferred;
pub mod handshake;
pub mod origin;
pub mod problem;
pub mod request;
pub mod response;
pub mod service;
pub mod socket;
