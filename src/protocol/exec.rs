//! A request to start a job, and how a job's end is told.

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

/// What a request looks like, shown to those who send something else.
pub const EXAMPLE: &str = r#"{"directory":"/tmp","shell_cmd":"pwd"}"#;

/// Variables a job finds in its environment: its own id.
pub const JOB_VARIABLE: &str = "PEERBUS_JOB";

/// Variables a job finds in its environment: the peer it runs on.
pub const PEER_VARIABLE: &str = "PEERBUS_PEER";

/// Window a caller grants at first, in bytes of output not yet written at its end.
pub const WINDOW: u64 = 1 << 20;

/// A request to run one command, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// [`TYPE`]; may be left out by people who type it by hand.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The idempotency key. Without one the peer makes one, and promises nothing about repeats.
    #[serde(default)]
    pub id: Option<JobId>,
    /// Absolute, or beginning with `~`; none means the peer's configured default.
    #[serde(default)]
    pub directory: Option<String>,
    /// A line for the peer's shell. Either this or `argv`.
    #[serde(default, alias = "shellCmd", skip_serializing_if = "Option::is_none")]
    pub shell_cmd: Option<String>,
    /// A program and its arguments. Either this or `shell_cmd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// Variables to set.
    #[serde(default)]
    pub env: Variables,
    /// The user to run as; none means the daemon's own.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether the caller is going to send standard input.
    #[serde(default)]
    pub stdin: bool,
    /// A terminal for the command; such a job is durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<Tty>,
    /// How long the command may run, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Whether the job ends with its command, also where a process that the command has started still holds its output.
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_wait: bool,
    /// Whether the job is to outlive its caller and its daemon.
    #[serde(default, skip_serializing_if = "is_false")]
    pub durable: bool,
    /// Until when a request in the queue may be begun, in milliseconds since 1970; no other has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// What people call a durable job by, beside its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Several commands instead of one, each with all that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// How to stream; without it the answer is one JSON object.
    #[serde(default)]
    pub stream: Option<StreamOptions>,
    /// Who asks, by its own word, such as `ann@desk`: for the peer's log. A claim, not a proof;
    /// nothing may depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The job from within which it is asked, which shows what this one prints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub within: Vec<Within>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a count is left out where it is written.
pub fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How output is to be streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// How many bytes of output may be sent before the first credit.
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
    /// Names the field that is missing or wrong; shows an example where this is no JSON.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        Self::checked(payload).map_err(|bad| BadMessage(decode::readable(&bad.0)))
    }

    fn checked(payload: &[u8]) -> Result<Self, BadMessage> {
        let request: Self = decode::json(payload)
            .map_err(|bad| BadMessage(format!("{bad}; a request looks like {EXAMPLE}")))?;
        request.check()?;
        Ok(request)
    }

    /// Checks the shape of a request, however it came here.
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

    /// Whether the job is to outlive its caller and its daemon.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.durable || self.tty.is_some()
    }

    /// The commands there are, each as a request of its own: the steps of a task, or this alone.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        match &self.task {
            Some(task) => task.parts(self).collect(),
            None => vec![self.clone()],
        }
    }

    /// What to run, where that is one command.
    ///
    /// # Errors
    /// When there is not exactly one of `shell_cmd` and `argv`, or it is empty.
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

    /// The operating system ends its texts with a NUL byte, so none can contain one.
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
                // What follows the sign was meant to be a value, which is not to be shown.
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

/// Checks that a directory does not depend on where somebody happens to be.
///
/// A word as a shell has to be given it to have it as it is.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// # Errors
/// A sentence, when it is neither absolute nor begins with `~`.
pub fn check_directory(directory: &str) -> Result<(), String> {
    if directory.starts_with('/') || directory == "~" || directory.starts_with("~/") {
        return Ok(());
    }
    // Shortened before it is quoted, which costs more than to read it.
    let directory = decode::readable(directory);
    Err(format!("{directory:?} is relative; it must begin with '/', or be '~' or begin with '~/'"))
}

/// How a job ended, with what is known of its output. Sent as the `result` frame of a stream, and
/// as the whole answer to a plain request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    /// Always [`RESULT_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The job; none when the request did not get far enough to have one.
    pub id: Option<JobId>,
    /// The peer that answers.
    pub peer: PeerId,
    /// The instance that ran the job.
    pub instance: Instance,
    /// How it ended.
    pub ending: Ending,
    /// How much the command wrote to stdout; unknown when its daemon died.
    pub out: Option<StreamTotal>,
    /// How much the command wrote to stderr; unknown when its daemon died.
    pub err: Option<StreamTotal>,
    /// From the start of the process to its end, in milliseconds; never less, and little more.
    pub duration_ms: u64,
    /// Processes of the job that had to be stopped.
    pub killed: u32,
    /// How many of these did not end when they were asked to, and were killed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forced: u32,
    /// Processes of the job that go on after its normal end; one at least where nobody could look.
    pub left_running: u32,
    /// Those of them that could not be stopped: they hang in the kernel, and KILL has no effect until it lets go of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hung: Vec<HungProcess>,
    /// Whether a process that goes on still holds the output open; what it writes is discarded.
    pub output_open: bool,
    /// Such processes, the first [`HOLDERS_SHOWN`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<OutputHolder>,
    /// Why output is missing that was still to come when the command ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_cut: Option<String>,
    /// What the command used.
    pub rusage: Option<Rusage>,
    /// The output itself, in the answer to a plain request.
    #[serde(flatten)]
    pub collected: Option<Collected>,
}

/// Most processes that are named as holding a command's output.
pub const HOLDERS_SHOWN: usize = 8;

/// A process that holds a command's output open after the command's own end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputHolder {
    /// Its pid on the peer.
    pub pid: u32,
    /// Its command line, shortened.
    pub command: String,
    /// Whether it looks like a server: it ignores HUP, or is in a session of its own. Nobody waits for what it writes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub server: bool,
}

/// A process that outlived KILL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HungProcess {
    /// Its pid on the peer.
    pub pid: u32,
    /// The name the kernel has for its program.
    pub program: String,
}

/// All a command wrote to one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTotal {
    /// How many bytes.
    pub bytes: u64,
    /// Their blake3 digest, in hexadecimal.
    pub blake3: String,
}

/// What a command used of its machine.
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
    /// stdout, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// stdout in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_b64: Option<String>,
    /// stderr, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// stderr in base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_b64: Option<String>,
    /// How many bytes were cut out of the middle of each.
    pub truncated: Truncated,
}

/// Bytes cut out of the middle of an output that was too long for one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// Of stdout.
    pub stdout: u64,
    /// Of stderr.
    pub stderr: u64,
}

impl JobResult {
    /// The result of a job that never ran, or of which nothing more is known than its ending.
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
