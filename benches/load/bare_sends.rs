//! The limit of the machine: the cost of sends on loopback without a server.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::connect::{self, Feed};
use crate::figures::pretty;
use crate::sent::Sent;
use crate::server::PREFIX;
use crate::subscribers::{Progress, Reader};

/// As many as the larger `deliver` run has subscribers.
const SOCKETS: usize = 1_000;
/// Bytes of a frame with the message `{"id":"A1","total":123456}`.
const FRAME: usize = 30;
const MEASURED: Duration = Duration::from_secs(1);
/// How long paced sends go on before they count.
const WARM_UP: Duration = Duration::from_millis(300);

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

/// The CPU seconds of a million frames that one thread sends to `sockets` subscribers, so many frames a second to each.
/// The subscribers read as those of a server do. All frames that are due leave in one send, as early as one thread can.
pub fn paced(sockets: usize, rate: f64, measured: Duration) -> io::Result<f64> {
    let (writers, readers) = pairs(sockets)?;
    let feeds = readers.into_iter().map(|stream| Feed { stream, early: Vec::new() }).collect();
    // The total before the first order, again and again, which is no fault.
    let message = format!("{{\"id\":\"{PREFIX}1\",\"total\":0}}");
    let frame = [&[0x81, message.len() as u8], message.as_bytes()].concat();
    let (sent, progress) = (Sent::new(&[0], 0, 0), Progress::default());
    let mut reader = Reader::new(feeds, &sent, &progress, false)?;
    thread::scope(|scope| {
        let reading = scope.spawn(|| reader.run());
        let cost = send_paced(&writers, &frame, rate, measured);
        sent.finish();
        reading.join().map_err(|_| io::Error::other("the reader panicked"))??;
        cost
    })
}

fn send_paced(writers: &[TcpStream], frame: &[u8], rate: f64, measured: Duration) -> io::Result<f64> {
    let (began, mut frames, mut counted) = (Instant::now(), 0, None);
    loop {
        let elapsed = began.elapsed();
        if counted.is_none() && elapsed >= WARM_UP {
            counted = Some((frames, thread_cpu()?));
        }
        if let Some((before, cpu)) = counted
            && elapsed >= WARM_UP + measured
        {
            let deliveries = (frames - before) as f64 * writers.len() as f64;
            return Ok((thread_cpu()? - cpu) * 1e6 / deliveries);
        }
        let due = (elapsed.as_secs_f64() * rate) as usize;
        if due == frames {
            thread::sleep(Duration::from_secs_f64((due + 1) as f64 / rate).saturating_sub(elapsed));
            continue;
        }
        let bytes = frame.repeat(due - frames);
        writers.iter().try_for_each(|mut writer| writer.write_all(&bytes))?;
        frames = due;
    }
}

/// CPU seconds of this thread.
fn thread_cpu() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse::<f64>().ok());
    nanoseconds.map(|nanoseconds| nanoseconds / 1e9).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// So many connections: their writing and their reading ends.
fn pairs(count: usize) -> io::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        readers.push(connect::plain(listener.local_addr()?, None)?);
        let (writer, _) = listener.accept()?;
        writer.set_nodelay(true)?;
        writers.push(writer);
    }
    Ok((writers, readers))
}

fn send(frames: usize) -> io::Result<(u64, Duration)> {
    let (mut writers, readers) = pairs(SOCKETS)?;
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
