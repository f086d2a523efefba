//! Starts nginx, Caddy and HAProxy in front of a server, each with the file of docs/ and other ports.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::common::{Builder, Client, DEADLINE, Server, TempDir, skip, wait_until};

pub const NAME: &str = "board.example";
/// The address of the server in every file.
const BACK: &str = "127.0.0.1:3000";
/// The timeout in the files of nginx and HAProxy that only a dead feed reaches, and a shorter one that a quiet feed
/// outlives only if the server's pings start it again: they come after 25 s.
const TIMEOUT: &str = "75s";
const SHORT_TIMEOUT: &str = "30s";
/// Attempts to find a port that no other process takes before the proxy does.
const PORTS_TO_TRY: u32 = 10;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Caddy,
    HaProxy,
}

pub const KINDS: [Kind; 3] = [Kind::Nginx, Kind::Caddy, Kind::HaProxy];

/// How a proxy is started.
#[derive(Clone, Copy, Default)]
pub struct Options {
    pub has_tls: bool,
    pub has_short_timeouts: bool,
}

/// A running proxy. Dropping it kills it and removes its folder.
pub struct Proxy {
    pub kind: Kind,
    child: Child,
    pub addr: SocketAddr,
    pub folder: TempDir,
}

impl Kind {
    pub fn program(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::Caddy => "caddy",
            Kind::HaProxy => "haproxy",
        }
    }

    /// The file that operators copy.
    fn document(self) -> &'static str {
        match self {
            Kind::Nginx => "docs/nginx.conf",
            Kind::Caddy => "docs/Caddyfile",
            Kind::HaProxy => "docs/haproxy.cfg",
        }
    }

    /// That file for these addresses, without what needs root. A text that is replaced must be there, once.
    #[track_caller]
    fn configuration(self, listen: SocketAddr, back: SocketAddr, folder: &Path, options: Options) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.document());
        let mut text = fs::read_to_string(path).expect("the document is there");
        let mut replace = |from: &str, to: String| {
            assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in {}", self.document());
            text = text.replace(from, &to);
        };
        let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let (certificate, key) = (certificate.display(), key.display());
        match (self, options.has_tls) {
            (Kind::Nginx, false) => replace("\n    listen 80;", format!("\n    listen {listen};")),
            (Kind::Nginx, true) => {
                replace("\n    listen 80;", String::new());
                replace("\n    # listen 443 ssl;", format!("\n    listen {listen} ssl;"));
                replace(
                    "\n    # ssl_certificate     /etc/letsencrypt/live/board.example/fullchain.pem;",
                    format!("\n    ssl_certificate {certificate};"),
                );
                replace(
                    "\n    # ssl_certificate_key /etc/letsencrypt/live/board.example/privkey.pem;",
                    format!("\n    ssl_certificate_key {key};"),
                );
            }
            (Kind::Caddy, has_tls) => {
                // It must reach no network: no certificate of its own, and no endpoint for administration.
                replace("\n{\n\tservers {", "\n{\n\tadmin off\n\tauto_https off\n\tservers {".to_owned());
                let site = match has_tls {
                    false => format!("http://:{} {{\n\tbind 127.0.0.1", listen.port()),
                    true => {
                        let port = listen.port();
                        format!("https://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}")
                    }
                };
                replace("\nboard.example {", format!("\n{site}"));
            }
            (Kind::HaProxy, has_tls) => {
                replace("\n    user haproxy\n    group haproxy", String::new());
                match has_tls {
                    false => replace("\n    bind :80\n    # With", format!("\n    bind {listen}\n    # With")),
                    true => {
                        replace("\n    bind :80\n    # With", "\n    # With".to_owned());
                        replace(
                            "\n    # bind :443 ssl crt /etc/haproxy/board.example.pem",
                            format!("\n    bind {listen} ssl crt {}", folder.join("both.pem").display()),
                        );
                        let redirect = "http-request redirect scheme https unless { ssl_fc }";
                        replace(&format!("\n    # {redirect}"), format!("\n    {redirect}"));
                    }
                }
            }
        }
        replace(BACK_IN[self as usize], BACK_IN[self as usize].replace(BACK, &back.to_string()));
        if options.has_short_timeouts && self != Kind::Caddy {
            let lines: Vec<String> = text
                .lines()
                .map(|line| {
                    let is_setting = line.trim_start().starts_with("proxy_") || line.contains("    timeout ");
                    if is_setting { line.replace(TIMEOUT, SHORT_TIMEOUT) } else { line.to_owned() }
                })
                .collect();
            let short = lines.iter().filter(|line| line.contains(SHORT_TIMEOUT)).count();
            assert!(short >= 2, "{} has timeouts of {TIMEOUT}", self.document());
            text = lines.join("\n") + "\n";
        }
        text
    }

    /// Debian installs some of them in a folder that is only in root's `PATH`.
    pub fn binary(self) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        folders.map(|folder| folder.join(self.program())).find(|file| file.is_file())
    }
}

