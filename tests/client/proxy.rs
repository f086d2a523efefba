//! A server that nginx publishes below a path: `http://host/shop/`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::command::{Running, expect, orders, url_of, with_server};
use crate::common::{DEADLINE, Server, TempDir, skip, wait_until};

/// A running nginx. Dropping it kills it.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// nginx with the server below `/shop/`. `None` without nginx, after a message.
    #[track_caller]
    fn before(server: &Server) -> Option<Nginx> {
        // Debian installs it in a folder that is only in root's `PATH`.
        let Some(binary) = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists())
        else {
            skip("nginx is not installed (make deps)", true);
            return None;
        };
        // nginx cannot listen on port 0, and another process may take a port that was free.
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            let addr = listener.local_addr().expect("an address");
            drop(listener);
            let folder = TempDir::new();
            folder.write(
                "nginx.conf",
                format!(
                    "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{}}\nhttp {{\n\
                     access_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
                     uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
                     map $http_upgrade $connection_field {{ default \"\"; ~*websocket upgrade; }}\n\
                     server {{ listen {addr}; location /shop/ {{ proxy_pass http://{}/; proxy_http_version 1.1;\n\
                     proxy_set_header Connection $connection_field; proxy_set_header Upgrade $http_upgrade;\n\
                     proxy_set_header Host $http_host; proxy_buffering off; }} }} }}\n",
                    server.addr()
                ),
            );
            let mut command = Command::new(binary);
            command.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("nginx can be started");
            let mut has_ended = false;
            // The file is written once nginx listens, and never if the port is in use.
            wait_until(DEADLINE, "nginx listens", || {
                has_ended = child.try_wait().expect("the child can be asked").is_some();
                let id = fs::read_to_string(folder.path().join("nginx.pid"));
                has_ended || id.is_ok_and(|id| !id.is_empty())
            });
            if !has_ended {
                return Some(Nginx { child, addr, _folder: folder });
            }
        }
        panic!("nginx got no free port");
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn both_commands_work_through_nginx_below_a_path_and_wait_while_the_server_is_away() {
    let mut server = Server::start();
    let Some(nginx) = Nginx::before(&server) else { return };
    let url = format!("{}/shop/", url_of(nginx.addr));
    let watch = Running::start(with_server(&["watch", "confectionery"], &url), Stdio::null());
    assert_eq!(watch.line(), "{\"id\":\"B1\",\"total\":101}");
    let run = Running::start(with_server(&["post", "B1", "-1"], &url), Stdio::null()).finish();
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "{\"ok\":true}\n"), "{run:?}");
    assert_eq!(watch.line(), "{\"id\":\"B1\",\"total\":100}");
    let run = Running::start(with_server(&["post", "B9", "1"], &url), Stdio::null()).finish();
    expect(&run, 1, &["there is no product \"B9\""]);

    // nginx answers 502 while the server is away.
    server.kill();
    watch.wait_for_error("trying again");
    let folder = TempDir::new();
    let input = fs::File::open(folder.write("orders", orders(5, &["B1"]))).unwrap();
    let post = Running::start(with_server(&["post", "-"], &url), input.into());
    post.wait_for_error("status 502; trying again");
    server.restart_on_the_same_ports();
    let run = post.finish();
    assert_eq!(run.code, Some(0), "{run:?}");
    for total in 101..=105 {
        assert_eq!(watch.line(), format!("{{\"id\":\"B1\",\"total\":{total}}}"));
    }
    // Without the path it is another site.
    expect(&crate::command::run(nginx.addr, &["post", "B1", "1"]), 1, &["status 404", "is it an ordercast server?"]);
}
