//! The command: arguments to a [`Config`](ordercast::config::Config), to a server, to an exit code. Owns the process:
//! signals, standard output, exit codes (0 done, 1 failed, 2 wrong usage).

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use ordercast::config::{self, Command, Config, HELP};
use ordercast::server::{Handle, Server};
use ordercast::tools;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

fn main() -> ExitCode {
    let command = match config::parse(std::env::args_os().skip(1), |name| std::env::var_os(name)) {
        Ok(command) => command,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    // A file that reaches the limit on file sizes makes a write fail; without a handler it would end the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    match command {
        Command::Help => say(HELP)?,
        Command::Version => say(concat!("ordercast ", env!("CARGO_PKG_VERSION"), "\n"))?,
        Command::Serve(config) => serve(&config)?,
        Command::Export(options) => {
            // Standard output by itself would be written line by line.
            if let Some(remark) = tools::export::run(&options, &mut BufWriter::new(io::stdout().lock()))? {
                let _ = writeln!(io::stderr().lock(), "ordercast: {remark}");
            }
        }
        Command::Check(options) => {
            let report = tools::check::run(&options)?;
            // Whoever reads the exit code alone need not read this, nor what follows for the other commands.
            let _ = say(&report.text);
            return Ok(if report.is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Repair(options) => drop(say(&tools::repair::run(&options)?)),
        Command::Backup(options) => drop(say(&tools::backup::run(&options)?)),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    let server = Server::bind(config)?;
    obey_signals(server.handle(), config.token_file.is_some())?;
    for address in server.addresses() {
        // Nobody has to read this: a server whose output has gone serves all the same.
        let _ = say(&format!("listening on http://{address}\n"));
    }
    let result = server.run();
    ordercast::log::flush();
    Ok(result?)
}

/// The first signal ends the server in order, the second at once. SIGHUP reads the token files again if there are any;
/// otherwise it means what it means to every program, that its terminal has gone, and ends the server too, unless whoever
/// started it has seen to that (`nohup`).
fn obey_signals(handle: Handle, has_tokens: bool) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    if has_tokens || !ignores_hangup() {
        signals.add_signal(SIGHUP)?;
    }
    let watch = move || {
        let mut ending = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP if has_tokens => handle.reload_tokens(),
                _ if ending => std::process::exit(128 + signal),
                _ => {
                    ending = true;
                    handle.shutdown();
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}

/// Whether this process was started with SIGHUP ignored. Where the system does not tell, nothing is changed about it.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Unlike `println!`, this does not panic when nobody reads.
fn say(text: &str) -> Result<(), Box<dyn Error>> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

/// Prints an error and what caused it.
fn complain(error: &dyn Error) {
    let mut line = format!("ordercast: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    let _ = writeln!(io::stderr().lock(), "{line}");
}
