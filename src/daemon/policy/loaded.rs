//! The policy in force: read at the start, and again when the daemon is asked to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Policy, Tasks, file};

/// Whether there has to be a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFileRule {
    /// Somebody has named it.
    Required,
    /// Somebody has said that there is none.
    None,
    /// It is where one would be.
    Optional,
}

/// Why a policy does not come into force: the file, and one sentence, with the line where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("policy {}: {why}", path.display())]
pub struct PolicyError {
    path: PathBuf,
    why: String,
}

/// What a daemon says of its policy in its state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// Where the file is, or would be.
    pub path: PathBuf,
    /// How many rules of it are in force; none where there is no file in force.
    pub rules: Option<usize>,
    /// How often it was read since the daemon's start, that time included.
    pub reads: u64,
    /// blake3 of what was read last, in hexadecimal; none where there was no file.
    pub digest: Option<String>,
    /// What was wrong with that; then the rules are those from before.
    pub mistake: Option<String>,
}

/// The policy of a daemon. Clones are the same one.
#[derive(Clone)]
pub struct LoadedPolicy {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    presence: PolicyFileRule,
    tasks: Tasks,
    now: Mutex<Now>,
}

struct Now {
    policy: Arc<Policy>,
    state: PolicyState,
    /// Whether an earlier daemon had one, and there is none to be read.
    is_missing: bool,
}

/// Task lines may hold what is not for logs.
impl fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// What became of one reading.
struct Reading {
    digest: Option<String>,
    policy: Result<Option<Policy>, PolicyError>,
}

impl LoadedPolicy {
    /// Reads a policy for the first time. `tasks` are those that rules may name.
    ///
    /// # Errors
    /// When it is not there and has to be, has a mistake in it, or can be written by others.
    pub fn read(path: PathBuf, presence: PolicyFileRule, tasks: Tasks) -> Result<Self, PolicyError> {
        let Reading { digest, policy } = read(&path, presence, &tasks);
        let policy = policy?;
        let rules = policy.as_ref().map(|policy| policy.rules.len());
        let state = PolicyState { path: path.clone(), rules, reads: 1, digest, mistake: None };
        let policy = Arc::new(policy.unwrap_or_else(Policy::built_in));
        let now = Mutex::new(Now { policy, state, is_missing: false });
        Ok(Self { inner: Arc::new(Inner { path, presence, tasks, now }) })
    }

    /// Compares with what an earlier daemon of this state directory had. Where that had a policy and now there is no
    /// file, nothing is allowed: else whoever can make a file disappear could do everything.
    pub(crate) fn remember(&self, before: Option<&PolicyState>) {
        let Some(before) = before.filter(|before| before.rules.is_some()) else { return };
        let Inner { path, presence, now, .. } = &*self.inner;
        let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.state.rules.is_some() || *presence == PolicyFileRule::None {
            return;
        }
        let why = format!(
            "it is gone, and there was one ({}); nothing is allowed until it is back and read (`d daemon reload`), or \
             the configuration says `policy = \"none\"`",
            before.path.display()
        );
        tracing::error!(path = %path.display(), "the policy: {why}");
        now.policy = Arc::new(Policy { rules: Vec::new() });
        now.is_missing = true;
        // It is remembered for as long as it is missing.
        now.state.rules = Some(0);
        now.state.mistake = Some(why);
    }

    /// Reads it again. With a mistake in it, the rules stay as they were; so they do when a file that
    /// was in force is gone.
    pub(crate) async fn read_again(&self) -> PolicyState {
        let own = self.clone();
        if let Err(panic) = tokio::task::spawn_blocking(move || own.read_now()).await {
            tracing::error!(%panic, "reading the policy");
        }
        self.state()
    }

    fn read_now(&self) {
        let Inner { path, presence, tasks, now } = &*self.inner;
        let in_force = self.state().rules.is_some();
        let presence = if in_force { PolicyFileRule::Required } else { *presence };
        let Reading { digest, policy } = read(path, presence, tasks);
        let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
        now.state.reads += 1;
        now.state.digest = digest;
        now.state.mistake = policy.as_ref().err().map(|mistake| mistake.why.clone());
        match policy {
            Ok(policy) => {
                now.state.rules = policy.as_ref().map(|policy| policy.rules.len());
                now.policy = Arc::new(policy.unwrap_or_else(Policy::built_in));
                now.is_missing = false;
            }
            Err(mistake) => tracing::error!("{mistake}; the rules stay as they were"),
        }
        let is_sound = now.state.mistake.is_none();
        drop(now);
        if is_sound {
            self.tell();
        }
    }

    /// Says which rules are in force.
    pub(crate) fn tell(&self) {
        let (policy, state) = (self.policy(), self.state());
        let path = state.path.display();
        match state.rules {
            Some(rules) => tracing::info!(%path, rules, "only what the policy allows is run"),
            None => tracing::debug!(%path, "there is no policy file"),
        }
        for (rule, directory, real) in policy.directories_that_are_links() {
            let (directory, real) = (directory.display(), real.display());
            tracing::warn!(%path, rule, %directory, %real, "no command is ever in a link: name where it leads");
        }
    }

    /// What the state file says of it.
    pub(crate) fn state(&self) -> PolicyState {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// Whether nothing is allowed because the file is gone.
    pub(super) fn is_missing(&self) -> bool {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner).is_missing
    }

    /// The rules in force.
    pub(super) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.inner.now.lock().unwrap_or_else(PoisonError::into_inner).policy)
    }
}

fn read(path: &Path, presence: PolicyFileRule, tasks: &Tasks) -> Reading {
    let mistake = |why| PolicyError { path: path.to_owned(), why };
    match file::open(path) {
        _ if presence == PolicyFileRule::None => Reading { digest: None, policy: Ok(None) },
        Err(why) => Reading { digest: None, policy: Err(mistake(why)) },
        Ok(None) if presence == PolicyFileRule::Required => {
            Reading { digest: None, policy: Err(mistake("there is no such file".to_owned())) }
        }
        Ok(None) => Reading { digest: None, policy: Ok(None) },
        Ok(Some(opened)) => {
            let rules = opened.text.and_then(|text| file::parse(&text, tasks)).map_err(mistake);
            Reading { digest: Some(opened.digest), policy: rules.map(|rules| Some(Policy { rules })) }
        }
    }
}