/// The line of each file that names the server.
const BACK_IN: [&str; 3] =
    ["server 127.0.0.1:3000;", "\treverse_proxy 127.0.0.1:3000 {", "    server ordercast 127.0.0.1:3000"];

impl Proxy {
    /// Starts each proxy that is installed, in front of a server of its own, and passes both to `check`.
    pub fn each(options: Options, builder: impl Fn() -> Builder, check: impl Fn(Server, Proxy) + Sync) {
        thread::scope(|scope| {
            for kind in KINDS {
                let Some(binary) = kind.binary() else {
                    skip(&format!("{} is not installed (make deps)", kind.program()), true);
                    continue;
                };
                let server = builder().arg("--allow-host").arg(NAME).start();
                let check = &check;
                let work = move || {
                    let proxy = Proxy::before(kind, &binary, server.addr(), options);
                    check(server, proxy);
                };
                thread::Builder::new().name(kind.program().to_owned()).spawn_scoped(scope, work).expect("a thread");
            }
        });
    }

    /// Not all proxies can listen on port 0. So a free port is found first, and another one if it is in use when the
    /// proxy starts.
    #[track_caller]
    pub fn before(kind: Kind, binary: &Path, back: SocketAddr, options: Options) -> Proxy {
        for _ in 0..PORTS_TO_TRY {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let addr = listener.local_addr().expect("it has an address");
            drop(listener);
            let folder = TempDir::new();
            if options.has_tls {
                make_certificate(&folder);
            }
            folder.write("site", kind.configuration(addr, back, folder.path(), options));
            if let Some(proxy) = Proxy::at(kind, binary, addr, folder) {
                return proxy;
            }
        }
        panic!("{kind:?} got none of {PORTS_TO_TRY} free ports");
    }

    /// `None` if the port is in use. Everything that the proxy writes is in the folder.
    #[track_caller]
    fn at(kind: Kind, binary: &Path, addr: SocketAddr, folder: TempDir) -> Option<Proxy> {
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(binary);
        match kind {
            Kind::Nginx => {
                folder.write(
                    "nginx.conf",
                    "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n\
                     events { worker_connections 1024; }\n\
                     http {\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path proxy;\n\
                     fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  include site;\n}\n",
                );
                command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "stderr"]);
            }
            Kind::Caddy => drop(command.args(["run", "--config", "site", "--adapter", "caddyfile"])),
            Kind::HaProxy => drop(command.args(["-db", "-f", "site"])),
        }
        let child = command
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("XDG_CONFIG_HOME", folder.path())
            .env("XDG_DATA_HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the proxy can be started");
        let mut proxy = Proxy { kind, child, addr, folder };
        let mut ended = false;
        wait_until(DEADLINE, "the proxy listens", || {
            ended = proxy.child.try_wait().expect("the child can be asked").is_some();
            ended || listens(proxy.child.id(), addr.port())
        });
        assert!(!ended || proxy.log().contains("in use"), "{kind:?} has ended:\n{}", proxy.log());
        (!ended).then_some(proxy)
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Whether the process itself listens on the port: another one may have taken it meanwhile, while nginx goes on trying.
fn listens(process: u32, port: u16) -> bool {
    const LISTENING: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let local = format!(":{port:04X}");
    let inodes: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[1].ends_with(&local) && columns[3] == LISTENING)
        .map(|columns| format!("socket:[{}]", columns[9]))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let mut files = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    files.any(|file| inodes.iter().any(|inode| file.as_os_str() == inode.as_str()))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the log of {:?} ---\n{}\n---", self.kind, self.log());
        }
    }
}

/// A certificate of its own for the published name: `cert.pem`, `key.pem`, and both in one file.
fn make_certificate(folder: &TempDir) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=board.example"])
        .args(["-addext", "subjectAltName=DNS:board.example"])
        .current_dir(folder.path())
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| fs::read_to_string(folder.path().join(name)).expect("openssl wrote it");
    folder.write("both.pem", read("cert.pem") + &read("key.pem"));
}
