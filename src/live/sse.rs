//! One stream of server-sent events (HTML standard, section 9.2): a session whose client only reads. Owns its
//! heartbeat; totals go, as in a [`websocket`](crate::live::websocket) session, from the fan-out thread straight to the
//! socket.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::http::service::Session;
use crate::http::socket::{is_timeout, receive_now, set_ack_deadline};
use crate::json::{HEARTBEAT_EVENT, RETRY_EVENT};
use crate::live::subscriber::{Drained, Subscriber, Watcher};
use crate::live::websocket::{PING_AFTER, PONG_WITHIN, SessionHandler};

/// Bytes that a client may send after its request before the stream is closed. They have no meaning.
const IGNORED_BYTES: usize = 4 * 1024;
/// How long the last bytes may take to leave: 2 s.
const LINGER: Duration = Duration::from_secs(2);
/// How often it is checked whether they have left.
const LINGER_TICK: Duration = Duration::from_millis(10);

/// An event stream between two turns.
struct EventStream<H: SessionHandler> {
    stream: Arc<TcpStream>,
    subscriber: Arc<Subscriber>,
    handler: H,
    /// Bytes that the client has sent.
    ignored: usize,
    /// When the client's last bytes came, or the heartbeat was sent.
    since: Instant,
}

/// Begins a stream. The head of the answer has been sent.
pub fn open<H: SessionHandler>(stream: Arc<TcpStream>, watcher: Arc<dyn Watcher>, mut handler: H) -> Box<dyn Session> {
    // A client that has vanished does not acknowledge the heartbeat.
    set_ack_deadline(&stream, PING_AFTER + PONG_WITHIN);
    let subscriber = Subscriber::new(stream.clone(), watcher);
    // The socket is empty, so this does not block. If it has failed, the next read reports it.
    let _ = subscriber.send(RETRY_EVENT.to_vec(), Duration::ZERO);
    handler.begin(&subscriber);
    Box::new(EventStream { stream, subscriber, handler, ignored: 0, since: Instant::now() })
}

impl<H: SessionHandler> Session for EventStream<H> {
    fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn due(&self) -> Instant {
        self.since + PING_AFTER
    }

    fn run(mut self: Box<Self>, is_shared: bool) -> Option<Box<dyn Session>> {
        if self.goes_on() {
            return Some(self);
        }
        if is_shared {
            return None;
        }
        let begun = Instant::now();
        while !self.subscriber.is_drained() && !self.subscriber.is_closed() && begun.elapsed() < LINGER {
            thread::sleep(LINGER_TICK);
        }
        None
    }
}

impl<H: SessionHandler> EventStream<H> {
    /// Drops what the client has sent, and sends the heartbeat when it is due. Returns whether the stream goes on.
    fn goes_on(&mut self) -> bool {
        let mut bytes = [0; 256];
        loop {
            match receive_now(&self.stream, &mut bytes) {
                Ok(0) => return false,
                Ok(read) => {
                    (self.ignored, self.since) = (self.ignored + read, Instant::now());
                    // Checked here too: a client that keeps sending is never silent, and would keep a stream open whose
                    // token has been removed.
                    if self.ignored > IGNORED_BYTES || self.handler.check().is_err() {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return self.due() > Instant::now() || self.sends_heartbeat(),
                Err(_) => return false,
            }
        }
    }

    fn sends_heartbeat(&mut self) -> bool {
        if self.handler.check().is_err() {
            return false;
        }
        self.since = Instant::now();
        match self.subscriber.send(HEARTBEAT_EVENT.to_vec(), Duration::ZERO) {
            Ok(Drained::MustCatchUp) => self.handler.request_catch_up(&self.subscriber),
            Ok(Drained::Done | Drained::Blocked) => {}
            Err(_) => return false,
        }
        true
    }
}

impl<H: SessionHandler> Drop for EventStream<H> {
    fn drop(&mut self) {
        self.subscriber.close();
        self.handler.end(&self.subscriber);
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
            assert_eq!(subscriber.send(vec![b'x'; 16 * 1024 * 1024], Duration::ZERO).unwrap(), Drained::Blocked);
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
        let session = open(stream, Arc::new(Nobody), Endless(sender));
        client.shutdown(Shutdown::Write).unwrap();
        let server = thread::spawn(move || session.run(false).is_none());
        ended.recv_timeout(5 * LINGER).expect("it ends");
        assert!(server.join().unwrap());
    }
}
