//! The policy in force: read at startup and on reload.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Policy, Tasks, file};

/// Whether a policy file must exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFileRule {
    /// The file was named explicitly and must exist.
    Required,
    /// The configuration says that there is no file.
    None,
    /// The default path; the file may be missing.
    Optional,
}

/// Why a policy does not take effect: the file, and one sentence with the line if known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("policy {}: {why}", path.display())]
pub struct PolicyError {
    path: PathBuf,
    why: String,
}

/// The policy as reported in the state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyState {
    /// The path of the file, whether it exists or not.
    pub path: PathBuf,
    /// Number of rules in force. `None` if no file is in force.
    pub rules: Option<usize>,
    /// Number of reads since the daemon started, including the first.
    pub reads: u64,
    /// The blake3 digest of the last content read, in hexadecimal. `None` if there was no file.
    pub digest: Option<String>,
    /// The error in that content. The earlier rules stay in force then.
    pub mistake: Option<String>,
}

/// The policy of a daemon. Clones share state.
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
    /// Whether an earlier daemon had a policy file that is missing now.
    is_missing: bool,
}

/// Manual, because task lines may contain secrets.
impl fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

/// The result of one read.
struct Reading {
    digest: Option<String>,
    policy: Result<Option<Policy>, PolicyError>,
}

impl LoadedPolicy {
    /// Reads a policy for the first time. `tasks` are those that rules may name.
    ///
    /// # Errors
    /// If a required file is missing, has an error, or can be written by others.
    pub fn read(path: PathBuf, presence: PolicyFileRule, tasks: Tasks) -> Result<Self, PolicyError> {
        let Reading { digest, policy } = read(&path, presence, &tasks);
        let policy = policy?;
        let rules = policy.as_ref().map(|policy| policy.rules.len());
        let state = PolicyState { path: path.clone(), rules, reads: 1, digest, mistake: None };
        let policy = Arc::new(policy.unwrap_or_else(Policy::built_in));
        let now = Mutex::new(Now { policy, state, is_missing: false });
        Ok(Self { inner: Arc::new(Inner { path, presence, tasks, now }) })
    }

    /// Compares with the policy of an earlier daemon on this state directory. If that daemon had a policy and the
    /// file is now missing, nothing is allowed. Otherwise deleting the file would allow everything.
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
        // The state file keeps this while the policy file is missing.
        now.state.rules = Some(0);
        now.state.mistake = Some(why);
    }

    /// Reloads the file. If it has an error, or a file that was in force is missing, the old rules stay.
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

    /// Logs which rules are in force.
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

    /// The policy as the state file reports it.
    pub(crate) fn state(&self) -> PolicyState {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// Whether nothing is allowed because the file is missing.
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
