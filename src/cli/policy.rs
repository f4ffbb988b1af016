//! `d policy`: what a peer allows, and why.

use clap::{ArgGroup, Args as ClapArgs, Subcommand};

use super::args::{Assignment, Common, assignment, peer_name, variables};
use super::connect::connect;
use super::exit::{CliError, OFFLINE, OTHER, REFUSED, TIMED_OUT};
use super::output;
use peerbus_bus::{Bus, BusError};
use peerbus_client::policy::{PolicyQueryError, ask};
use peerbus_protocol::PeerId;
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::{ExecRequest, StreamOptions, TYPE, WINDOW, check_directory};
use peerbus_protocol::identity::Standing;
use peerbus_protocol::policy::{OnBehalfOf, PolicyAnswer, PolicyDecision, PolicyQuery, PolicyRule};

/// What can be asked of a peer's policy.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Ask whether a command would be allowed, and by which rule. Nothing runs. Exits 0 when it would, else 1
    #[command(
        override_usage = "d policy check [OPTIONS] <PEER> -- <COMMAND>...\n       d policy check [OPTIONS] <PEER> --sh <LINE>",
        after_help = "Examples:\n  d policy check vps -C /opt/app -- git pull\n  d policy check vps --as bob:worker --user deploy -C /opt/app --sh 'make install'"
    )]
    Check(Check),
    /// Show the rules of a peer, as far as they are one's business
    #[command(
        after_help = "Examples:\n  d policy show vps\n  d policy show vps --json | jq -r '.rules[].text'"
    )]
    Show(Show),
}

/// What `d policy check` is given: as `d exec`, and for whom.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).args(["sh", "argv"]))]
pub(super) struct Check {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: String,
    /// For this identity; its standing is operator, unless named [default: whoever asks]
    #[arg(long = "as", value_name = "NAME[:STANDING]", value_parser = whom)]
    whom: Option<OnBehalfOf>,
    /// Directory to run in: absolute, or ~ for the user's home
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<String>,
    /// A line for the peer's shell
    #[arg(long, value_name = "LINE")]
    sh: Option<String>,
    /// Send standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Set a variable; a name alone passes on the value it has here
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    env: Vec<Assignment>,
    /// Run as this user of the peer
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
    /// A program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

/// What `d policy show` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Show {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: String,
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
}

/// An identity and its standing, as in `bob:worker`.
fn whom(text: &str) -> Result<OnBehalfOf, String> {
    let (name, standing) = match text.split_once(':') {
        Some((name, standing)) => (name, standing),
        None => (text, Standing::Operator.as_str()),
    };
    let known = || Standing::ALL.map(Standing::as_str).join(", ");
    let standing =
        standing.parse().map_err(|()| format!("{standing:?} is no standing; there are {}", known()))?;
    Ok(OnBehalfOf { name: name.parse().map_err(|bad| format!("{bad}"))?, standing })
}

/// `d policy`
pub(super) async fn run(common: &Common, verb: Policy) -> Result<u8, CliError> {
    match verb {
        Policy::Check(args) => check(common, args).await,
        Policy::Show(args) => show(common, &args).await,
    }
}

async fn check(common: &Common, args: Check) -> Result<u8, CliError> {
    if let Some(directory) = &args.directory {
        check_directory(directory).map_err(|why| CliError::usage(format!("the directory {why}")))?;
    }
    let request = ExecRequest {
        kind: Some(TYPE.to_owned()),
        id: None,
        directory: args.directory,
        argv: args.sh.is_none().then_some(args.argv),
        shell_cmd: args.sh,
        env: variables(args.env),
        user: args.user,
        stdin: args.stdin,
        tty: None,
        name: None,
        timeout_ms: None,
        no_wait: false,
        durable: false,
        expires_ms: None,
        task: None,
        stream: Some(StreamOptions { window: WINDOW }),
        from: None,
        within: Vec::new(),
    };
    request.check().map_err(|bad| CliError::usage(bad.to_string()))?;
    let answer =
        answer(common, &args.peer, PolicyQuery { whom: args.whom, request: Some(request), ..kind() }).await?;
    let Some(decision) = &answer.decision else {
        return Err(CliError::other(format!("{} has decided nothing", answer.peer_id)));
    };
    if args.json {
        output::json(&answer)?;
    } else {
        output::lines(explained(&answer, decision))?;
    }
    Ok(if matches!(decision, PolicyDecision::Allowed { .. }) { 0 } else { OTHER })
}

async fn show(common: &Common, args: &Show) -> Result<u8, CliError> {
    let answer = answer(common, &args.peer, kind()).await?;
    if args.json {
        output::json(&answer)?;
        return Ok(0);
    }
    let mut lines = match &answer.file {
        Some(file) => vec![format!("# {}: {file}", answer.peer_id)],
        None => vec![format!("# {}: there is no policy file; this holds instead", answer.peer_id)],
    };
    for rule in &answer.rules {
        lines.extend([String::new(), format!("# {}", place(&answer, rule.number))]);
        lines.extend(text_of(rule));
        lines.extend(warnings(rule).into_iter().map(|warning| format!("# {warning}")));
    }
    if answer.left_out > 0 {
        lines.extend([String::new(), format!("# {} more rules do not fit into an answer", answer.left_out)]);
    }
    output::lines(lines)?;
    Ok(0)
}

fn kind() -> PolicyQuery {
    PolicyQuery { kind: Some(peerbus_protocol::policy::TYPE.to_owned()), ..PolicyQuery::default() }
}

