//! PostgreSQL under test: Debian's server, with a cluster of its own per test on a free port of 127.0.0.1. It refuses to
//! run as root, so that a test run of root starts it as another user.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use super::server::wait_for_exit;
use super::{DEADLINE, TempDir, skip, wait_until};

/// How long a cluster may take to start or stop: it may have to recover first.
pub const CLUSTER_DEADLINE: Duration = Duration::from_secs(60);

/// The superuser of every cluster. No password is asked for on loopback, unless [`Cluster::set_access`] says otherwise.
pub const SUPERUSER: &str = "postgres";

/// Part of the template's name. Another number makes a new template after a change of [`make_template`].
const TEMPLATE_FORMAT: u32 = 1;

/// What every cluster is started with. Dynamic shared memory in files of the cluster leaves nothing behind after a kill.
const SETTINGS: [&str; 5] = [
    "listen_addresses=127.0.0.1",
    "shared_buffers=32MB",
    "dynamic_shared_memory_type=mmap",
    "wal_receiver_timeout=5s",
    "wal_retrieve_retry_interval=100ms",
];

/// How a cluster is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits for the sessions to end.
    Smart,
    /// Ends all sessions and writes everything.
    Fast,
    /// Ends without writing anything: the next start recovers.
    Immediate,
}

/// A cluster. Dropping it stops it and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    temp: TempDir,
    port: u16,
    settings: Vec<String>,
    postmaster: Option<Child>,
}

impl Cluster {
    /// A new cluster that runs. `None` without PostgreSQL, after a message; where `CI` is `true` that is a failure.
    #[track_caller]
    pub fn start() -> Option<Cluster> {
        Cluster::start_with(&[])
    }

    /// The same with more settings, such as `max_connections=20`.
    #[track_caller]
    pub fn start_with(settings: &[&str]) -> Option<Cluster> {
        if bin().is_none() {
            skip("PostgreSQL is not installed (make deps)", true);
            return None;
        }
        let temp = TempDir::in_system();
        copy(template(), &temp.path().join("data"));
        let mut cluster = Cluster::in_folder(temp, settings);
        cluster.launch_on_a_free_port();
        Some(cluster)
    }

    /// A cluster whose files are there.
    fn in_folder(temp: TempDir, settings: &[&str]) -> Cluster {
        give_away(temp.path());
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        Cluster { temp, port: 0, settings, postmaster: None }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of the database `postgres` for the superuser.
    pub fn url(&self) -> String {
        self.url_of(SUPERUSER, "postgres")
    }

    /// The address of a database for a user, who may have a password behind a colon.
    pub fn url_of(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@{}/{database}", self.address())
    }

    /// The folder of its Unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.temp.path()
    }

    /// The folder of its files.
    pub fn data(&self) -> PathBuf {
        self.temp.path().join("data")
    }

    /// A copy of its files, while it is stopped.
    pub fn copy_of_files(&self) -> TempDir {
        let folder = TempDir::in_system();
        copy(&self.data(), &folder.path().join("data"));
        folder
    }

    /// Puts a copy of its files in their place, while it is stopped.
    pub fn put_back(&self, files: &TempDir) {
        fs::remove_dir_all(self.data()).expect("the files can be removed");
        copy(&files.path().join("data"), &self.data());
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        fs::read(self.temp.path().join("log")).map_or(String::new(), |log| String::from_utf8_lossy(&log).into_owned())
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.postmaster.as_ref().expect("the cluster runs").id()
    }

    pub fn is_running(&self) -> bool {
        self.postmaster.is_some()
    }

    /// Runs SQL with psql in the database `postgres` and returns the rows, their values with `|` between them.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Like [`Cluster::sql`]; the error is what psql wrote to standard error.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        let output = tool("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(), "-c", sql])
            .output()
            .expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Replaces the rules of access, in the form of `pg_hba.conf`. The superuser is still let in over the Unix socket.
    #[track_caller]
    pub fn set_access(&self, rules: &str) {
        let rules = format!("local all {SUPERUSER} trust\n{rules}\n");
        fs::write(self.data().join("pg_hba.conf"), rules).expect("the file of rules can be written");
        self.reload();
    }

    /// Takes connections with TLS from now on, with this certificate and its key in PEM.
    #[track_caller]
    pub fn set_tls(&self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.data().join(name);
            fs::copy(from, &to).expect("the file can be copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("the owner may");
            give_away(&to);
        }
        self.sql("ALTER SYSTEM SET ssl = on");
        self.reload();
    }

