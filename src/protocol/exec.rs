//! A request to start a job, and the result that reports its end.

use serde::{Deserialize, Serialize};

use super::attach::{NAME_MAX, Within, is_name};
use super::decode::{self, BadMessage};
use super::ending::Ending;
use super::task::Task;
use super::tty::Tty;
use super::variables::Variables;
use super::{Instance, JobId, PeerId};

/// The `type` of a request.
pub const TYPE: &str = "peerbus.exec.v1";

/// The `type` of a result.
pub const RESULT_TYPE: &str = "peerbus.result.v1";

/// An example request, shown in errors about malformed ones.
pub const EXAMPLE: &str = r#"{"directory":"/tmp","shell_cmd":"pwd"}"#;

/// Environment variable that holds the job's own id.
pub const JOB_VARIABLE: &str = "PEERBUS_JOB";

/// Environment variable that holds the id of the peer the job runs on.
pub const PEER_VARIABLE: &str = "PEERBUS_PEER";

/// Initial window of a caller: bytes of output that it has not yet written.
pub const WINDOW: u64 = 1 << 20;

/// A request to run one command, as sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// [`TYPE`]; optional for requests typed by hand.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The idempotency key. Without one the peer creates an id, and a repeated request may run twice.
    #[serde(default)]
    pub id: Option<JobId>,
    /// Absolute, or starting with `~`; `None` means the peer's configured default.
    #[serde(default)]
    pub directory: Option<String>,
    /// A command line for the peer's shell; excludes `argv`.
    #[serde(default, alias = "shellCmd", skip_serializing_if = "Option::is_none")]
    pub shell_cmd: Option<String>,
    /// A program and its arguments; excludes `shell_cmd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Environment variables to set.
    #[serde(default)]
    pub env: Variables,
    /// The user to run as; `None` means the daemon's own user.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether the caller will send standard input.
    #[serde(default)]
    pub stdin: bool,
    /// The command's terminal; makes the job durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<Tty>,
    /// How long the command may run, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether the job ends with its command, even if a process started by it still holds its output
    /// open.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_wait: bool,
    /// Whether the job survives its caller and its daemon.
    #[serde(default, skip_serializing_if = "is_false")]
    pub durable: bool,
    /// Latest start of a queued request, in milliseconds since 1970; only queued requests have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// A durable job's name, beside its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Several commands instead of one, each with its own settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// How to stream the output; without it the answer is one JSON object.
    #[serde(default)]
    pub stream: Option<StreamOptions>,
    /// The sender by its own claim, such as `ann@desk`, for the peer's log. Unproven; no decision may
    /// depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The jobs that display this job's output, starting with the one that sends the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether serialization skips a count.
pub fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How to stream output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// Bytes of output that the peer may send before the first credit.
    pub window: u64,
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the peer's shell.
    Shell(String),
    /// A program and its arguments; never empty.
    Argv(Vec<String>),
}

