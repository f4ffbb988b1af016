//! Tests of the policy without a daemon: parsing, errors and decisions.

use std::path::Path;

use super::file::parse;
use super::rule::AccessRequest;
use super::*;
use peerbus_protocol::exec::Command;
use peerbus_protocol::variables::Variables;

fn tasks() -> Tasks {
    let step = |line: &str| Step {
        directory: "~/app".to_owned(),
        line: line.to_owned(),
        env: [("CC".to_owned(), "clang".to_owned())].into(),
        user: Some("builder".to_owned()),
    };
    [
        ("build".to_owned(), Ok(vec![step("make"), step("make install")])),
        ("broken".to_owned(), Err("the task \"broken\" has no steps".to_owned())),
    ]
    .into()
}

#[track_caller]
fn policy(text: &str) -> Policy {
    Policy { rules: parse(text, &tasks()).unwrap_or_else(|why| panic!("{text}: {why}")) }
}

fn known(name: &str, standing: Standing) -> Principal {
    Principal::Known { name: name.parse().expect("a name"), standing }
}

/// A request of alice, an operator, for tests to modify.
struct Asked {
    principal: Principal,
    command: Command,
    directory: &'static str,
    real: Option<&'static str>,
    env: Variables,
    user: &'static str,
    stdin: bool,
}

fn argv(words: &[&str]) -> Asked {
    sh_or(Command::Argv(words.iter().map(|&word| word.to_owned()).collect()))
}

fn sh(line: &str) -> Asked {
    sh_or(Command::Shell(line.to_owned()))
}

fn sh_or(command: Command) -> Asked {
    Asked {
        principal: known("alice", Standing::Operator),
        command,
        directory: "/srv/app",
        real: Some("/srv/app"),
        env: Variables::default(),
        user: "root",
        stdin: false,
    }
}

