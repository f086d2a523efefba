//! Requests to a server, and whether those that failed may be sent again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::{Agent, Body, RequestBuilder, Timeout, http};

use super::ClientError;
use super::text::short;
use crate::config::client::Access;
use crate::json;

/// How long a request may take: 45 s, more than the 30 s after which a server answers for a disk that hangs.
pub(crate) const REQUEST: Duration = Duration::from_secs(45);
/// How long a connection may take: 5 s.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer to orders: 2 MiB, room for 1,000 results with keys of 255 bytes, each escaped.
pub(crate) const MAX_RESULT_BYTES: u64 = 2 * 1024 * 1024;
/// The largest list: 32 MiB, room for 10,000 products with 4 MiB of text, each byte escaped.
pub(crate) const MAX_LIST_BYTES: u64 = 32 * 1024 * 1024;
/// The largest head of an answer: 16 KiB.
pub(crate) const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The largest token file: 1 MiB, as for a server.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A server, with a connection that is kept between requests.
pub(crate) struct Server {
    agent: Agent,
    /// Its URL, without a slash at its end.
    pub(crate) url: String,
    token_file: Option<PathBuf>,
    token: Option<String>,
}

/// A request that did not get what was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may be sent again.
    Later(Later),
    /// It would be refused again: what the server says, and its answer.
    Refused(String, Vec<u8>),
}

/// Why a request may be sent again.
#[derive(Debug)]
pub(crate) struct Later {
    /// What has failed, and why, with the server's URL.
    pub(crate) why: String,
    /// The pause that the server asks for.
    pub(crate) after: Option<Duration>,
    /// Whether the request may have had its effect.
    pub(crate) may_count: bool,
}

impl Failure {
    /// What has failed, and why.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Later(later) => &later.why,
            Self::Refused(why, _) => why,
        }
    }
}

impl Server {
    /// A server that has not been asked yet.
    ///
    /// # Errors
    /// The token file cannot be used.
    pub(crate) fn new(access: &Access) -> Result<Self, ClientError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // The server is the one that was named, also where the environment names a proxy for the web.
            .proxy(None)
            .user_agent(concat!("ordercast/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(MAX_HEAD_BYTES)
            .timeout_connect(Some(CONNECT));
        let token = access.token_file.as_deref().map(read_token).transpose()?;
        let token_file = access.token_file.clone();
        Ok(Self { agent: config.build().into(), url: access.server.clone(), token_file, token })
    }

    /// What to say of an answer with status 200 that no ordercast server gives.
    pub(crate) fn foreign(&self) -> String {
        format!(
            "{} answers, but not as an ordercast server does, so what was sent is probably not counted; check --server",
            self.url
        )
    }

    /// The `Authorization` of each request.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Reads the token file again; true if its first token is another one now.
    pub(crate) fn renew_token(&mut self) -> bool {
        let Some(Ok(token)) = self.token_file.as_deref().map(read_token) else { return false };
        let is_new = self.token.as_ref() != Some(&token);
        self.token = Some(token);
        is_new
    }

    /// Posts a body. A token that the server does not know is read from its file again first.
    pub(crate) fn post(&mut self, path: &str, media: &str, body: &[u8], time: Duration) -> Result<Vec<u8>, Failure> {
        loop {
            let request = self.agent.post(format!("{}{path}", self.url)).header("Content-Type", media);
            let sent = self.prepared(request, time).send(body);
            match self.read(sent, MAX_RESULT_BYTES, time) {
                Err((401, _)) if self.renew_token() => {}
                answer => return answer.map_err(|(_, failure)| failure),
            }
        }
    }

    /// Asks for a list.
    pub(crate) fn get(&mut self, path: &str, time: Duration) -> Result<Vec<u8>, Failure> {
        loop {
            let request = self.agent.get(format!("{}{path}", self.url));
            let sent = self.prepared(request, time).call();
            match self.read(sent, MAX_LIST_BYTES, time) {
                Err((401, _)) if self.renew_token() => {}
                answer => return answer.map_err(|(_, failure)| failure),
            }
        }
    }

    fn prepared<Any>(&self, request: RequestBuilder<Any>, time: Duration) -> RequestBuilder<Any> {
        let request = request.config().timeout_global(Some(time)).build();
        match self.authorization() {
            Some(authorization) => request.header("Authorization", authorization),
            None => request,
        }
    }

    /// The body of an answer with status 200, or the failure and its status (0 without one).
    fn read(
        &self,
        sent: Result<http::Response<Body>, ureq::Error>,
        limit: u64,
        time: Duration,
    ) -> Result<Vec<u8>, (u16, Failure)> {
        let lost = |error| (0, Failure::Later(lost(&self.url, error, time)));
        let answer = sent.map_err(lost)?;
        let status = answer.status().as_u16();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let after = header("Retry-After").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let location = header("Location").map(str::to_owned);
        let body = answer.into_body().with_config().limit(limit).read_to_vec().map_err(lost)?;
        if status == 200 {
            return Ok(body);
        }
        Err((status, self.failure(status, after, location.as_deref(), body)))
    }

    /// What an answer that is not 200 means; docs/api.md has the statuses of the server itself.
    pub(crate) fn failure(
        &self,
        status: u16,
        after: Option<Duration>,
        location: Option<&str>,
        body: Vec<u8>,
    ) -> Failure {
        let detail = json::problem_detail(&body).map(|detail| short(&detail));
        let why = match (detail, location) {
            (Some(detail), _) if is_temporary(status) => format!("{} answers: {detail} (status {status})", self.url),
            (Some(detail), _) if status == 401 && self.token.is_none() => {
                format!("{detail} (status {status}); --token-file names a file with one")
            }
            (Some(detail), _) => format!("{detail} (status {status})"),
            (None, Some(to)) if (300..400).contains(&status) => {
                format!("{} sends on to {} (status {status}); name that as --server", self.url, short(to))
            }
            _ if is_temporary(status) => format!("{} answers with status {status}", self.url),
            _ => format!("{} answers with status {status} and no reason; is it an ordercast server?", self.url),
        };
        if is_temporary(status) {
            // 408, 429, 503 and 507 come before anything is counted.
            let may_count = matches!(status, 500 | 502 | 504);
            return Failure::Later(Later { why, after, may_count });
        }
        Failure::Refused(why, body)
    }
}

/// Whether the same request may succeed later. 502 and 504 are a proxy's, 429 too.
fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 507)
}

