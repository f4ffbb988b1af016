//! One check, and all of them.

use serde_json::{Value, json};

use crate::output::Cell;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    Pass,
    Fail,
    /// Its ground is missing.
    Skip,
}

impl Result {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }

    /// For people, in colour where that is wanted.
    pub(super) fn shown(self) -> Cell {
        match self {
            Self::Pass => Cell::good(self.as_str()),
            Self::Fail => Cell::bad(self.as_str()),
            Self::Skip => self.as_str().into(),
        }
    }
}

/// One fact.
#[derive(Debug, Clone)]
pub(super) struct Check {
    /// `here`, `fleet`, or a peer's id.
    pub(super) about: String,
    pub(super) name: &'static str,
    pub(super) result: Result,
    /// What was seen.
    pub(super) detail: String,
    /// What to do, where it failed.
    pub(super) next: String,
}

impl Check {
    pub(super) fn pass(about: &str, name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(about, name, Result::Pass, detail.into(), String::new())
    }

    pub(super) fn skip(about: &str, name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(about, name, Result::Skip, detail.into(), String::new())
    }

    pub(super) fn fail(
        about: &str,
        name: &'static str,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(about, name, Result::Fail, detail.into(), next.into())
    }

    fn new(about: &str, name: &'static str, result: Result, detail: String, next: String) -> Self {
        Self { about: about.to_owned(), name, result, detail, next }
    }
}

/// All checks, in the order they were made.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.result == Result::Fail)
    }

    /// All of it in a sentence.
    pub(super) fn verdict(&self) -> String {
        let made = self.checks.iter().filter(|check| check.result != Result::Skip).count();
        match self.failed().count() {
            0 => format!("all {made} checks passed"),
            failed => format!("{failed} of {made} checks failed; what to do, the first one first:"),
        }
    }

    pub(super) fn as_json(&self) -> Value {
        let check = |check: &Check| {
            json!({
                "about": check.about,
                "check": check.name,
                "result": check.result.as_str().to_ascii_lowercase(),
                "detail": check.detail,
                "next": (check.result == Result::Fail).then_some(&check.next),
            })
        };
        let failed = self.failed().count();
        json!({
            "verdict": if failed == 0 { "pass" } else { "fail" },
            "failed": failed,
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        })
    }
}
