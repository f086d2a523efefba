//! Bytes that an order costs on the disk: posts orders at a steady rate, and at the same time and rate appends a line
//! of the log to a plain file with `fdatasync`. Bytes are what the kernel counts for each process as written to the
//! disk (`write_bytes` in /proc/PID/io).
//!
//! `cargo bench --bench disk`, or with the seconds of each run: `cargo bench --bench disk -- 60`

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Orders a second.
const RATES: [u32; 2] = [1, 100];
/// Default length of a run: at the higher rate SQLite checkpoints its WAL several times.
const SECONDS: u64 = 30;

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(SECONDS);
    println!("{:>10} {:>8} {:>16} {:>16} {:>16}", "orders/s", "orders", "ordercast", "with keys", "plain append");
    for rate in RATES {
        let plain = thread::spawn(move || append(rate, seconds));
        let with_keys = thread::spawn(move || post(rate, seconds, true).map_err(|error| error.to_string()));
        let posted = post(rate, seconds, false)?;
        let with_keys = with_keys.join().map_err(|_| "the second poster panicked")??;
        let appended = plain.join().map_err(|_| "the appender panicked")??;
        let orders = u64::from(rate) * seconds;
        let each = |bytes: u64| format!("{:.1} KB/order", bytes as f64 / orders as f64 / 1024.0);
        println!("{rate:>10} {orders:>8} {:>16} {:>16} {:>16}", each(posted), each(with_keys), each(appended));
    }
    Ok(())
}

/// Calls `order` at `rate` a second.
fn pace<E>(rate: u32, seconds: u64, mut order: impl FnMut(u64) -> Result<(), E>) -> Result<(), E> {
    let start = Instant::now();
    for number in 0..u64::from(rate) * seconds {
        let due = Duration::from_secs(1) * number as u32 / rate;
        thread::sleep(due.saturating_sub(start.elapsed()));
        order(number)?;
    }
    Ok(())
}

/// Bytes that this process has written: nothing else in it writes files.
fn append(rate: u32, seconds: u64) -> Result<u64, String> {
    let run = || -> std::io::Result<u64> {
        let folder = Folder::new("plain")?;
        let mut file = File::create(folder.0.join("orders.log"))?;
        let before = written(std::process::id())?;
        pace(rate, seconds, |number| {
            let line = format!(
                "{{\"seq\":{number},\"time\":\"2026-01-01T00:00:00.000Z\",\"id\":\"A1\",\"amount\":1,\"total\":{number}}}\n"
            );
            file.write_all(line.as_bytes())?;
            file.sync_data()
        })?;
        Ok(written(std::process::id())? - before)
    };
    run().map_err(|error| error.to_string())
}

/// Bytes that a server has written.
fn post(rate: u32, seconds: u64, keys: bool) -> Result<u64, Box<dyn Error>> {
    let folder = Folder::new(if keys { "keys" } else { "orders" })?;
    let server = Server::start(&folder.0)?;
    let mut stream = TcpStream::connect(server.address)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let before = written(server.child.id())?;
    pace(rate, seconds, |number| -> Result<(), Box<dyn Error>> {
        let key = if keys { format!("Idempotency-Key: \"till-7-{number:08}\"\r\n") } else { String::new() };
        let request = format!(
            "POST /orders/A1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}Content-Length: 12\r\n\r\n\
             {{\"amount\":1}}"
        );
        stream.write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if answers.read_line(&mut head)? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        let mut body = [0; 11];
        answers.read_exact(&mut body)?;
        if body != *b"{\"ok\":true}" {
            return Err(format!("the order was rejected: {head}").into());
        }
        Ok(())
    })?;
    Ok(written(server.child.id())? - before)
}

/// Bytes that a process has written to the disk.
fn written(pid: u32) -> std::io::Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.trim().parse().ok()).ok_or_else(|| std::io::Error::other("no write_bytes"))
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> std::io::Result<Self> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ordercast"))
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://").ok_or("no address")?.parse()?;
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
