//! HTTP/1.1 on the wire (RFC 9110 and 9112): framing, pipelining, connections that persist or close, request smuggling.
//!
//! A test belongs here if it is about the bytes of requests and responses, not about orders.

#[path = "../common/mod.rs"]
mod common;

mod echo;
mod lingering;
mod protocol;
mod smuggling;
