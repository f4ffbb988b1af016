//! A raw NATS client over one TCP connection: blocking, with deadlines, and able to send anything.
//!
//! Tests use it like the plain NATS tools, and like an attacker with a socket: broken headers,
//! wrong replies, subjects that are not UTF-8.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peerbus_identity::IdentityFile;

/// Timeout for answers of the server itself.
const SERVER_DEADLINE: Duration = Duration::from_secs(20);

/// A received message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its subject, with invalid UTF-8 replaced.
    pub subject: String,
    /// The id of our subscription that received it.
    pub sid: u64,
    /// The reply subject.
    pub reply: Option<String>,
    /// The status in the header line, such as 503.
    pub status: Option<u16>,
    /// The headers, in the order received.
    pub headers: Vec<(String, String)>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// The first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The payload as text, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The payload as JSON; fails the test with the message if it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.payload) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {self:?}"),
        }
    }

    /// Whether this is the server's "no responders".
    pub fn is_no_responders(&self) -> bool {
        self.status == Some(503)
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject)
            .field("reply", &self.reply)
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("bytes", &self.payload.len())
            .field("text", &self.text().chars().take(2000).collect::<String>())
            .finish()
    }
}

/// Options of a connection.
#[derive(Clone, Default)]
pub struct Login {
    /// A user and a password.
    pub user: Option<(String, String)>,
    /// A token.
    pub token: Option<String>,
    /// The name the server shows for this connection.
    pub name: Option<String>,
    /// The prefix of inboxes, instead of `_INBOX`.
    pub inbox_prefix: Option<String>,
    /// An identity of a fleet.
    pub identity: Option<IdentityFile>,
}

impl Login {
    /// A login with an identity and its own inbox prefix.
    pub fn with(identity: &IdentityFile) -> Login {
        let name = identity.signer().expect("an identity").name;
        Login {
            inbox_prefix: Some(format!("_INBOX_{name}")),
            identity: Some(identity.clone()),
            ..Login::default()
        }
    }
}

/// One connection.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
    info: serde_json::Value,
    inbox_prefix: String,
    next_sid: u64,
    next_inbox: u64,
    waiting: VecDeque<Message>,
    pongs: u64,
    pings_sent: u64,
    answers_pings: bool,
    /// The server's `-ERR` lines, oldest first.
    pub errors: Vec<String>,
}

impl Raw {
    /// Connects to `nats://host:port` or `host:port`; fails the test on an error.
    #[track_caller]
    pub fn connect(url: &str) -> Raw {
        Raw::connect_as(url, &Login::default())
    }

    /// Connects with a user or a token; fails the test on an error.
    #[track_caller]
    pub fn connect_as(url: &str, login: &Login) -> Raw {
        match Raw::try_connect(url, login) {
            Ok(raw) => raw,
            Err(error) => panic!("connecting the raw client to {url}: {error}"),
        }
    }

    /// Connects, and returns once the server has accepted the login.
    pub fn try_connect(url: &str, login: &Login) -> io::Result<Raw> {
        Raw::try_connect_within(url, login, SERVER_DEADLINE)
    }

    /// Like [`Raw::try_connect`], with a timeout of the caller's own.
    pub fn try_connect_within(url: &str, login: &Login, deadline: Duration) -> io::Result<Raw> {
        static CONNECTIONS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let place = url.strip_prefix("nats://").unwrap_or(url);
        let address = place
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address"))?;
        let stream = TcpStream::connect_timeout(&address, deadline)?;
        stream.set_nodelay(true)?;
        let number = CONNECTIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let prefix = login.inbox_prefix.clone().unwrap_or_else(|| "_INBOX".to_owned());
        let mut raw = Raw {
            stream,
            read: Vec::new(),
            info: serde_json::Value::Null,
            inbox_prefix: format!("{prefix}.t{}x{number}", std::process::id()),
            next_sid: 1,
            next_inbox: 1,
            waiting: VecDeque::new(),
            pongs: 0,
            pings_sent: 0,
            answers_pings: true,
            errors: Vec::new(),
        };
        let end = Instant::now() + deadline;
        while raw.info.is_null() {
            raw.step(end)?;
        }
        let mut connect = serde_json::json!({
            "verbose": false, "pedantic": false, "lang": "raw", "version": "0", "protocol": 1,
            "headers": true, "no_responders": true, "echo": true,
            "name": login.name.as_deref().unwrap_or("raw test client"),
        });
        if let Some((user, password)) = &login.user {
            connect["user"] = user.as_str().into();
            connect["pass"] = password.as_str().into();
        }
        if let Some(token) = &login.token {
            connect["auth_token"] = token.as_str().into();
        }
        if let Some(identity) = &login.identity {
            let nonce = raw.info["nonce"].as_str().unwrap_or_default();
            connect["jwt"] = identity.token.as_str().into();
            connect["sig"] = URL_SAFE_NO_PAD.encode(identity.key.sign(nonce.as_bytes())).into();
        }
        raw.try_send(format!("CONNECT {connect}\r\n").as_bytes())?;
        raw.try_barrier(deadline)?;
        match raw.errors.first() {
            Some(error) => Err(io::Error::new(io::ErrorKind::PermissionDenied, error.clone())),
            None => Ok(raw),
        }
    }

