//! The limit of the machine: the cost of sends on loopback without a server.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::connect;
use crate::report::pretty;

/// As many as the larger `deliver` run has subscribers.
const SOCKETS: usize = 1_000;
/// Bytes of a frame with the message `{"id":"A1","total":123456}`.
const FRAME: usize = 30;
const MEASURED: Duration = Duration::from_secs(1);

/// Prints the cost of sends of 1, 10, 100 and 1,000 frames. One thread reads all sockets.
pub fn print() -> io::Result<()> {
    for frames in [1, 10, 100, 1_000] {
        let (sends, elapsed) = send(frames)?;
        let each = elapsed.as_secs_f64() / sends as f64;
        println!(
            "send of {frames} frames ({} bytes): {} µs, {} sends/s, {} frames/s",
            frames * FRAME,
            pretty(each * 1e6),
            pretty(1.0 / each),
            pretty(frames as f64 / each),
        );
    }
    Ok(())
}

fn send(frames: usize) -> io::Result<(u64, Duration)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..SOCKETS {
        readers.push(connect::plain(listener.local_addr()?, None)?);
        let (writer, _) = listener.accept()?;
        writer.set_nodelay(true)?;
        writers.push(writer);
    }
    let stop = AtomicBool::new(false);
    let bytes = vec![b'x'; frames * FRAME];
    thread::scope(|scope| {
        let reading = scope.spawn(|| drain(&readers, &stop));
        let began = Instant::now();
        let mut sends = 0;
        let result = loop {
            let written = writers.iter_mut().try_for_each(|writer| writer.write_all(&bytes));
            sends += SOCKETS as u64;
            if written.is_err() || began.elapsed() > MEASURED {
                break written;
            }
        };
        let elapsed = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        reading.join().map_err(|_| io::Error::other("the reader panicked"))??;
        result.map(|()| (sends, elapsed))
    })
}

fn drain(readers: &[TcpStream], stop: &AtomicBool) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (index, reader) in readers.iter().enumerate() {
        connect::watch(&poll, reader, index)?;
    }
    let mut events = Events::with_capacity(SOCKETS);
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(10)))?;
        for event in &events {
            let mut reader = &readers[event.token().0];
            while reader.read(&mut buffer).is_ok_and(|count| count == buffer.len()) {}
        }
    }
    Ok(())
}
