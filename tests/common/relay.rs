//! A relay between a client and a server, which a test cuts or holds: a network that fails.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a held direction asks whether it may go on.
const TICK: Duration = Duration::from_millis(2);

/// What the relay's threads share.
#[derive(Debug, Default)]
struct State {
    /// Nothing is passed on to the server.
    holds_requests: AtomicBool,
    /// Nothing is passed on to the client.
    holds_answers: AtomicBool,
    /// New connections are closed at once.
    refuses: AtomicBool,
    has_ended: AtomicBool,
    /// Where the server is.
    to: Mutex<String>,
    /// How many connections were made.
    connections: AtomicU64,
    /// The first so many connections pass nothing on any more.
    stranded: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
}

/// Passes on the bytes of every connection to one server. Dropping it cuts all of them.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    /// A relay on a free port to this address.
    pub fn start(to: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State { to: Mutex::new(to.to_owned()), ..State::default() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                if shared.has_ended.load(Ordering::SeqCst) {
                    break;
                }
                if let (Ok(client), false) = (client, shared.refuses.load(Ordering::SeqCst)) {
                    let _ = join(&shared, client);
                }
            }
        });
        Relay { address, state }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Passes new connections on to another server.
    pub fn redirect(&self, to: &str) {
        to.clone_into(&mut self.state.to.lock().expect("no thread panicked"));
    }

    /// Passes nothing on over the connections of now, for ever, and closes none: their server has vanished. New ones work.
    pub fn strand(&self) {
        self.state.stranded.store(self.state.connections.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Closes all connections. New ones are taken.
    pub fn cut(&self) {
        for socket in self.state.sockets.lock().expect("no thread panicked").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Passes nothing on, and closes nothing: a network that loses every packet.
    pub fn hold(&self) {
        self.state.holds_requests.store(true, Ordering::SeqCst);
        self.hold_answers();
    }

    /// Passes requests on and no answers: what the client asks for is done, and it does not learn of it.
    pub fn hold_answers(&self) {
        self.state.holds_answers.store(true, Ordering::SeqCst);
    }

    /// Passes on all that was held, and what follows.
    pub fn resume(&self) {
        self.state.holds_requests.store(false, Ordering::SeqCst);
        self.state.holds_answers.store(false, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Connects to the server for a client, and starts both directions.
fn join(state: &Arc<State>, client: TcpStream) -> std::io::Result<()> {
    let number = state.connections.fetch_add(1, Ordering::SeqCst);
    let to = state.to.lock().expect("no thread panicked").clone();
    let server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ends = [client.try_clone()?, server.try_clone()?];
    state.sockets.lock().expect("no thread panicked").extend(ends);
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let requests = Arc::clone(state);
    thread::spawn(move || pass_on(&requests, number, &requests.holds_requests, from_client, to_server));
    let answers = Arc::clone(state);
    thread::spawn(move || pass_on(&answers, number, &answers.holds_answers, server, client));
    Ok(())
}

/// Passes on what one end sends, up to its end.
fn pass_on(state: &State, number: u64, is_held: &AtomicBool, mut from: TcpStream, mut to: TcpStream) {
    // Bytes are lost then, and neither end hears of the other's.
    let is_stranded = || number < state.stranded.load(Ordering::SeqCst);
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = super::read(&mut from, &mut bytes) {
        while is_held.load(Ordering::SeqCst) && !state.has_ended.load(Ordering::SeqCst) {
            thread::sleep(TICK);
        }
        if !is_stranded() && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    if !is_stranded() {
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