fn explained(answer: &PolicyAnswer, decision: &PolicyDecision) -> Vec<String> {
    let PolicyAnswer { peer_id: peer, whom, .. } = answer;
    let mut lines = Vec::new();
    let quote = |number: usize| {
        let rule = answer.rules.iter().find(|rule| rule.number == number);
        rule.map(text_of)
            .unwrap_or_default()
            .into_iter()
            .map(|line| format!("    {line}"))
            .collect::<Vec<_>>()
    };
    match decision {
        PolicyDecision::Allowed { rule } => {
            lines.push(format!("allowed: {peer} lets {whom} do this, by {}", place(answer, *rule)));
            lines.extend(quote(*rule));
            lines.extend(answer.rules.iter().filter(|it| it.number == *rule).flat_map(warnings));
        }
        PolicyDecision::Refused { why: Refusal::Policy, objections, .. } => {
            lines.push(match objections.len() {
                0 => format!("refused: the policy of {peer} has no rule for {whom}"),
                _ => format!("refused: no rule that the policy of {peer} has for {whom} allows this"),
            });
            for it in objections {
                lines.push(format!("{}: `{}`: {}", place(answer, it.rule), it.key, it.message));
                lines.extend(quote(it.rule));
            }
        }
        PolicyDecision::Refused { message, .. } => lines.push(format!("refused: {message}")),
    }
    lines
}

/// Programs that run what their words say, or write where those say.
const INTERPRETERS: [&str; 50] = [
    "ansible",
    "apt",
    "apt-get",
    "awk",
    "bash",
    "cargo",
    "cp",
    "crontab",
    "dash",
    "dd",
    "docker",
    "env",
    "find",
    "gawk",
    "gdb",
    "git",
    "kubectl",
    "less",
    "lua",
    "make",
    "man",
    "mv",
    "nano",
    "nice",
    "node",
    "nohup",
    "npm",
    "nsenter",
    "perl",
    "php",
    "pip",
    "podman",
    "python",
    "python3",
    "rsync",
    "ruby",
    "scp",
    "sed",
    "sh",
    "ssh",
    "su",
    "sudo",
    "systemd-run",
    "tar",
    "tee",
    "timeout",
    "vi",
    "vim",
    "xargs",
    "zsh",
];

/// What to say of a rule that leaves words open to one of those. Its text is looked at line by line, as it is written:
/// more is not promised.
fn warnings(rule: &PolicyRule) -> Vec<String> {
    let open = |line: &&str| ["*\"", "...\"", "*'", "...'"].iter().any(|end| line.contains(end));
    let program = |line: &str| {
        let first = line.split(['"', '\'']).nth(1)?;
        INTERPRETERS.into_iter().find(|name| first.rsplit('/').next() == Some(name))
    };
    let lines = rule.text.lines().filter(open).flat_map(|line| line.split('[')).filter(open);
    let mut found: Vec<&str> = lines.filter_map(program).collect();
    found.dedup();
    let warning = |name| {
        format!(
            "warning: {name} runs or writes what its words say; with words left open this may allow everything"
        )
    };
    found.into_iter().map(warning).collect()
}

/// Where a rule stands.
fn place(answer: &PolicyAnswer, number: usize) -> String {
    let line = answer.rules.iter().find(|rule| rule.number == number).and_then(|rule| rule.line);
    match (&answer.file, line) {
        (Some(file), Some(line)) => format!("rule {number} ({file} line {line})"),
        (Some(file), None) => format!("rule {number} ({file})"),
        (None, _) => "what holds without a policy file".to_owned(),
    }
}

fn text_of(rule: &PolicyRule) -> Vec<String> {
    rule.text.lines().map(str::to_owned).collect()
}

async fn answer(common: &Common, name: &str, question: PolicyQuery) -> Result<PolicyAnswer, CliError> {
    let bus = connect(common).await?;
    let peer = super::exec::target(&bus, name).await?;
    match one_answer(&bus, &peer, &question).await? {
        Some(answer) => Ok(answer),
        None => {
            // Nobody has it as an id: it may be a hostname or an address.
            let peer = super::exec::elsewhere(&bus, name, &peer).await?;
            let gone = || CliError::new(OFFLINE, format!("offline: Peer is offline: {peer}"));
            one_answer(&bus, &peer, &question).await?.ok_or_else(gone)
        }
    }
}

async fn one_answer(
    bus: &Bus,
    peer: &PeerId,
    question: &PolicyQuery,
) -> Result<Option<PolicyAnswer>, CliError> {
    match ask(bus, peer, question).await {
        Ok(answer) => Ok(Some(answer)),
        Err(PolicyQueryError::Bus(BusError::NoResponders(_))) => Ok(None),
        Err(error @ PolicyQueryError::Bus(BusError::Timeout { .. })) => {
            Err(CliError::new(TIMED_OUT, format!("timed out: {peer}: {error}")))
        }
        Err(PolicyQueryError::Bus(error @ BusError::Forbidden(_))) => Err(CliError::new(
            REFUSED,
            format!("refused: only operators may ask {peer} for its policy: {error}"),
        )),
        Err(PolicyQueryError::Declined(why)) => {
            Err(CliError::new(REFUSED, format!("refused: {peer}: {}", why)))
        }
        Err(error) => Err(CliError::new(OFFLINE, format!("no answer: {peer}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_left_open_to_what_runs_them_are_warned_of() {
        for (text, said) in [
            ("argv = [[\"make\", \"*\"]]", 1),
            ("argv = [\"/usr/bin/git\", \"log\", \"...\"]", 1),
            ("argv = [\n  [\"git\", \"pull\"],\n  [\"find\", \"**\"],\n]", 1),
            ("argv = [[\"make\", \"build\"], [\"cat\", \"/srv/*\"]]", 0),
            ("argv = \"any\"", 0),
        ] {
            let rule = PolicyRule { number: 1, line: None, text: text.to_owned() };
            assert_eq!(warnings(&rule).len(), said, "{text}");
        }
    }
}
