//! A server with token files, and clients that send tokens.

use crate::common::{Client, DEADLINE, Reply, Server, TempDir, WebSocket, wait_until};

pub const WRITER: &str = "writer-3f9c0a17d4e8b652";
pub const READER: &str = "reader-81b6e2d05f7c394a";
pub const WRONG: &str = "writer-0000000000000000";

/// A server with token files, and the folder of these files.
pub struct Guarded {
    pub server: Server,
    files: TempDir,
}

impl Guarded {
    #[track_caller]
    pub fn start(protects_reading: bool) -> Guarded {
        let files = TempDir::new();
        let path = |name: &str, token: &str| files.write(name, format!("# the till\n{token}\n")).into_os_string();
        let mut builder = Server::builder().arg("--token-file").arg(path("write", WRITER));
        if protects_reading {
            builder = builder.arg("--read-token-file").arg(path("read", READER));
        }
        Guarded { server: builder.start(), files }
    }

    /// Replaces a token file, sends SIGHUP, and waits until the server has logged `said`.
    #[track_caller]
    pub fn change(&self, name: &str, content: &str, said: &str) {
        let before = self.server.log().matches(said).count();
        self.files.write(name, content);
        self.server.signal("HUP");
        wait_until(DEADLINE, said, || self.server.log().matches(said).count() > before);
    }

    /// Removes a token file, sends SIGHUP, and waits until the server has logged `said`.
    #[track_caller]
    pub fn remove(&self, name: &str, said: &str) {
        let before = self.server.log().matches(said).count();
        std::fs::remove_file(self.files.path().join(name)).expect("the file is there");
        self.server.signal("HUP");
        wait_until(DEADLINE, said, || self.server.log().matches(said).count() > before);
    }

    #[track_caller]
    pub fn a1(&self) -> i64 {
        let reply = ask(&mut self.server.client(), "GET", "/orders/electronics", Some(WRITER), "");
        reply.json()[0]["total"].as_i64().expect("an integer")
    }

    /// Checks that neither these texts nor the log contain a token, or half of one.
    #[track_caller]
    pub fn expect_silence(&self, said: &[String]) {
        for text in said.iter().chain([&self.server.log()]) {
            for token in [WRITER, READER, WRONG] {
                assert!(!text.contains(&token[..10]) && !text.contains(&token[8..]), "a token is shown: {text}");
            }
        }
    }
}

#[track_caller]
pub fn ask(client: &mut Client, method: &str, path: &str, token: Option<&str>, body: &str) -> Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    client.request(method, path, &headers, body.as_bytes())
}

/// Opens a session with the token in `Sec-WebSocket-Protocol`, as a browser does, or in `Authorization`.
#[track_caller]
pub fn open(server: &Server, token: Option<&str>, in_protocols: bool) -> Result<WebSocket, Reply> {
    let (pair, bearer) = token.map(|it| (format!("bearer, {it}"), format!("Bearer {it}"))).unwrap_or_default();
    let headers: &[(&str, &str)] = match token {
        None => &[],
        Some(_) if in_protocols => &[("Sec-WebSocket-Protocol", &pair)],
        Some(_) => &[("Authorization", &bearer)],
    };
    WebSocket::try_open(server.addr(), "/orders/confectionery", headers)
}