/// Whether a request without an answer was certainly not sent.
pub(crate) fn is_unsent(error: &ureq::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    match error {
        ureq::Error::HostNotFound | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => {
            matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable)
        }
        _ => false,
    }
}

/// Why there was no answer.
fn lost(url: &str, error: ureq::Error, time: Duration) -> Later {
    let is_unsent = is_unsent(&error);
    let why = match error {
        ureq::Error::HostNotFound => "the host's name is not known".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            format!("no connection within {} s", CONNECT.min(time).as_secs_f32().ceil())
        }
        ureq::Error::Timeout(_) => format!("no answer within {} s", time.as_secs_f32().ceil()),
        ureq::Error::Protocol(error) => format!("the answer is not HTTP ({error})"),
        error => error.to_string(),
    };
    Later { why: format!("no answer from {url} ({})", short(&why)), after: None, may_count: !is_unsent }
}

/// The first token of a file in the form of a server's token files: one a line, `#` begins a comment.
fn read_token(path: &Path) -> Result<String, ClientError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    read.map_err(|error| ClientError::Failed(format!("cannot read the token file {}", path.display()), error))?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim).enumerate();
    let first = lines.find(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let problem = match first {
        Some((_, token)) if token.bytes().all(|byte| byte.is_ascii_graphic()) => return Ok(token.to_owned()),
        // Without the line itself, which may be a secret.
        Some((index, _)) => format!("line {} is no token; write letters and digits without spaces", index + 1),
        None => "it holds no token; write one a line".to_owned(),
    };
    Err(ClientError::Refused(format!("the token file {} cannot be used: {problem}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_of_a_file_is_sent_and_errors_do_not_contain_it() {
        let path = std::env::temp_dir().join(format!("ordercast-client-token-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_token(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("# tills\n\n  first-0123456789 \r\nsecond-0123456789\n"), Ok("first-0123456789".into()));
        assert!(read("# none\n").unwrap_err().contains("no token"));
        let error = read("#\nse cret").unwrap_err();
        assert!(error.contains("line 2") && !error.contains("cret"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = read_token(&path).unwrap_err();
        assert!(error.to_string().contains("cannot read") && std::error::Error::source(&error).is_some());
    }
}
