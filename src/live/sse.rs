//! One stream of server-sent events' life (HTML standard, section 9.2): a session whose client only listens. Owns its
//! heartbeat; totals come, as in a [`session`](crate::live::websocket), from the fan-out thread straight to the socket.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::socket::is_timeout;
use crate::json::HEARTBEAT_EVENT;
use crate::live::slow_sockets::SlowSockets;
use crate::live::subscriber::{Drained, Subscriber};
use crate::live::websocket::{Conversation, PING_AFTER, PONG_WITHIN, bound_buffers};

/// What a client may send behind its request before it is closed, in bytes: it has nothing to say.
const IGNORED_BYTES: usize = 4 * 1024;
/// How long the last words may take to leave: 2 s.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const FAREWELL_TICK: Duration = Duration::from_millis(10);

/// Runs one stream on this thread until it ends. The head of the answer has been sent.
#[inline(never)]
pub fn run<C: Conversation>(stream: &Arc<TcpStream>, slow_sockets: &SlowSockets, mut conversation: C) {
    bound_buffers(stream);
    // A client that is gone without a word does not acknowledge the heartbeat.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(&**stream).set_tcp_user_timeout(Some(PING_AFTER + PONG_WITHIN));
    let subscriber = Subscriber::new(stream.clone(), slow_sockets.clone());
    conversation.begin(&subscriber);
    listen(stream, &subscriber, &conversation);
    let begun = Instant::now();
    while !subscriber.flush() && !subscriber.is_closed() && begun.elapsed() < FAREWELL {
        thread::sleep(FAREWELL_TICK);
    }
    subscriber.close();
    conversation.end(&subscriber);
}

/// Waits for the client's end, and says something from time to time.
fn listen<C: Conversation>(mut stream: &TcpStream, subscriber: &Arc<Subscriber>, conversation: &C) {
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
                // Whoever drips is never silent, and would keep a stream open that may not go on.
                if ignored > IGNORED_BYTES || conversation.check().is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => {
                if conversation.check().is_err() {
                    return;
                }
                match subscriber.say(HEARTBEAT_EVENT.to_vec()) {
                    Ok(Drained::CaughtUp) => conversation.caught_up(subscriber),
                    Ok(Drained::Done | Drained::Blocked) => {}
                    Err(_) => return,
                }
            }
            Err(_) => return,
        }
    }
}
