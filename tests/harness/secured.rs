//! A fleet with identities: its own keys, a server that knows them, and an identity file for each
//! member.

use std::path::PathBuf;

use peerbus_identity::authority::{Authority, Invited};
use peerbus_identity::{IdentityFile, Key};
use peerbus_protocol::identity::{Name, Standing};

use super::scratch::Scratch;
use super::server::ServerOptions;

/// The default operator for `d`.
pub const OPERATOR: &str = "alice";

/// The fleet's keys and the files of its members.
pub struct Secured {
    scratch: Scratch,
    authority: Authority,
}

impl Default for Secured {
    fn default() -> Self {
        Self::new()
    }
}

impl Secured {
    /// Creates a fleet's keys.
    pub fn new() -> Secured {
        let scratch = Scratch::new();
        let authority = Authority::create(&scratch.path().join("fleet")).expect("a fleet");
        Secured { scratch, authority }
    }

    /// The authority, which issues identities.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder of the fleet's keys.
    pub fn keys(&self) -> PathBuf {
        self.scratch.path().join("fleet")
    }

    /// Adds this fleet's settings to a server's options.
    pub fn server(&self, options: ServerOptions) -> ServerOptions {
        let documents = self.authority.for_server().expect("documents");
        let resolver = self.scratch.directory("resolver");
        options.configuration(&format!(
            "operator: {}\nsystem_account: {system}\n\
             resolver: {{ type: full, dir: {resolver:?}, allow_delete: false, interval: \"2m\" }}\n\
             resolver_preload: {{ {system}: {}, {}: {} }}",
            documents.operator,
            documents.system,
            documents.account_key,
            documents.account,
            system = documents.system_account,
        ))
    }

    /// The identity file of a member, created if missing.
    pub fn member(&self, name: &str, standing: Standing) -> PathBuf {
        let path = self.scratch.path().join(format!("{name}.creds"));
        if !path.exists() {
            self.identity(name, standing).write(&path).expect("an identity is written");
        }
        path
    }

    /// A worker invited with these names and addresses; returns its identity file.
    pub fn named(&self, name: &str, names: &[&str]) -> PathBuf {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let whom = Invited {
            name: &name.parse().expect("a name"),
            standing: Standing::Worker,
            bus: "nats://127.0.0.1:4222",
            until: i64::from(u32::MAX),
            identity_expires: None,
            names: &names,
        };
        let ticket = self.authority.invite(&whom).expect("an invitation");
        let key = Key::of_identity();
        let (_, token) = self.authority.take_up(&ticket.guest.id, key.public()).expect("an identity");
        let account = self.authority.account_token().expect("an account");
        let path = self.scratch.path().join(format!("{name}.creds"));
        let identity = IdentityFile { token, key, fleet: self.authority.fleet().clone(), account };
        identity.write(&path).expect("an identity is written");
        path
    }

    /// Issues a new identity. The name must be new.
    pub fn identity(&self, name: &str, standing: Standing) -> IdentityFile {
        let name: Name = name.parse().expect("a name");
        self.authority.make(&name, standing, None).expect("an identity")
    }
}