    /// Makes the server read its files again, and waits until it has.
    #[track_caller]
    pub fn reload(&self) {
        let loaded = || self.log().matches("reloading configuration files").count();
        let before = loaded();
        self.signal_postmaster("HUP");
        wait_until(DEADLINE, "the cluster reads its files", || loaded() > before);
    }

    /// Waits until no recovery is under way: a standby is promoted.
    #[track_caller]
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote(true, 60)"), "t", "{}", self.log());
    }

    /// A standby on another port that streams from this cluster, asynchronously.
    #[track_caller]
    pub fn standby(&self) -> Cluster {
        let mut standby = Cluster::in_folder(TempDir::in_system(), &[]);
        standby.settings.clone_from(&self.settings);
        standby.port = free_port();
        let from = format!("postgres://{SUPERUSER}@{}/?application_name={}", self.address(), standby.name());
        run(as_owner("pg_basebackup")
            .args(["-R", "-X", "stream", "-c", "fast", "-d", &from, "-D"])
            .arg(standby.data()));
        standby.launch_on_a_free_port();
        let streams = format!("SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}'", standby.name());
        wait_until(CLUSTER_DEADLINE, "the standby streams", || self.sql(&streams) == "1");
        standby
    }

    /// A standby without which this cluster answers no commit.
    #[track_caller]
    pub fn synchronous_standby(&self) -> Cluster {
        let standby = self.standby();
        self.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{}'", standby.name()));
        self.reload();
        let is_synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_until(CLUSTER_DEADLINE, "the standby is synchronous", || self.sql(is_synchronous) == "1");
        standby
    }

    /// The name under which a standby streams.
    fn name(&self) -> String {
        let folder = self.temp.path().file_name().expect("a temporary folder has a name");
        folder.to_string_lossy().replace('-', "_")
    }

    /// Stops it and waits for the end. A paused one goes on first.
    #[track_caller]
    pub fn stop(&mut self, how: Stop) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        signal(&family(postmaster.id()), "CONT");
        let name = match how {
            Stop::Smart => "TERM",
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        signal(&[postmaster.id()], name);
        wait_for_exit(&mut postmaster, CLUSTER_DEADLINE);
    }

    /// Kills all of its processes with SIGKILL, the postmaster first, and waits for their end.
    #[track_caller]
    pub fn kill(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let processes = family(postmaster.id());
        signal(&processes, "KILL");
        let _ = postmaster.wait();
        // One whose parent has ended is a zombie until the system reaps it.
        let is_gone = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
        };
        wait_until(CLUSTER_DEADLINE, "the killed processes end", || processes.iter().all(is_gone));
    }

    /// Starts it again on the same port; one that runs is stopped first.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop(Stop::Fast);
        self.launch().unwrap_or_else(|why| panic!("{why}"));
    }

    /// Stops all of its processes with SIGSTOP: connections stay open, and nothing is answered.
    #[track_caller]
    pub fn pause(&self) {
        // The postmaster first, so that it starts no process in between.
        self.signal_postmaster("STOP");
        signal(&family(self.pid()), "STOP");
    }

    /// Ends [`Cluster::pause`].
    #[track_caller]
    pub fn resume(&self) {
        signal(&family(self.pid()), "CONT");
    }

    /// Sends the postmaster a signal by its name.
    #[track_caller]
    pub fn signal_postmaster(&self, name: &str) {
        signal(&[self.pid()], name);
    }

    #[track_caller]
    fn launch_on_a_free_port(&mut self) {
        // Another process may take the port before PostgreSQL does.
        for _ in 0..5 {
            if self.port == 0 {
                self.port = free_port();
            }
            match self.launch() {
                Ok(()) => return,
                Err(why) if why.contains("Address already in use") => self.port = 0,
                Err(why) => panic!("{why}"),
            }
        }
        panic!("no port was free: {}", self.log());
    }

    /// Starts it and waits until it takes connections. If it ends before, the error has its log.
    fn launch(&mut self) -> Result<(), String> {
        let (log_path, status_path) = (self.temp.path().join("log"), self.data().join("postmaster.pid"));
        let log = fs::OpenOptions::new().create(true).append(true).open(log_path).expect("the log can be opened");
        let mut command = as_owner("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.arg("-c").arg(format!("unix_socket_directories={}", self.temp.path().display()));
        let settings = SETTINGS.iter().copied().chain(self.settings.iter().map(String::as_str));
        let settings = settings.flat_map(|setting| ["-c", setting]);
        let child = command.args(settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut postmaster = child.expect("PostgreSQL can be started");
        let is_ready = |pid: u32| {
            let status = fs::read_to_string(&status_path).unwrap_or_default();
            // A killed postmaster leaves the file behind.
            status.lines().next() == Some(&pid.to_string()) && status.lines().nth(7).map(str::trim) == Some("ready")
        };
        let mut has_ended = false;
        wait_until(CLUSTER_DEADLINE, "the cluster is ready", || {
            has_ended = postmaster.try_wait().expect("the child can be asked").is_some();
            has_ended || is_ready(postmaster.id())
        });
        if has_ended {
            return Err(format!("PostgreSQL did not start; it wrote:\n{}", self.log()));
        }
        self.postmaster = Some(postmaster);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- PostgreSQL's log ---\n{}\n---", self.log());
            // No second panic: that would end the test run.
            self.kill_without_waiting();
        } else {
            self.stop(Stop::Immediate);
        }
    }
}

