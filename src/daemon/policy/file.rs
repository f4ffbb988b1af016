//! The policy file and its keys. Errors name the line and the key.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use toml::Spanned;

use super::patterns::{ArgvPattern, VariableName};
use super::principals::Principals;
use super::rule::{Access, Choice, CommandRule, Rule, RuleKind, User};
use super::{Policy, Tasks, Text};
use peerbus_process::ownership;

/// The value that means everything.
const ANY: &str = "any";

/// Maximum file size in bytes. No hand-written policy is larger.
const LONGEST: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    allow: Vec<Spanned<WrittenRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    #[serde(deserialize_with = "list")]
    who: Vec<Principals>,
    #[serde(default, deserialize_with = "given")]
    task: Option<Vec<String>>,
    #[serde(default, deserialize_with = "patterns")]
    argv: Option<Choice<ArgvPattern>>,
    #[serde(default, deserialize_with = "any_or_list")]
    sh: Option<Choice<String>>,
    #[serde(default, deserialize_with = "given")]
    directory: Option<Vec<Prefix>>,
    #[serde(default, deserialize_with = "any_or_list")]
    user: Option<Choice<User>>,
    #[serde(default, deserialize_with = "any_or_list")]
    env: Option<Choice<VariableName>>,
    stdin: Option<bool>,
    attach: Option<Access>,
}

/// A directory with everything below it: absolute, and without `.` or `..`.
struct Prefix(PathBuf);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = Path::new(text);
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        // `components()` reports `.` only at the start, so this also checks the parts between slashes.
        if !path.is_absolute() || !path.components().all(plain) || text.split('/').any(|part| part == ".") {
            return Err(format!("{text:?} is not an absolute path without `.` and `..`"));
        }
        Ok(Self(path.components().collect()))
    }
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "@self" => Ok(Self::Own),
            "" => Err("a user has a name".to_owned()),
            other if other.starts_with('@') => {
                Err(format!("{other:?} is no user; `@self` is the one the daemon runs as"))
            }
            name => Ok(Self::Named(name.to_owned())),
        }
    }
}

fn list<'de, D: Deserializer<'de>, T: FromStr<Err: ToString>>(from: D) -> Result<Vec<T>, D::Error> {
    let wanted = "a list of texts is wanted, with one at least";
    let toml::Value::Array(items) = toml::Value::deserialize(from)? else {
        return Err(D::Error::custom(wanted));
    };
    if items.is_empty() {
        return Err(D::Error::custom(wanted));
    }
    texts(&items, wanted).and_then(|texts| read_all(&texts)).map_err(D::Error::custom)
}

fn given<'de, D: Deserializer<'de>, T: FromStr<Err: ToString>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    list(from).map(Some)
}

fn any_or_list<'de, D, T>(from: D) -> Result<Option<Choice<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: ToString>,
{
    let wanted = "a list of texts is wanted, or \"any\"";
    let found = match toml::Value::deserialize(from)? {
        toml::Value::String(word) if word == ANY => Ok(Choice::Any),
        toml::Value::Array(items) => {
            texts(&items, wanted).and_then(|texts| read_all(&texts)).map(Choice::These)
        }
        _ => Err(wanted.to_owned()),
    };
    found.map(Some).map_err(D::Error::custom)
}

/// One pattern, several patterns, or any.
fn patterns<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Choice<ArgvPattern>>, D::Error> {
    let wanted = "a list of words is wanted, a list of such lists, or \"any\"";
    let found = match toml::Value::deserialize(from)? {
        toml::Value::String(word) if word == ANY => Ok(Choice::Any),
        toml::Value::Array(items) if items.iter().any(toml::Value::is_array) => items
            .iter()
            .map(|item| ArgvPattern::read(&texts(item.as_array().ok_or(wanted)?, wanted)?))
            .collect::<Result<Vec<_>, String>>()
            .map(Choice::These),
        toml::Value::Array(items) => texts(&items, wanted)
            .and_then(|texts| ArgvPattern::read(&texts))
            .map(|words| Choice::These(vec![words])),
        _ => Err(wanted.to_owned()),
    };
    found.map(Some).map_err(D::Error::custom)
}

fn texts(items: &[toml::Value], wanted: &str) -> Result<Vec<String>, String> {
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wanted.to_owned())).collect()
}

fn read_all<T: FromStr<Err: ToString>>(texts: &[String]) -> Result<Vec<T>, String> {
    texts.iter().map(|text| text.parse().map_err(|bad: T::Err| bad.to_string())).collect()
}

impl WrittenRule {
    fn read(self, tasks: &Tasks) -> Result<Rule, String> {
        let Self { who, task, argv, sh, directory, user, env, stdin, attach } = self;
        let also = [
            ("argv", argv.is_some()),
            ("sh", sh.is_some()),
            ("directory", directory.is_some()),
            ("user", user.is_some()),
            ("env", env.is_some()),
            ("stdin", stdin.is_some()),
        ];
        let also = also.into_iter().find(|(_, given)| *given).map(|(key, _)| key);
        if let Some(access) = attach {
            return match also.or(task.as_ref().map(|_| "task")) {
                Some(key) => {
                    Err(format!("`{key}`: beside `attach`, which is about jobs that run, it cannot stand"))
                }
                None => Ok(Rule { who, what: RuleKind::Attach(access) }),
            };
        }
        let Some(names) = task else {
            if argv.is_none() && sh.is_none() {
                return Err(
                    "it says not what: one of `argv`, `sh`, `task` and `attach` is missing".to_owned()
                );
            }
            let commands = CommandRule {
                argv: argv.unwrap_or(Choice::These(Vec::new())),
                sh: sh.unwrap_or(Choice::These(Vec::new())),
                directory: directory.map_or(Choice::Any, |all| {
                    Choice::These(all.into_iter().map(|prefix| prefix.0).collect())
                }),
                user: user.unwrap_or_else(|| Choice::These(vec![User::Own])),
                env,
                stdin,
            };
            return Ok(Rule { who, what: RuleKind::Commands(commands) });
        };
        if let Some(key) = also {
            return Err(format!("`{key}`: beside `task`, which says all that itself, it cannot stand"));
        }
        let steps = names.iter().map(|name| match tasks.get(name) {
            Some(steps) => steps.clone().map_err(|why| format!("`task`: {why}")),
            None => Err(format!("`task`: this peer's configuration has no task {name:?}")),
        });
        let steps = steps.collect::<Result<Vec<_>, _>>()?.concat();
        Ok(Rule { who, what: RuleKind::Tasks { names, steps } })
    }
}

