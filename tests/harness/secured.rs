//! A fleet with identities: keys of its own, a server that knows them, and a file for each member.

use std::path::PathBuf;

use peerbus_identity::authority::{Authority, Invited};
use peerbus_identity::{IdentityFile, Key};
use peerbus_protocol::identity::{Name, Standing};

use super::scratch::Scratch;
use super::server::ServerOptions;

/// The operator who `d` is, where a test says nothing else.
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
    /// Makes the keys of a fleet.
    pub fn new() -> Secured {
        let scratch = Scratch::new();
        let authority = Authority::create(&scratch.path().join("fleet")).expect("a fleet");
        Secured { scratch, authority }
    }

    /// Whoever makes identities.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder of the fleet's keys.
    pub fn keys(&self) -> PathBuf {
        self.scratch.path().join("fleet")
    }

    /// What a server of this fleet is configured with.
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

    /// The file of a member, made where there is none.
    pub fn member(&self, name: &str, standing: Standing) -> PathBuf {
        let path = self.scratch.path().join(format!("{name}.creds"));
        if !path.exists() {
            self.identity(name, standing).write(&path).expect("an identity is written");
        }
        path
    }

    /// A worker that was invited with these names and addresses; returns its file.
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

    /// A new identity. No other may have the name.
    pub fn identity(&self, name: &str, standing: Standing) -> IdentityFile {
        let name: Name = name.parse().expect("a name");
        self.authority.make(&name, standing, None).expect("an identity")
    }
}