impl ExecRequest {
    /// Decodes a request and checks its shape.
    ///
    /// # Errors
    /// Names the missing or wrong field; shows an example if the payload is not JSON.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        Self::checked(payload).map_err(|bad| BadMessage(decode::readable(&bad.0)))
    }

    fn checked(payload: &[u8]) -> Result<Self, BadMessage> {
        let request: Self = decode::json(payload)
            .map_err(|bad| BadMessage(format!("{bad}; a request looks like {EXAMPLE}")))?;
        request.check()?;
        Ok(request)
    }

    /// Checks the shape of a decoded or constructed request.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn check(&self) -> Result<(), BadMessage> {
        decode::check_type(self.kind.as_deref(), TYPE)?;
        match &self.task {
            Some(task) => task.check(self)?,
            None => drop(self.command()?),
        }
        self.check_texts()?;
        if self.stream.is_some_and(|stream| stream.window == 0) {
            return Err(BadMessage(
                "field `stream.window`: 0 bytes would never let any output through".to_owned(),
            ));
        }
        if self.stdin && self.stream.is_none() {
            return Err(BadMessage(
                "field `stdin`: only a request with `stream` can send standard input".to_owned(),
            ));
        }
        if self.expires_ms.is_some() && self.stream.is_some() {
            return Err(BadMessage(
                "field `expires_ms`: only a request in the queue has it, and that has no `stream`".to_owned(),
            ));
        }
        self.check_durable()?;
        if self.timeout_ms == Some(0) {
            return Err(BadMessage("field `timeout_ms`: 0 leaves no time to run".to_owned()));
        }
        Ok(())
    }

    fn check_durable(&self) -> Result<(), BadMessage> {
        self.tty.as_ref().map_or(Ok(()), Tty::check)?;
        let Some(name) = &self.name else { return Ok(()) };
        if !is_name(name) {
            return Err(BadMessage(format!(
                "field `name`: {name:?} is no name; letters, digits, '-', '_' and '.' make one, {NAME_MAX} at most"
            )));
        }
        match self.is_durable() {
            true => Ok(()),
            false => Err(BadMessage("field `name`: only a durable job has one".to_owned())),
        }
    }

    /// Whether the job survives its caller and its daemon.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable || self.tty.is_some()
    }

    /// Each command as its own request: the steps of a task, or this request alone.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        match &self.task {
            Some(task) => task.parts(self).collect(),
            None => vec![self.clone()],
        }
    }

    /// The command of a request that has no task.
    ///
    /// # Errors
    /// If not exactly one of `shell_cmd` and `argv` is given, or it is empty.
    pub fn command(&self) -> Result<Command, BadMessage> {
        let bad = |text: &str| Err(BadMessage(text.to_owned()));
        match (&self.shell_cmd, &self.argv) {
            (Some(_), Some(_)) => bad("fields `shell_cmd` and `argv`: only one of them may be given"),
            (None, None) => bad("fields `shell_cmd` and `argv`: one of them must be given"),
            (Some(line), None) if line.trim().is_empty() => bad("field `shell_cmd`: it is empty"),
            (Some(line), None) => Ok(Command::Shell(line.clone())),
            (None, Some(argv)) if argv.first().is_none_or(String::is_empty) => {
                bad("field `argv`: it names no program")
            }
            (None, Some(argv)) => Ok(Command::Argv(argv.clone())),
        }
    }

    /// C strings end at a NUL byte, so no text may contain one.
    fn check_texts(&self) -> Result<(), BadMessage> {
        let no_nul = |field: &str, text: &str| match text.contains('\0') {
            true => Err(BadMessage(format!("field `{field}`: it contains a NUL byte"))),
            false => Ok(()),
        };
        no_nul("shell_cmd", self.shell_cmd.as_deref().unwrap_or_default())?;
        no_nul("user", self.user.as_deref().unwrap_or_default())?;
        for argument in self.argv.iter().flatten() {
            no_nul("argv", argument)?;
        }
        for (name, value) in self.env.iter() {
            if name.is_empty() || name.contains('=') || name.contains('\0') {
                // The part after '=' was meant as a value, which may be secret: do not show it.
                let name = name.split('=').next().unwrap_or_default();
                return Err(BadMessage(format!(
                    "field `env`: {name:?} with '=' or NUL, or nothing, cannot be the name of a variable"
                )));
            }
            no_nul(&format!("env.{name}"), value)?;
        }
        if let Some(directory) = &self.directory {
            no_nul("directory", directory)?;
            check_directory(directory).map_err(|why| BadMessage(format!("field `directory`: {why}")))?;
        }
        Ok(())
    }
}

/// Quotes a word for a shell, if it needs quotes.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Checks that a directory is independent of the caller's working directory.
///
/// # Errors
/// A sentence, if it is neither absolute nor starts with `~`.
pub fn check_directory(directory: &str) -> Result<(), String> {
    if directory.starts_with('/') || directory == "~" || directory.starts_with("~/") {
        return Ok(());
    }
    // Shorten before quoting, because quoting is the expensive part.
    let directory = decode::readable(directory);
    Err(format!("{directory:?} is relative; it must begin with '/', or be '~' or begin with '~/'"))
}

/// How a job ended, and totals of its output. Sent as the `result` frame of a stream, and as the whole
/// answer to a plain request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// Always [`RESULT_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job; `None` if the request failed before it got an id.
    pub id: Option<JobId>,
    /// The peer that answers.
    pub peer: PeerId,
    /// The instance that ran the job.
    pub instance: Instance,
    /// How the job ended.
    pub ending: Ending,
    /// Total of stdout; `None` if the daemon died.
    pub out: Option<StreamTotal>,
    /// Total of stderr; `None` if the daemon died.
    pub err: Option<StreamTotal>,
    /// From start to end of the process, in milliseconds: never too low, and only slightly too high.
    pub duration_ms: u64,
    /// Processes of the job that the daemon had to stop.
    pub killed: u32,
    /// How many of these ignored the request to stop, so that the daemon killed them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forced: u32,
    /// Processes that kept running after the job's normal end; at least 1 if the daemon could not look.
    pub left_running: u32,
    /// Processes that survived SIGKILL, because they hang in a system call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hung: Vec<HungProcess>,
    /// Whether a remaining process still holds the output open. The daemon discards what it writes.
    pub output_open: bool,
    /// The first [`HOLDERS_SHOWN`] of these processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<OutputHolder>,
    /// Why output is missing that was still pending when the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cut: Option<String>,
    /// Resource usage of the command.
    pub rusage: Option<Rusage>,
    /// The output itself, in the answer to a plain request.
    #[serde(flatten)]
    pub collected: Option<Collected>,
}

