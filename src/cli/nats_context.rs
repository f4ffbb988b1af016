//! The selected context of the `nats` command line, for those who have one already.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use peerbus_bus::Credentials;

/// What such a context says of a server and of who we are to it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct NatsContext {
    #[serde(default)]
    pub(super) url: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    pub(super) creds: String,
}

impl NatsContext {
    /// The selected context below a configuration home, such as `~/.config`. None where none is
    /// selected.
    ///
    /// # Errors
    /// A sentence that names the file, when it is there and cannot be understood.
    pub(super) fn selected(config_home: &Path) -> Result<Option<Self>, String> {
        let root = config_home.join("nats");
        let Ok(name) = fs::read_to_string(root.join("context.txt")) else { return Ok(None) };
        let path: PathBuf = root.join("context").join(format!("{}.json", name.trim()));
        let text = fs::read(&path)
            .map_err(|error| format!("reading the nats context {}: {error}", path.display()))?;
        let context = serde_json::from_slice(&text);
        context.map(Some).map_err(|error| format!("the nats context {}: {error}", path.display()))
    }

    /// Who we are to its server, where it says so itself.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        if !self.token.is_empty() {
            return Some(Credentials::Token(self.token.clone()));
        }
        if !self.user.is_empty() {
            return Some(Credentials::UserPassword {
                user: self.user.clone(),
                password: self.password.clone(),
            });
        }
        None
    }
}