fn variables(all: &[(&str, &str)]) -> Variables {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Asked {
    fn of(self, policy: &Policy) -> Verdict {
        policy.decide(&AccessRequest {
            principal: &self.principal,
            command: &self.command,
            directory: self.directory,
            real: self.real.map(Path::new),
            env: &self.env,
            user: self.user,
            input: self.stdin,
            own_user: "root",
        })
    }

    /// The key that does not match, or `None` if the request is allowed.
    #[track_caller]
    fn against(self, policy: &Policy) -> Option<&'static str> {
        match self.of(policy) {
            Verdict::Allowed(1) => None,
            Verdict::Refused(against) if against.len() == 1 => Some(against[0].key),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn without_a_file_operators_may_all_and_other_identities_nothing() {
    let built_in = Policy::built_in();
    let all = || Asked {
        env: variables(&[("LD_PRELOAD", "x")]),
        user: "anybody",
        stdin: true,
        real: None,
        ..sh("anything")
    };
    assert_eq!(all().of(&built_in), Verdict::Allowed(1));
    assert_eq!(Asked { principal: Principal::Anyone, ..all() }.of(&built_in), Verdict::Allowed(1));
    for standing in Standing::ALL.into_iter().filter(|it| *it != Standing::Operator) {
        let asked = Asked { principal: known("bob", standing), ..argv(&["true"]) };
        assert_eq!(asked.of(&built_in), Verdict::Refused(vec![]), "{standing}");
    }
    // The displayed text of the built-in rule parses to that rule.
    let (rule, text) = &built_in.rules[0];
    assert_eq!(&policy(&text.text).rules[0].0, rule);
}

#[test]
fn an_empty_policy_allows_nothing() {
    assert_eq!(argv(&["true"]).of(&policy("")), Verdict::Refused(vec![]));
    assert_eq!(
        Asked { principal: Principal::Anyone, ..sh("x") }.of(&policy("# nothing\n")),
        Verdict::Refused(vec![])
    );
}

#[test]
fn a_rule_of_words_opens_nothing_else() {
    let policy = policy("[[allow]]\nwho = ['alice']\nargv = ['git', 'pull']\ndirectory = ['/srv/app']\n");
    let pull = || argv(&["git", "pull"]);
    assert_eq!(pull().against(&policy), None);
    assert_eq!(argv(&["git", "push"]).against(&policy), Some("argv"));
    assert_eq!(sh("git pull").against(&policy), Some("sh"));
    for (name, value) in [("PATH", "/tmp/evil"), ("LD_PRELOAD", "x"), ("LANG", "C")] {
        assert_eq!(
            Asked { env: variables(&[(name, value)]), ..pull() }.against(&policy),
            Some("env"),
            "{name}"
        );
    }
    assert_eq!(Asked { stdin: true, ..pull() }.against(&policy), Some("stdin"));
    assert_eq!(Asked { user: "nobody", ..pull() }.against(&policy), Some("user"));
    for (real, fits) in [
        (Some("/srv/app"), true),
        (Some("/srv/app/src"), true),
        (Some("/srv/application"), false),
        (Some("/srv"), false),
        (Some("/"), false),
        (None, false),
    ] {
        let wanted = if fits { None } else { Some("directory") };
        assert_eq!(Asked { real, ..pull() }.against(&policy), wanted, "{real:?}");
    }
    let bob = Asked { principal: known("bob", Standing::Operator), ..pull() };
    assert_eq!(bob.of(&policy), Verdict::Refused(vec![]));
}

#[test]
fn what_a_rule_leaves_open_is_open() {
    let open = policy("[[allow]]\nwho = ['@operator']\nargv = 'any'\nuser = 'any'\n");
    let all = || Asked {
        env: variables(&[("PATH", "/x")]),
        user: "ann",
        stdin: true,
        real: None,
        ..argv(&["sh", "-c", "x"])
    };
    assert_eq!(all().against(&open), None);
    assert_eq!(Asked { command: Command::Shell("x".to_owned()), ..all() }.against(&open), Some("sh"));
    let closed = policy(
        "[[allow]]\nwho = ['@operator']\nargv = 'any'\nuser = ['ann']\nenv = ['LANG', 'APP_*']\nstdin = false\n",
    );
    assert_eq!(all().against(&closed), Some("env"));
    let named = || Asked { env: variables(&[("LANG", "C"), ("APP_X", "")]), ..all() };
    assert_eq!(named().against(&closed), Some("stdin"));
    assert_eq!(Asked { stdin: false, ..named() }.against(&closed), None);
    assert_eq!(Asked { stdin: false, user: "root", ..named() }.against(&closed), Some("user"));
    let own = policy("[[allow]]\nwho = ['@operator']\nsh = 'any'\nuser = ['@self', 'ann']");
    assert_eq!(sh("x").against(&own), None);
    assert_eq!(Asked { user: "ann", ..sh("x") }.against(&own), None);
    assert_eq!(Asked { user: "bob", ..sh("x") }.against(&own), Some("user"));
}

#[test]
fn a_shell_line_is_allowed_letter_by_letter() {
    let policy = policy("[[allow]]\nwho = ['alice']\nsh = ['make deploy', 'make *']\n");
    assert_eq!(sh("make deploy").against(&policy), None);
    assert_eq!(sh("make *").against(&policy), None, "a star in a line is a star");
    for line in
        ["make deploy ", " make deploy", "make deploy; id", "make deploy\n", "make x", "make deploy #", ""]
    {
        assert_eq!(sh(line).against(&policy), Some("sh"), "{line:?}");
    }
    assert_eq!(argv(&["make", "deploy"]).against(&policy), Some("argv"));
}

#[test]
fn a_task_is_its_steps_and_nothing_else() {
    let policy = policy("[[allow]]\nwho = ['@worker']\ntask = ['build']\n");
    let step = || Asked {
        principal: known("w1", Standing::Worker),
        directory: "~/app",
        real: None,
        env: variables(&[("CC", "clang")]),
        user: "builder",
        ..sh("make")
    };
    assert_eq!(step().against(&policy), None);
    assert_eq!(Asked { command: Command::Shell("make install".to_owned()), ..step() }.against(&policy), None);
    for other in [
        Asked { command: Command::Shell("make x".to_owned()), ..step() },
        Asked { command: Command::Argv(vec!["make".to_owned()]), ..step() },
        Asked { directory: "/home/builder/app", ..step() },
        Asked { directory: "~/app/", ..step() },
        Asked { env: Variables::default(), ..step() },
        Asked { env: variables(&[("CC", "gcc")]), ..step() },
        Asked { env: variables(&[("CC", "clang"), ("PATH", "/x")]), ..step() },
        Asked { user: "root", ..step() },
        Asked { stdin: true, ..step() },
    ] {
        assert_eq!(other.against(&policy), Some("task"));
    }
}

#[test]
fn the_first_rule_that_allows_is_named_and_those_before_it_stand_in_nobodys_way() {
    let policy = policy(
        "[[allow]]\nwho = ['bob']\nargv = 'any'\n[[allow]]\nwho = ['alice']\nargv = ['a']\n\
         [[allow]]\nwho = ['alice', 'bob']\nargv = [['b', '...'], ['c']]\n",
    );
    assert_eq!(argv(&["c"]).of(&policy), Verdict::Allowed(3));
    assert_eq!(argv(&["b", "x"]).of(&policy), Verdict::Allowed(3));
    let Verdict::Refused(against) = argv(&["d"]).of(&policy) else { panic!("allowed") };
    assert_eq!(against.iter().map(|it| (it.rule, it.key)).collect::<Vec<_>>(), [(2, "argv"), (3, "argv")]);
}

#[test]
fn a_rule_is_shown_as_it_stands_there() {
    let text = "# who may what\n\n[[allow]] # one\nwho = ['alice']\nargv = ['a',\n  'b']\n\n# the next\n\n[[allow]]\nwho = ['bob']\nsh = 'any'\n# end\n";
    let policy = policy(text);
    let shown: Vec<_> = policy.rules.iter().map(|(_, text)| (text.line, text.text.as_str())).collect();
    assert_eq!(
        shown,
        [
            (Some(3), "[[allow]] # one\nwho = ['alice']\nargv = ['a',\n  'b']"),
            (Some(10), "[[allow]]\nwho = ['bob']\nsh = 'any'")
        ]
    );
}

#[test]
fn a_mistake_names_its_line_and_key() {
    let rule = |keys: &str| format!("\n[[allow]]\nwho = ['alice']\n{keys}\n");
    for (text, line, said) in [
        (rule("argv = ['a']\nnope = 1"), "line 5: ", "nope"),
        (rule("argv = ['a'"), "line ", ""),
        (rule("argv = []"), "line 4: ", "`allow[1].argv`: the first word"),
        (rule("argv = ['*']"), "line 4: ", "`allow[1].argv`: the first word"),
        (rule("argv = 'git pull'"), "line 4: ", "`allow[1].argv`: a list of words"),
        (rule("argv = ['a', 1]"), "line 4: ", "`allow[1].argv`"),
        (rule("argv = [['a'], 'b']"), "line 4: ", "`allow[1].argv`"),
        (rule("sh = 'make'"), "line 4: ", "`allow[1].sh`: a list of texts is wanted, or \"any\""),
        (rule("argv = ['a']\ndirectory = ['srv']"), "line 5: ", "`allow[1].directory`: \"srv\""),
        (rule("argv = ['a']\ndirectory = ['/srv/../etc']"), "line 5: ", "`allow[1].directory`"),
        (rule("argv = ['a']\ndirectory = ['/srv/./x']"), "line 5: ", "`allow[1].directory`"),
        (rule("argv = ['a']\ndirectory = ['~']"), "line 5: ", "`allow[1].directory`"),
        (rule("argv = ['a']\ndirectory = []"), "line 5: ", "`allow[1].directory`: a list"),
        (rule("argv = ['a']\ndirectory = '/srv'"), "line 5: ", "`allow[1].directory`: a list"),
        (rule("argv = ['a']\nuser = ['@root']"), "line 5: ", "`allow[1].user`: \"@root\""),
        (rule("argv = ['a']\nenv = ['*']"), "line 5: ", "`allow[1].env`"),
        (rule("argv = ['a']\nstdin = 'yes'"), "line 5: ", "`allow[1].stdin`"),
        (rule(""), "line 2: ", "one of `argv`, `sh`, `task` and `attach` is missing"),
        (rule("task = ['build']\ndirectory = ['/srv']"), "line 2: ", "`directory`"),
        (rule("task = ['gone']"), "line 2: ", "`task`: this peer's configuration has no task \"gone\""),
        (rule("task = ['broken']"), "line 2: ", "`task`: the task \"broken\" has no steps"),
        (rule("who = ['bob']"), "line 4: ", "who"),
        ("[[allow]]\nwho = []\nsh = 'any'".to_owned(), "line 2: ", "`allow[1].who`"),
        ("[[allow]]\nwho = 'alice'\nsh = 'any'".to_owned(), "line 2: ", "`allow[1].who`"),
        (
            "[[allow]]\nwho = ['@boss']\nsh = 'any'".to_owned(),
            "line 2: ",
            "`allow[1].who`: \"@boss\" is no standing",
        ),
        ("[[allow]]\nwho = ['Bob']\nsh = 'any'".to_owned(), "line 2: ", "`allow[1].who`: \"Bob\""),
        ("\n[[allow]]\nsh = 'any'".to_owned(), "line 2: ", "missing field `who`"),
        (
            "[[allow]]\nwho = ['a']\nsh = 'any'\n[[allow]]\nwho = ['b']\nsh = 1\n".to_owned(),
            "line 6: ",
            "`allow[2].sh`",
        ),
        ("\n[[deny]]\nwho = ['a']".to_owned(), "line 2: ", "deny"),
        ("allow = 1".to_owned(), "line 1: ", "`allow`"),
    ] {
        let why = parse(&text, &tasks()).expect_err(&text);
        assert!(why.starts_with(line) && why.contains(said), "{text}\n{why}");
    }
}