    /// The server's `INFO`.
    pub fn info(&self) -> &serde_json::Value {
        &self.info
    }

    /// The largest payload the server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.info["max_payload"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
    }

    /// Sends arbitrary bytes; fails the test on an error.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("writing to the server");
    }

    /// Sends arbitrary bytes.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Stops or resumes answering the server's pings, like a frozen client.
    pub fn answer_pings(&mut self, answer: bool) {
        self.answers_pings = answer;
    }

    /// Subscribes, and returns once the server has confirmed it.
    #[track_caller]
    pub fn subscribe(&mut self, subject: &str) -> u64 {
        self.subscribe_line(subject, "")
    }

    /// Subscribes as a member of a queue group.
    #[track_caller]
    pub fn subscribe_queue(&mut self, subject: &str, group: &str) -> u64 {
        self.subscribe_line(subject, group)
    }

    #[track_caller]
    fn subscribe_line(&mut self, subject: &str, group: &str) -> u64 {
        let sid = self.next_sid;
        self.next_sid += 1;
        self.send(format!("SUB {subject} {group} {sid}\r\n").as_bytes());
        self.barrier();
        sid
    }

    /// Unsubscribes, and returns once the server has confirmed it.
    #[track_caller]
    pub fn unsubscribe(&mut self, sid: u64) {
        self.send(format!("UNSUB {sid}\r\n").as_bytes());
        self.barrier();
    }

    /// A new inbox subject.
    pub fn new_inbox(&mut self) -> String {
        let number = self.next_inbox;
        self.next_inbox += 1;
        format!("{}.{number}", self.inbox_prefix)
    }

    /// Publishes.
    #[track_caller]
    pub fn publish(&mut self, subject: &str, payload: impl AsRef<[u8]>) {
        self.publish_bytes(subject.as_bytes(), b"", None, payload.as_ref());
    }

    /// Publishes with a reply subject.
    #[track_caller]
    pub fn publish_reply(&mut self, subject: &str, reply: &str, payload: impl AsRef<[u8]>) {
        self.publish_bytes(subject.as_bytes(), reply.as_bytes(), None, payload.as_ref());
    }

    /// Publishes with well-formed headers; `reply` may be empty.
    #[track_caller]
    pub fn publish_headers(
        &mut self,
        subject: &str,
        reply: &str,
        headers: &[(&str, &str)],
        payload: impl AsRef<[u8]>,
    ) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let block = format!("NATS/1.0\r\n{lines}\r\n");
        self.publish_bytes(subject.as_bytes(), reply.as_bytes(), Some(block.as_bytes()), payload.as_ref());
    }

    /// Publishes arbitrary bytes: a subject that is not UTF-8, a header block with a bare `\r`, …
    /// `reply` may be empty; `headers` is the whole block with its first line and its empty last
    /// line.
    #[track_caller]
    pub fn publish_bytes(&mut self, subject: &[u8], reply: &[u8], headers: Option<&[u8]>, payload: &[u8]) {
        let mut line = Vec::with_capacity(payload.len() + 128);
        line.extend_from_slice(if headers.is_some() { b"HPUB " } else { b"PUB " });
        line.extend_from_slice(subject);
        line.push(b' ');
        if !reply.is_empty() {
            line.extend_from_slice(reply);
            line.push(b' ');
        }
        if let Some(headers) = headers {
            line.extend_from_slice(format!("{} ", headers.len()).as_bytes());
        }
        line.extend_from_slice(format!("{}\r\n", headers.map_or(0, <[u8]>::len) + payload.len()).as_bytes());
        line.extend_from_slice(headers.unwrap_or_default());
        line.extend_from_slice(payload);
        line.extend_from_slice(b"\r\n");
        self.send(&line);
    }

    /// Sends a request and returns the first answer, which may be the server's 503; fails the test
    /// otherwise.
    #[track_caller]
    pub fn request(&mut self, subject: &str, payload: impl AsRef<[u8]>, deadline: Duration) -> Message {
        let inbox = self.new_inbox();
        let sid = self.subscribe(&inbox);
        self.publish_reply(subject, &inbox, payload);
        let answer = self.expect_on(sid, deadline, &format!("an answer from {subject}"));
        self.unsubscribe(sid);
        answer
    }

    /// Sends a request and returns all answers until an empty one, or until `span` has passed
    /// without one.
    #[track_caller]
    pub fn request_many(&mut self, subject: &str, payload: impl AsRef<[u8]>, span: Duration) -> Vec<Message> {
        let inbox = self.new_inbox();
        let sid = self.subscribe(&inbox);
        self.publish_reply(subject, &inbox, payload);
        let mut answers = Vec::new();
        while let Some(answer) = self.next_on(sid, span) {
            let last = answer.payload.is_empty();
            answers.push(answer);
            if last {
                break;
            }
        }
        self.unsubscribe(sid);
        answers
    }

    /// The next message of any subscription; `None` after `deadline` or when the connection ended.
    pub fn next(&mut self, deadline: Duration) -> Option<Message> {
        self.next_where(deadline, |_| true)
    }

    /// The next message of one subscription; others stay queued.
    pub fn next_on(&mut self, sid: u64, deadline: Duration) -> Option<Message> {
        self.next_where(deadline, |message| message.sid == sid)
    }

    /// The next message that `wanted` accepts; others stay queued.
    pub fn next_where(&mut self, deadline: Duration, wanted: impl Fn(&Message) -> bool) -> Option<Message> {
        let end = Instant::now() + deadline;
        let mut looked_at = 0;
        loop {
            if let Some(index) = (looked_at..self.waiting.len()).find(|index| wanted(&self.waiting[*index])) {
                return self.waiting.remove(index);
            }
            looked_at = self.waiting.len();
            self.step(end).ok()?;
        }
    }

    /// The next message of one subscription; fails the test with `what` otherwise.
    #[track_caller]
    pub fn expect_on(&mut self, sid: u64, deadline: Duration, what: &str) -> Message {
        match self.next_on(sid, deadline) {
            Some(message) => message,
            None => {
                let (errors, others) = (&self.errors, &self.waiting);
                panic!(
                    "waited {deadline:?} in vain for {what}; the server's errors: {errors:?}; others in line: {others:?}"
                );
            }
        }
    }

    /// Waits until the server has processed all our messages (PING, PONG).
    #[track_caller]
    pub fn barrier(&mut self) {
        self.try_barrier(SERVER_DEADLINE).expect("waiting for the server's PONG");
    }

    /// Like [`Raw::barrier`], without failing the test.
    pub fn try_barrier(&mut self, deadline: Duration) -> io::Result<()> {
        let end = Instant::now() + deadline;
        self.pings_sent += 1;
        let wanted = self.pings_sent;
        self.try_send(b"PING\r\n")?;
        while self.pongs < wanted {
            if let Err(error) = self.step(end) {
                return match self.errors.last() {
                    Some(said) => Err(io::Error::new(io::ErrorKind::PermissionDenied, said.clone())),
                    None => Err(error),
                };
            }
        }
        Ok(())
    }

    /// Waits until the server or the relay has closed the connection.
    pub fn wait_for_disconnect(&mut self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        loop {
            match self.step(end) {
                Ok(()) => {}
                Err(error) => return error.kind() != io::ErrorKind::TimedOut,
            }
        }
    }

    /// Handles one protocol message, reading more until there is one or `end` has come.
    fn step(&mut self, end: Instant) -> io::Result<()> {
        loop {
            if self.parse_one()? {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buffer = [0; 64 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.read.extend_from_slice(&buffer[..length]),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Parses one protocol line with its payload. Returns false if it is incomplete.
    fn parse_one(&mut self) -> io::Result<bool> {
        let Some(line_end) = self.read.windows(2).position(|pair| pair == b"\r\n") else { return Ok(false) };
        let line = String::from_utf8_lossy(&self.read[..line_end]).into_owned();
        let body = line_end + 2;
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("the server said {line:?}"));
        let number = |text: &str| text.parse::<usize>().map_err(|_| broken());
        match fields.first().copied().unwrap_or_default() {
            "PING" => {
                self.read.drain(..body);
                if self.answers_pings {
                    self.try_send(b"PONG\r\n")?;
                }
            }
            "PONG" => {
                self.read.drain(..body);
                self.pongs += 1;
            }
            "+OK" => {
                self.read.drain(..body);
            }
            "-ERR" => {
                self.read.drain(..body);
                self.errors.push(line["-ERR".len()..].trim().trim_matches('\'').to_owned());
            }
            "INFO" => {
                self.read.drain(..body);
                self.info = serde_json::from_str(&line["INFO".len()..]).map_err(|_| broken())?;
            }
            kind @ ("MSG" | "HMSG") => {
                let sizes = if kind == "HMSG" { 2 } else { 1 };
                if fields.len() < 3 + sizes {
                    return Err(broken());
                }
                let total = number(fields[fields.len() - 1])?;
                let headers_length = if sizes == 2 { number(fields[fields.len() - 2])? } else { 0 };
                if self.read.len() < body + total + 2 {
                    return Ok(false);
                }
                let headers = &self.read[body..body + headers_length];
                let (status, headers) = parse_headers(headers);
                let message = Message {
                    subject: fields[1].to_owned(),
                    sid: fields[2].parse().map_err(|_| broken())?,
                    reply: (fields.len() == 4 + sizes).then(|| fields[3].to_owned()),
                    status,
                    headers,
                    payload: self.read[body + headers_length..body + total].to_vec(),
                };
                self.read.drain(..body + total + 2);
                self.waiting.push_back(message);
            }
            _ => return Err(broken()),
        }
        Ok(true)
    }
}

fn parse_headers(block: &[u8]) -> (Option<u16>, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(block);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    (status, headers)
}