impl Cluster {
    fn kill_without_waiting(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            for pid in family(postmaster.id()) {
                let _ = Command::new("sh").arg("-c").arg(format!("kill -KILL {pid}")).status();
            }
            let _ = postmaster.wait();
        }
    }
}

/// The folder of the newest PostgreSQL's programs.
fn bin() -> Option<&'static Path> {
    static BIN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let newest = || {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.map(|entry| entry.map(|entry| entry.path()));
        let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        let folders = versions.filter_map(Result::ok).filter(|path| path.join("bin/postgres").exists());
        folders.max_by_key(version).map(|path| path.join("bin"))
    };
    BIN.get_or_init(newest).as_deref()
}

/// One of PostgreSQL's programs, without what the environment of the test run says of PostgreSQL.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(bin().expect("PostgreSQL is installed").join(name));
    for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("PG")) {
        command.env_remove(variable);
    }
    command.env("LC_ALL", "C");
    command
}

/// A program that is run as the owner of clusters.
fn as_owner(name: &str) -> Command {
    let mut command = tool(name);
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// The user and the group of clusters when the test run is root's: PostgreSQL's own user, or another one without rights.
fn owner() -> Option<(u32, u32)> {
    static OWNER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    let find = || {
        let is_root = std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").ok()?) == 0;
        let users = fs::read_to_string("/etc/passwd").expect("the list of users can be read");
        let ids = |name: &str| {
            let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        is_root.then(|| ids("postgres").or_else(|| ids("nobody")).expect("a user for PostgreSQL"))
    };
    *OWNER.get_or_init(find)
}

/// Gives a file to the owner of clusters.
fn give_away(path: &Path) {
    if let Some((user, group)) = owner() {
        chown(path, Some(user), Some(group)).expect("root may give files away");
    }
}

/// A new cluster's files, made once and kept beside the build: `initdb` takes a second.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = bin().and_then(Path::parent).and_then(Path::file_name).expect("PostgreSQL is installed");
        let name = format!("postgresql-{}-{TEMPLATE_FORMAT}", version.to_string_lossy());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if !path.exists() {
            make_template(&path);
        }
        path
    })
}

fn make_template(path: &Path) {
    let temp = TempDir::in_system();
    give_away(temp.path());
    let made = temp.path().join("data");
    let options = ["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"];
    run(as_owner("initdb").args(options).arg(&made));
    // Another test binary may make the same: the first one stays.
    let copied = path.with_extension(std::process::id().to_string());
    copy(&made, &copied);
    if fs::rename(&copied, path).is_err() {
        let _ = fs::remove_dir_all(&copied);
    }
}

/// Copies a folder with its owners and rights.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]));
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A port of 127.0.0.1 that nothing listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// A process and its children. Those of PostgreSQL are each in a group of their own, so that a signal to a group does not
/// reach them.
fn family(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name before may hold anything; the state and the parent follow it.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(&pid.to_string())
    };
    [pid].into_iter().chain(ids.filter(is_child)).collect()
}

/// Sends processes a signal by its name. One that has ended in the meantime does not count.
#[track_caller]
fn signal(pids: &[u32], name: &str) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    // The shell's builtin, because the command `kill` is not installed everywhere.
    let script = format!("kill -{name} {}", pids.join(" "));
    let _ = Command::new("sh").arg("-c").arg(script).stderr(Stdio::null()).status().expect("the shell runs");
}
