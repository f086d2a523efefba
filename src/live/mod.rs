//! Live feeds: from a committed order to every subscriber's socket.

pub mod fanout;
mod frame_check;
pub mod history;
pub mod rates;
pub mod slow_sockets;
pub mod sse;
pub mod subscriber;
pub mod websocket;
