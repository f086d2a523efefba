//! One stream of server-sent events (HTML standard, section 9.2): a session whose client only reads. Owns its
//! heartbeat; totals go, as in a [`websocket`](crate::live::websocket) session, from the fan-out thread straight to the
//! socket.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::socket::{is_timeout, set_ack_deadline};
use crate::json::{HEARTBEAT_EVENT, RETRY_EVENT};
use crate::live::subscriber::{Drained, Subscriber, Watcher};
use crate::live::websocket::{PING_AFTER, PONG_WITHIN, SessionHandler};

/// Bytes that a client may send after its request before the stream is closed. They have no meaning.
const IGNORED_BYTES: usize = 4 * 1024;
/// How long the last bytes may take to leave: 2 s.
const LINGER: Duration = Duration::from_secs(2);
/// How often it is checked whether they have left.
const LINGER_TICK: Duration = Duration::from_millis(10);

/// Runs one stream on this thread until it ends. The head of the answer has been sent.
#[inline(never)]
pub fn run<H: SessionHandler>(stream: &Arc<TcpStream>, watcher: Arc<dyn Watcher>, mut handler: H) {
    // A client that has vanished does not acknowledge the heartbeat.
    set_ack_deadline(stream, PING_AFTER + PONG_WITHIN);
    let subscriber = Subscriber::new(stream.clone(), watcher);
    // The socket is empty, so this does not block. If it has failed, the next read reports it.
    let _ = subscriber.send(RETRY_EVENT.to_vec());
    handler.begin(&subscriber);
    wait_for_end(stream, &subscriber, &handler);
    let begun = Instant::now();
    while !subscriber.is_drained() && !subscriber.is_closed() && begun.elapsed() < LINGER {
        thread::sleep(LINGER_TICK);
    }
    subscriber.close();
    handler.end(&subscriber);
}

/// Waits until the client ends the connection, and sends the heartbeat.
fn wait_for_end<H: SessionHandler>(mut stream: &TcpStream, subscriber: &Arc<Subscriber>, handler: &H) {
    let mut ignored = 0;
    let mut bytes = [0; 256];
    if stream.set_read_timeout(Some(PING_AFTER)).is_err() {
        return;
    }
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => {
                ignored += read;
                // Checked here too: a client that keeps sending is never silent, and would keep a stream open whose
                // token has been removed.
                if ignored > IGNORED_BYTES || handler.check().is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                if handler.check().is_err() {
                    return;
                }
                match subscriber.send(HEARTBEAT_EVENT.to_vec()) {
                    Ok(Drained::MustCatchUp) => handler.request_catch_up(subscriber),
                    Ok(Drained::Done | Drained::Blocked) => {}
                    Err(_) => return,
                }
            }
            Err(_) => return,
        }
    }
}
