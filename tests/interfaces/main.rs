//! What programs of others use: the OpenAPI document, the examples, and the command lines of the documents. Needs
//! schemathesis, python3, a C compiler and curl (`make deps`); without one its tests are skipped with a message, and fail
//! under CI.
//!
//! A test belongs here if it checks that something written for a client works against the server.

#[path = "../common/mod.rs"]
mod common;

mod contract;
mod documents;
mod examples;
mod openapi;
mod program;
