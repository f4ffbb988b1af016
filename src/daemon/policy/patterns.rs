//! Patterns for argv and for variable names.
//!
//! A pattern matches a whole argv: `["git", "pull"]` matches exactly these two arguments. In an argument `*`
//! matches any characters except `/`. It matches neither a leading dash, nor an empty path component, nor the names
//! `.` and `..`. So `/srv/cache/*` matches a name in that directory, and `*` alone matches any argument that is not
//! an option. The whole argument `**` matches any one argument, and `...` at the end matches any number of further
//! arguments. `\` escapes the next character.
//!
//! The first argument, the program, has no wildcards. Comparison is by code point: two Unicode spellings of one
//! letter differ.

use std::str::FromStr;

/// A set of argvs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArgvPattern {
    words: Vec<ArgPattern>,
    /// Whether further arguments may follow.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ArgPattern {
    Any,
    /// Path components.
    Parts(Vec<Part>),
}

/// Literal pieces with any characters between them. A single piece is an exact text.
type Part = Vec<String>;

impl ArgvPattern {
    /// Parses a pattern.
    pub(super) fn read(texts: &[String]) -> Result<Self, String> {
        let (open, texts) = match texts {
            [before @ .., last] if last == "..." => (true, before),
            all => (false, all),
        };
        if texts.iter().any(|text| text == "...") {
            return Err("\"...\" stands for further words, at the end; `\\...` is the word itself".to_owned());
        }
        let words = texts.iter().map(|text| ArgPattern::read(text)).collect::<Result<Vec<_>, _>>()?;
        match words.first() {
            Some(ArgPattern::Parts(parts))
                if parts.iter().all(|part| part.len() == 1) && !texts[0].is_empty() =>
            {
                Ok(Self { words, open })
            }
            _ => Err("the first word names the program, without `*`; `argv = \"any\"` allows every command"
                .to_owned()),
        }
    }

    /// Whether the pattern matches this argv.
    pub(super) fn mean(&self, argv: &[String]) -> bool {
        let enough = if self.open { argv.len() >= self.words.len() } else { argv.len() == self.words.len() };
        enough && self.words.iter().zip(argv).all(|(wanted, word)| wanted.means(word))
    }
}

impl ArgPattern {
    fn read(text: &str) -> Result<Self, String> {
        if text == "**" {
            return Ok(Self::Any);
        }
        let mut parts: Vec<Part> = vec![vec![String::new()]];
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let part = match (letter, parts.last_mut()) {
                ('/', _) | (_, None) => {
                    parts.push(vec![String::new()]);
                    continue;
                }
                (_, Some(part)) => part,
            };
            let plain = match letter {
                '*' => {
                    part.push(String::new());
                    continue;
                }
                '\\' => {
                    letters.next().ok_or_else(|| format!("{text:?} ends with a `\\` that means nothing"))?
                }
                other => other,
            };
            if let Some(piece) = part.last_mut() {
                piece.push(plain);
            }
        }
        Ok(Self::Parts(parts))
    }

    fn means(&self, word: &str) -> bool {
        let Self::Parts(parts) = self else { return true };
        let begins_open = parts.first().is_some_and(|part| part.len() > 1 && part[0].is_empty());
        if begins_open && word.starts_with('-') {
            return false;
        }
        word.split('/').count() == parts.len()
            && word.split('/').zip(parts).all(|(found, part)| is_part(part, found))
    }
}

/// Whether the pieces occur in this order, the first at the start and the last at the end. Taking the earliest
/// match of each piece leaves the most text for the others.
fn is_part(pieces: &[String], found: &str) -> bool {
    let (first, last, between) = match pieces {
        [] => return found.is_empty(),
        [exact] => return found == exact,
        [first, between @ .., last] => (first, last, between),
    };
    if matches!(found, "" | "." | "..") {
        return false;
    }
    let inner = found.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str()));
    let Some(mut rest) = inner else { return false };
    for piece in between {
        match rest.find(piece.as_str()) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    true
}

/// A set of variable names: one name, or all with a prefix if it ends with `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VariableName {
    begin: String,
    open: bool,
}

impl VariableName {
    pub(super) fn means(&self, name: &str) -> bool {
        if self.open { name.starts_with(&self.begin) } else { name == self.begin }
    }
}