/// Parses the text of a policy. An error is one sentence that starts with its line.
pub(super) fn parse(text: &str, tasks: &Tasks) -> Result<Vec<(Rule, Text)>, String> {
    let source =
        toml::Deserializer::parse(text).map_err(|error| mistake(text, &quoted(text, &error), &error))?;
    let written: Written = serde_path_to_error::deserialize(source)
        .map_err(|error| mistake(text, &shown(error.path()), error.inner()))?;
    let spans: Vec<Range<usize>> = written.allow.iter().map(Spanned::span).collect();
    let texts = excerpts(text, &spans);
    let rules = written.allow.into_iter().zip(texts).enumerate();
    rules
        .map(|(at, (rule, text))| match rule.into_inner().read(tasks) {
            Ok(rule) => Ok((rule, text)),
            Err(why) => Err(format!("line {}: rule {}: {why}", text.line.unwrap_or(1), at + 1)),
        })
        .collect()
}

fn mistake(text: &str, key: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| line_of(text, span.start));
    let key = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
    format!("line {line}: {key}{}", error.message().trim())
}

/// The word at a TOML syntax error, if there is one.
fn quoted(text: &str, error: &toml::de::Error) -> String {
    const WORD: usize = 40;
    let found = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    if found.len() <= WORD && !found.contains('\n') { found.to_owned() } else { String::new() }
}

/// The path of a key for people: `allow[2]` is the second rule.
fn shown(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut shown = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => shown.push_str(&format!("[{}]", index + 1)),
            // Skip the keys that the parser itself inserts to track lines.
            Segment::Map { key } if !key.starts_with('$') => {
                let dot = if shown.is_empty() { "" } else { "." };
                shown.push_str(&format!("{dot}{key}"));
            }
            _ => {}
        }
    }
    shown
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count() + 1
}

/// The source text of each rule, without the comments before the next one.
fn excerpts(text: &str, spans: &[Range<usize>]) -> Vec<Text> {
    let ends = spans.iter().skip(1).map(|span| span.start).chain([text.len()]);
    let (mut line, mut counted) = (1, 0);
    let excerpt = |(span, end): (&Range<usize>, usize)| {
        line += line_of(text.get(counted..).unwrap_or_default(), span.start - counted) - 1;
        counted = span.start;
        let lines: Vec<&str> = text.get(span.start..end).unwrap_or_default().lines().collect();
        let is_said = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let last = lines.iter().rposition(is_said).map_or(0, |at| at + 1);
        Text { line: Some(line), text: lines[..last].join("\n") }
    };
    spans.iter().zip(ends).map(excerpt).collect()
}

/// The content of a file, and the metadata of the same open file.
fn read(path: &Path) -> io::Result<(fs::Metadata, Vec<u8>)> {
    // Check before opening: opening a pipe would block until its other end opens.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = File::open(path)?;
    let about = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    Ok((about, bytes))
}

/// The blake3 digest of the policy file as a daemon would read it now, in hexadecimal. `None` if it cannot be read.
#[must_use]
pub fn digest(path: &Path) -> Option<String> {
    let (_, bytes) = read(path).ok()?;
    Some(blake3::hash(&bytes).to_hex().to_string())
}

/// A policy file: the digest of its content, and its text, unless others may have written it.
pub(super) struct Opened {
    pub(super) digest: String,
    pub(super) text: Result<String, String>,
}

/// Opens a file and checks who may write it, because they decide who runs what. `None` if there is no file.
pub(super) fn open(path: &Path) -> Result<Option<Opened>, String> {
    let (about, bytes) = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| error.to_string())?,
    };
    let digest = blake3::hash(&bytes).to_hex().to_string();
    Ok(Some(Opened { digest, text: ownership::check_file(path, &about).and_then(|()| text(bytes)) }))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    String::from_utf8(bytes).map_err(|bad| {
        let before = &bad.as_bytes()[..bad.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("line {line}: it is not UTF-8")
    })
}

impl Policy {
    /// Rule directories that are symbolic links. No resolved directory is ever below one, so the rule never
    /// applies.
    pub(super) fn directories_that_are_links(&self) -> Vec<(usize, PathBuf, PathBuf)> {
        let mut found = Vec::new();
        for (number, (rule, _)) in (1..).zip(&self.rules) {
            let RuleKind::Commands(CommandRule { directory: Choice::These(these), .. }) = &rule.what else {
                continue;
            };
            for directory in these {
                match directory.canonicalize() {
                    Ok(real) if real != *directory => found.push((number, directory.clone(), real)),
                    _ => {}
                }
            }
        }
        found
    }
}
