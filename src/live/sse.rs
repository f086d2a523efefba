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

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener};
    use std::sync::mpsc;

    use tungstenite::Message;

    use super::*;
    use crate::live::websocket::CloseReason;

    /// Sends more than a socket takes, and says when it has ended.
    struct Endless(mpsc::Sender<()>);

    impl SessionHandler for Endless {
        fn begin(&mut self, subscriber: &Arc<Subscriber>) {
            assert_eq!(subscriber.send(vec![b'x'; 16 * 1024 * 1024]).unwrap(), Drained::Blocked);
        }

        fn check(&self) -> Result<(), CloseReason> {
            Ok(())
        }

        fn on_message(&mut self, _: &Arc<Subscriber>, _: Message) -> Result<Option<Message>, CloseReason> {
            Ok(None)
        }

        fn request_catch_up(&self, _: &Arc<Subscriber>) {}

        fn end(&self, _: &Arc<Subscriber>) {
            let _ = self.0.send(());
        }
    }

    struct Nobody;

    impl Watcher for Nobody {
        fn watch(&self, _: Arc<Subscriber>) {}
    }

    #[test]
    fn a_stream_whose_bytes_are_not_read_ends_soon_after_its_client_has_ended_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Arc::new(listener.accept().unwrap().0);
        let (sender, ended) = mpsc::channel();
        let server = thread::spawn(move || run(&stream, Arc::new(Nobody), Endless(sender)));
        client.shutdown(Shutdown::Write).unwrap();
        ended.recv_timeout(5 * LINGER).expect("it ends");
        server.join().unwrap();
    }
}