impl FromStr for VariableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (begin, open) = match text.strip_suffix('*') {
            Some(begin) => (begin, true),
            None => (text, false),
        };
        if begin.is_empty() || begin.contains(['*', '=', '\0']) {
            return Err(format!(
                "{text:?} is no name of a variable, nor the begin of one with a `*` after it; `env = \"any\"` allows all"
            ));
        }
        Ok(Self { begin: begin.to_owned(), open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn means(pattern: &[&str], argv: &[&str]) -> bool {
        ArgvPattern::read(&texts(pattern))
            .unwrap_or_else(|why| panic!("{pattern:?}: {why}"))
            .mean(&texts(argv))
    }

    #[test]
    fn words_are_counted_and_compared() {
        for (pattern, yes, no) in [
            (
                &["git", "pull"][..],
                &[&["git", "pull"][..]][..],
                &[
                    &["git"][..],
                    &["git", "pull", "-f"],
                    &["git", "pull", ""],
                    &["git", ""],
                    &["git", "push"],
                    &["Git", "pull"],
                    &["git ", "pull"],
                    &["/tmp/evil/git", "pull"],
                    &["./git", "pull"],
                    &["/usr/bin/git", "pull"],
                    &["git", "pull\n"],
                    &["git", " pull"],
                ][..],
            ),
            (&["git", "..."], &[&["git"], &["git", "-c", "core.pager=sh", "log"]], &[&["gitk"], &["git/x"]]),
            (
                &["systemctl", "restart", "*"],
                &[&["systemctl", "restart", "app.service"], &["systemctl", "restart", "ü"]],
                &[
                    &["systemctl", "restart"],
                    &["systemctl", "restart", ""],
                    &["systemctl", "restart", "a", "b"],
                    &["systemctl", "restart", "--host=evil"],
                    &["systemctl", "restart", "-"],
                    &["systemctl", "restart", "/etc/passwd"],
                    &["systemctl", "restart", ".."],
                    &["systemctl", "restart", "."],
                ],
            ),
            (&["x", "**"], &[&["x", ""], &["x", "-f"], &["x", "/a/../b"]], &[&["x"], &["x", "a", "b"]]),
            (&["x", "", "-*"], &[&["x", "", "-f"], &["x", "", "--f"]], &[&["x", "", "f"], &["x", "a", "-f"]]),
            (&["x", r"\*", r"\\"], &[&["x", "*", "\\"]], &[&["x", "a", "\\"]]),
            (&["x", r"\..."], &[&["x", "..."]], &[&["x"], &["x", "a"]]),
            (
                &["/usr/bin/git", "a*"],
                &[&["/usr/bin/git", "a"]],
                &[&["git", "a"], &["/usr/bin/../bin/git", "a"]],
            ),
        ] {
            for argv in yes {
                assert!(means(pattern, argv), "{pattern:?} {argv:?}");
            }
            for argv in no {
                assert!(!means(pattern, argv), "{pattern:?} {argv:?}");
            }
        }
    }

    #[test]
    fn a_star_stays_between_slashes_and_leads_nowhere() {
        for (pattern, yes, no) in [
            (
                "/srv/cache/*",
                &["/srv/cache/a", "/srv/cache/...", "/srv/cache/.x"][..],
                &[
                    "/srv/cache/",
                    "/srv/cache/..",
                    "/srv/cache/.",
                    "/srv/cache/a/b",
                    "/srv/cache",
                    "/srv/cache/../x",
                ][..],
            ),
            ("/srv/*/x", &["/srv/a/x"], &["/srv/../x", "/srv//x", "/srv/a/b/x", "/srv/x"]),
            ("a*b*a", &["aba", "abba", "a--b--a"], &["aa", "a", "ab", "ba", "a/b/a"]),
            ("*.service", &["a.service", ".service"], &["-a.service", "a.service ", "a/b.service"]),
            ("--user=*", &["--user=", "--user=a"], &["--user", "--user=a/b"]),
            (".*", &[".x", "..."], &[".", ".."]),
            // A precomposed accented letter, and a letter with a combining accent.
            ("caf\u{e9}", &["caf\u{e9}"], &["cafe\u{301}", "cafe"]),
        ] {
            for word in yes {
                assert!(means(&["x", pattern], &["x", word]), "{pattern:?} {word:?}");
            }
            for word in no {
                assert!(!means(&["x", pattern], &["x", word]), "{pattern:?} {word:?}");
            }
        }
    }

    #[test]
    fn long_words_take_no_long_time() {
        let pattern = "*a".repeat(200);
        let word = "a".repeat(1_000_000);
        assert!(means(&["x", &format!("{pattern}*")], &["x", &word]));
        assert!(!means(&["x", &format!("{pattern}*b")], &["x", &word]));
    }

    #[test]
    fn a_pattern_that_means_too_much_is_a_mistake() {
        for (pattern, said) in [
            (&[][..], "program"),
            (&["..."], "program"),
            (&["*", "x"], "program"),
            (&["**"], "program"),
            (&[""], "program"),
            (&["gi*"], "program"),
            (&["x", "...", "y"], "at the end"),
            (&["x", "y\\"], "`\\`"),
        ] {
            let why = ArgvPattern::read(&texts(pattern)).expect_err("a mistake");
            assert!(why.contains(said), "{pattern:?}: {why}");
        }
    }

    #[test]
    fn variables_are_named_or_begin_alike() {
        let means = |text: &str, name: &str| text.parse::<VariableName>().expect(text).means(name);
        assert!(means("LANG", "LANG") && means("APP_*", "APP_X") && means("APP_*", "APP_"));
        assert!(!means("LANG", "LANGUAGE") && !means("APP_*", "APP") && !means("lang", "LANG"));
        for bad in ["", "*", "A=B", "A*B", "**"] {
            assert!(bad.parse::<VariableName>().is_err(), "{bad}");
        }
    }
}
