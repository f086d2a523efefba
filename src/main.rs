//! The command: from arguments to a [`Config`], to a server, to an exit code. Owns the process: signals, standard
//! output, exit codes (0 done, 1 failed, 2 wrong usage, 3 no answer from a server, 129 the terminal is gone).

#![forbid(unsafe_code)]

mod systemd;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[cfg(feature = "client")]
use ordercast::internal::client;
use ordercast::internal::config::{self, Command, LogOptions};
use ordercast::internal::tools::ToolError;
use ordercast::internal::{error_lines, install_log, tools};
use ordercast::{Config, Handle, Server};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use systemd::Notifier;

fn main() -> ExitCode {
    let command = match config::parse(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(command) => command,
        Err(error) => {
            print_error(&error);
            return ExitCode::from(2);
        }
    };
    let code = run(command).unwrap_or_else(|error| {
        print_error(&*error);
        ExitCode::FAILURE
    });
    log::logger().flush();
    code
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    // With a handler, a file at the limit on file sizes makes a write fail; without one it would end the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    match command {
        Command::Help(command) => print(&config::help(command))?,
        Command::Completions(shell) => print(&config::completions(shell))?,
        Command::Man => print(&config::man_page())?,
        Command::Version => print(concat!("ordercast ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Command::Serve(config, log) => return serve(&config, log),
        Command::Export(options) => {
            // Standard output by itself would be written line by line.
            let remark = tools::export::run(&options, &mut BufWriter::new(io::stdout().lock()))?;
            print_remarks(remark.as_slice());
        }
        Command::Check(options) => {
            let report = tools::check::run(&options)?;
            print_unless_closed(&report.text)?;
            return Ok(if report.is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Repair(options) => print_done(&tools::repair::run(&options)?),
        Command::Report(options) => {
            let remarks = tools::report::run(&options, &mut BufWriter::new(io::stdout().lock()))?;
            print_remarks(&remarks);
        }
        Command::Backup(options) => {
            let made = tools::backup::run(&options)?;
            print_done(&made.text);
            print_remarks(&made.remarks);
        }
        Command::Compact(options) => print_done(&tools::compact::run(&options)?),
        #[cfg(feature = "postgres")]
        Command::Migrate(options) => {
            let done = tools::migrate::run(&options)?;
            print_done(&done.text);
            print_remarks(&done.remarks);
        }
        #[cfg(feature = "client")]
        Command::Post(options) => return Ok(code_of(client::post(&options))),
        #[cfg(feature = "client")]
        Command::Watch(options) => return Ok(code_of(client::watch(&options))),
        #[cfg(not(feature = "client"))]
        Command::Post(_) | Command::Watch(_) => {
            return Err("this program was built without post and watch (the feature client); use curl".into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code of a command that speaks to a server, which has more than others.
#[cfg(feature = "client")]
fn code_of(result: Result<(), client::ClientError>) -> ExitCode {
    result.map_or_else(
        |error| {
            print_error(&error);
            error.exit_code().into()
        },
        |()| ExitCode::SUCCESS,
    )
}

/// The exit code after the end of a terminal, as a shell reports a process that SIGHUP has ended.
const TERMINAL_GONE: u8 = 128 + SIGHUP as u8;

/// Runs a server. From the installation of the log on, an error is a line of it.
fn serve(config: &Config, log: LogOptions) -> Result<ExitCode, Box<dyn Error>> {
    let sockets = systemd::take_sockets();
    install_log(log)?;
    Ok(sockets.map_err(Into::into).and_then(|sockets| serve_on(sockets, config)).unwrap_or_else(|error| {
        let text = text_of(&*error);
        log::error!("{text}");
        Notifier::from_env().failed(&text);
        ExitCode::FAILURE
    }))
}

/// Serves on these sockets, or, if there are none, on the addresses of the configuration.
fn serve_on(sockets: Vec<TcpListener>, config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let server = if sockets.is_empty() { Server::bind(config) } else { Server::from_listeners(config, sockets) }?;
    let notifier = Arc::new(Notifier::from_env());
    let terminal_gone = Arc::new(AtomicBool::new(false));
    let has_tokens = config.token_file.is_some() || config.admin_token_file.is_some();
    handle_signals(server.handle(), has_tokens, terminal_gone.clone(), notifier.clone())?;
    let addresses: Vec<String> = server.addresses().iter().map(|address| format!("http://{address}")).collect();
    for address in &addresses {
        // A server whose standard output is closed still serves.
        let _ = print(&format!("listening on {address}\n"));
    }
    for address in server.metrics_addresses() {
        let _ = print(&format!("metrics on http://{address}/metrics\n"));
    }
    notifier.ready(format!("Serving {}", addresses.join(", ")));
    notifier.start_watchdog(server.handle())?;
    server.run()?;
    Ok(if terminal_gone.load(Ordering::Relaxed) { TERMINAL_GONE.into() } else { ExitCode::SUCCESS })
}

/// The first SIGINT or SIGTERM stops the server in order, the second ends the process at once. SIGHUP reads the token
/// files again. It stops the server only when the process was started on a terminal that is gone, and was not started
/// with SIGHUP ignored (`nohup`).
fn handle_signals(
    handle: Handle,
    has_tokens: bool,
    terminal_gone: Arc<AtomicBool>,
    notifier: Arc<Notifier>,
) -> io::Result<()> {
    let needs_terminal = has_terminal() && !ignores_hangup();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let watch = move || {
        let mut ending = false;
        let stop = |reason: &'static str| {
            notifier.stopping(reason);
            handle.shutdown_because(reason);
        };
        for signal in signals.forever() {
            match signal {
                SIGHUP if ending => {}
                SIGHUP if needs_terminal && !has_terminal() => {
                    log::warn!("the terminal is gone (SIGHUP), so the server stops; nohup or setsid would keep it");
                    terminal_gone.store(true, Ordering::Relaxed);
                    ending = true;
                    stop("the terminal is gone (SIGHUP)");
                }
                SIGHUP => notifier.reload(|| reload(&handle, has_tokens)),
                _ if ending => {
                    log::warn!("a second signal ({}): the server ends at once", name_of(signal));
                    log::logger().flush();
                    std::process::exit(128 + signal);
                }
                _ => {
                    ending = true;
                    stop(name_of(signal));
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}

/// Reads the token files again.
fn reload(handle: &Handle, has_tokens: bool) {
    if !has_tokens {
        return log::info!("SIGHUP: there are no token files to read again");
    }
    match handle.reload() {
        Ok(()) => log::info!("the token files have been read again"),
        Err(error) => log::error!("{error:#}; the tokens stay as they were"),
    }
}

fn name_of(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}

/// Whether this process has a controlling terminal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether this process was started with SIGHUP ignored. Where the system does not tell, it counts as ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Unlike `println!`, this does not panic when standard output is closed.
fn print(text: &str) -> Result<(), ToolError> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).map_err(ToolError::Output)
}

/// Prints the result of a command. The exit code is enough for a script that closes standard output.
fn print_unless_closed(text: &str) -> Result<(), ToolError> {
    match print(text) {
        Err(ToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints the result of a command that is done, and that stays done if it cannot be printed.
fn print_done(text: &str) {
    if let Err(error) = print_unless_closed(text) {
        print_remarks(&[format!("the command is done, but {}", text_of(&error))]);
    }
}

/// Prints what the user of a command that is done should know.
fn print_remarks(remarks: &[String]) {
    for remark in remarks {
        let _ = writeln!(io::stderr().lock(), "ordercast: {remark}");
    }
}

fn print_error(error: &dyn Error) {
    let _ = io::stderr().lock().write_all(error_lines(&text_of(error)).as_bytes());
}

/// The text of an error and of its causes, but of none that only repeats the one before it, as SQLite's do.
fn text_of(error: &dyn Error) -> String {
    let mut last = error.to_string();
    let mut line = last.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !text.contains(&last) && !last.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        (last, cause) = (text, error.source());
    }
    line
}
