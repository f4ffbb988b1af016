//! The user of a job and the credentials to become that user.
//!
//! The lookup happens in the parent: it may use a directory service, which is not allowed between fork and
//! exec.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Uid, User as SystemUser, geteuid, getgrouplist};

use super::spec::StartError;
use peerbus_protocol::ending::StartFailure;

/// One user of this machine.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
    /// The credentials to switch to; `None` if the daemon is that user already.
    pub(super) credentials: Option<Credentials>,
}

/// The ids to set, in the order groups, group, user.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

impl User {
    /// Looks up the user. Without a name, this is the daemon's own user.
    pub(super) fn find(name: Option<&str>) -> Result<Self, StartError> {
        match name {
            Some(name) => Self::named(name),
            None => Self::own(),
        }
    }

    fn own() -> Result<Self, StartError> {
        let uid = geteuid();
        let user = SystemUser::from_uid(uid).map_err(|errno| looking_up(&uid.to_string(), errno))?;
        Ok(match user {
            Some(user) => Self { name: user.name, home: user.dir, shell: user.shell, credentials: None },
            // A container may run with a uid that has no name.
            None => {
                Self { name: uid.to_string(), home: "/".into(), shell: "/bin/sh".into(), credentials: None }
            }
        })
    }

    fn named(name: &str) -> Result<Self, StartError> {
        let user = user(name)?
            .ok_or_else(|| StartError::new(StartFailure::NoSuchUser, format!("there is no user {name:?}")))?;
        let credentials = credentials_of(&user, geteuid())?;
        Ok(Self { name: user.name, home: user.dir, shell: user.shell, credentials })
    }
}

/// The user with this name or, if there is none, with this uid. Blocks on the lookup.
fn user(name: &str) -> Result<Option<SystemUser>, StartError> {
    let found = SystemUser::from_name(name).map_err(|errno| looking_up(name, errno))?;
    match (found, number(name)) {
        (None, Some(number)) => SystemUser::from_uid(number).map_err(|errno| looking_up(name, errno)),
        (found, _) => Ok(found),
    }
}

fn number(name: &str) -> Option<Uid> {
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok()).flatten().map(Uid::from_raw)
}

/// The name of the user with this uid. Returns any other text unchanged. Blocks on the lookup.
#[must_use]
pub fn user_name(user_or_number: &str) -> String {
    let found = number(user_or_number).and_then(|_| user(user_or_number).ok().flatten());
    found.map_or_else(|| user_or_number.to_owned(), |user| user.name)
}

fn credentials_of(user: &SystemUser, own: Uid) -> Result<Option<Credentials>, StartError> {
    if user.uid == own {
        return Ok(None);
    }
    if !own.is_root() {
        let message = format!("running as user {:?}: only a daemon of root may, this one is not", user.name);
        return Err(StartError::new(StartFailure::System, message));
    }
    let name = CString::new(user.name.as_str()).unwrap_or_default();
    let groups = getgrouplist(&name, user.gid).map_err(|errno| looking_up(&user.name, errno))?;
    let groups = groups.into_iter().map(nix::unistd::Gid::as_raw).collect();
    Ok(Some(Credentials { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups }))
}

fn looking_up(name: &str, errno: nix::Error) -> StartError {
    StartError::system(&format!("looking up user {name:?}"), &errno.into())
}