/// Most processes listed as holders of a command's output.
pub const HOLDERS_SHOWN: usize = 8;

/// A process that holds a command's output open after the command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputHolder {
    /// Its pid on the peer.
    pub pid: u32,
    /// Its shortened command line.
    pub command: String,
    /// Whether it looks like a server: it ignores SIGHUP or has its own session. The job does not wait
    /// for its output.
    #[serde(default, skip_serializing_if = "is_false")]
    pub server: bool,
}

/// A process that survived SIGKILL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HungProcess {
    /// Its pid on the peer.
    pub pid: u32,
    /// The kernel's name for its program (comm).
    pub program: String,
}

/// Total of one output stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTotal {
    /// How many bytes.
    pub bytes: u64,
    /// Their blake3 digest, in hexadecimal.
    pub blake3: String,
}

/// Resource usage of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rusage {
    /// Time in user mode, in milliseconds.
    pub user_ms: u64,
    /// Time in the kernel, in milliseconds.
    pub system_ms: u64,
    /// Largest resident size, in KiB.
    pub max_rss_kib: u64,
}

/// The output of a plain request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// stdout, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// stdout in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    /// stderr, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// stderr in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
    /// How many bytes were cut from the middle of each stream.
    pub truncated: Truncated,
}

/// Bytes cut out of the middle of an output that was too long for one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Bytes cut from stdout.
    pub stdout: u64,
    /// Bytes cut from stderr.
    pub stderr: u64,
}

impl JobResult {
    /// The result of a job that never ran, or of which only the ending is known.
    #[must_use]
    pub fn bare(id: Option<JobId>, peer: PeerId, instance: Instance, ending: Ending) -> Self {
        Self {
            kind: RESULT_TYPE.to_owned(),
            id,
            peer,
            instance,
            ending,
            out: None,
            err: None,
            duration_ms: 0,
            killed: 0,
            forced: 0,
            left_running: 0,
            hung: Vec::new(),
            output_open: false,
            held_by: Vec::new(),
            output_cut: None,
            rusage: None,
            collected: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ExecRequest::decode(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn what_people_type_is_enough() {
        let request = ExecRequest::decode(EXAMPLE.as_bytes()).expect("the example");
        assert_eq!(request.command(), Ok(Command::Shell("pwd".into())));
        let old = ExecRequest::decode(br#"{"directory":"/","shellCmd":"pwd","future":1}"#).expect("alias");
        assert_eq!(old.shell_cmd.as_deref(), Some("pwd"));
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (text, named) in [
            ("hello", "looks like"),
            ("", "looks like"),
            (r#"{"directory":"/"}"#, "`shell_cmd` and `argv`"),
            (r#"{"shell_cmd":"a","argv":["b"]}"#, "`shell_cmd` and `argv`"),
            (r#"{"shell_cmd":3}"#, "`shell_cmd`"),
            (r#"{"argv":[]}"#, "`argv`"),
            (r#"{"argv":["a",1]}"#, "`argv[1]`"),
            (r#"{"argv":["a\u0000"]}"#, "`argv`"),
            (r#"{"shell_cmd":" "}"#, "`shell_cmd`"),
            (r#"{"shell_cmd":"a","env":{"A=B":"c"}}"#, "`env`"),
            (r#"{"shell_cmd":"a","env":{"A":1}}"#, "`env.A`"),
            (r#"{"shell_cmd":"a","directory":"x/y"}"#, "`directory`"),
            (r#"{"shell_cmd":"a","directory":""}"#, "`directory`"),
            (r#"{"shell_cmd":"a","id":"7"}"#, "`id`"),
            (r#"{"shell_cmd":"a","timeout_ms":0}"#, "`timeout_ms`"),
            (r#"{"shell_cmd":"a","timeout_ms":-1}"#, "`timeout_ms`"),
            (r#"{"shell_cmd":"a","stream":{}}"#, "`window`"),
            (r#"{"shell_cmd":"a","stream":{"window":0}}"#, "`stream.window`"),
            (r#"{"shell_cmd":"a","stdin":true}"#, "`stdin`"),
            (r#"{"shell_cmd":"a","type":"peerbus.exec.v9"}"#, "`type`"),
            (r#"{"shell_cmd":"a","tty":{"cols":80}}"#, "rows"),
            (r#"{"shell_cmd":"a","tty":{"cols":0,"rows":9}}"#, "`tty.cols`"),
            (r#"{"shell_cmd":"a","name":"x"}"#, "`name`"),
            (r#"{"shell_cmd":"a","durable":true,"name":"x y"}"#, "`name`"),
            (r#"{"shell_cmd":"a"}{}"#, "more than one"),
        ] {
            assert!(refused(text).contains(named), "{text}: {}", refused(text));
        }
    }
}
