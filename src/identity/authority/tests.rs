//! A fleet's keys in a real directory: who becomes a member, and who stays one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::{InviteToken, Invitee, MembershipError, TrustStore};

struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create(&folder.path().join("fleet")).expect("a fleet");
        Self { folder, authority }
    }

    fn invite(&self, whom: &str, standing: Standing, until: i64) -> Invitee {
        let bus = "nats://127.0.0.1:4222";
        let whom = Invited { name: &name(whom), standing, bus, until, identity_expires: None, names: &[] };
        let ticket = self.authority.invite(&whom).expect("invited");
        InviteToken::read(&ticket.text()).expect("whole").guest
    }

    fn trust(&self) -> TrustStore {
        let account = self.authority.account_token().expect("an account");
        TrustStore::new(self.authority.fleet().clone(), &account).expect("trusted")
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

#[test]
fn every_file_is_its_owners_alone_and_a_fleet_is_made_once() {
    let scene = Scene::new();
    let directory = scene.folder.path().join("fleet");
    scene.authority.make(&name("w1"), Standing::Worker, None).expect("made");
    assert_eq!(fs::metadata(&directory).expect("there").permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&directory).expect("a folder") {
        let file = file.expect("an entry");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let error = Authority::create(&directory).expect_err("a second fleet");
    assert!(matches!(error, AuthorityError::Exists(_)), "{error}");
    assert_eq!(Authority::open(&directory).expect("opened").fleet(), scene.authority.fleet());
    fs::set_permissions(directory.join("account.nk"), fs::Permissions::from_mode(0o640)).expect("changed");
    let error = Authority::open(&directory).expect_err("exposed");
    assert!(error.to_string().contains("account.nk") && error.to_string().contains("640"), "{error}");
    let error = Authority::open(scene.folder.path().join("none").as_path()).expect_err("none");
    assert!(error.to_string().contains("there are no keys of a fleet"), "{error}");
}

#[test]
fn an_identity_is_of_its_fleet_its_standing_and_its_key() {
    let (scene, other) = (Scene::new(), Scene::new());
    let alice = scene.authority.make(&name("alice"), Standing::Operator, None).expect("made");
    let signer = scene.trust().member(&alice.token).expect("a member");
    assert_eq!((signer.name.as_str(), signer.standing), ("alice", Standing::Operator));
    assert_eq!(signer.key, *alice.key.public());
    assert_eq!(other.trust().member(&alice.token), Err(MembershipError::Stranger));
    let error = scene.authority.make(&name("alice"), Standing::Worker, None).expect_err("taken");
    assert!(matches!(error, AuthorityError::Taken(_, Standing::Operator)), "{error}");
    let expired = scene.authority.make(&name("bob"), Standing::Operator, Some(now() - 1)).expect("made");
    assert_eq!(scene.trust().member(&expired.token), Err(MembershipError::Expired(name("bob"))));
}

#[test]
fn an_invitation_is_taken_up_once_in_time_and_by_one_key() {
    let scene = Scene::new();
    let authority = &scene.authority;
    let guest = scene.invite("vps", Standing::Worker, now() + 60);
    let invitation = authority.invitations().expect("a book").pop().expect("an invitation");
    let member = scene.trust().member(&guest.token).expect("a guest");
    assert_eq!((member.name, member.standing), (invitation.id.clone(), Standing::Guest));
    let (mine, thiefs) = (Key::of_identity(), Key::of_identity());
    let (entry, token) = authority.take_up(&invitation.id, mine.public()).expect("taken up");
    assert_eq!((entry.name.as_str(), entry.standing), ("vps", Standing::Worker));
    assert_eq!(scene.trust().member(&token).expect("a member").key, *mine.public());
    // A client retries because the answer may have been lost.
    let (again, _) = authority.take_up(&invitation.id, mine.public()).expect("again");
    assert_eq!(again, entry);
    let error = authority.take_up(&invitation.id, thiefs.public()).expect_err("used");
    assert!(error.to_string().contains("taken up already"), "{error}");
    let late = scene.invite("late", Standing::Worker, now());
    let error = authority.take_up(&late.id, mine.public()).expect_err("late");
    assert!(error.to_string().contains("it is over"), "{error}");
    let error = authority.take_up(&name("never"), mine.public()).expect_err("never");
    assert!(matches!(error, AuthorityError::NotInvited(_)), "{error}");
    authority.revoke(&name("vps")).expect("revoked");
    let error = authority.take_up(&invitation.id, mine.public()).expect_err("revoked");
    assert!(error.to_string().contains("revoked"), "{error}");
}

#[test]
fn who_was_revoked_is_a_member_nowhere_that_has_heard_it() {
    let scene = Scene::new();
    let alice = scene.authority.make(&name("alice"), Standing::Operator, None).expect("made");
    let open = scene.invite("bob", Standing::Operator, now() + 60);
    let trust = scene.trust();
    let old = trust.account_token();
    trust.member(&alice.token).expect("a member yet");
    let newer = scene.authority.revoke(&name("alice")).expect("revoked");
    trust.member(&alice.token).expect("not heard yet");
    assert_eq!(trust.learn(&newer), Ok(true));
    assert_eq!(trust.member(&alice.token), Err(MembershipError::Revoked(name("alice"))));
    // An older account does not undo a revocation.
    assert_eq!(trust.learn(&old), Ok(false));
    assert_eq!(trust.member(&alice.token), Err(MembershipError::Revoked(name("alice"))));
    // The name is free again; its new key is a member although the old key is revoked.
    let again = scene.authority.make(&name("alice"), Standing::Operator, None).expect("made again");
    assert_eq!(trust.member(&again.token).expect("a member").key, *again.key.public());
    scene.authority.revoke(&name("bob")).expect("an invitation is taken back");
    let error = scene.authority.take_up(&open.id, Key::of_identity().public()).expect_err("revoked");
    assert!(error.to_string().contains("revoked"), "{error}");
    assert!(matches!(scene.authority.revoke(&name("carol")), Err(AuthorityError::Unknown(_))));
}

#[test]
fn a_file_is_read_as_it_was_written_and_only_from_its_owner() {
    let scene = Scene::new();
    let alice = scene.authority.make(&name("alice"), Standing::Operator, None).expect("made");
    let path = scene.folder.path().join("alice.creds");
    alice.write(&path).expect("written");
    assert_eq!(IdentityFile::read(&path).expect("read"), Some(alice.clone()));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
    let error = IdentityFile::read(&path).expect_err("exposed").to_string();
    assert!(error.contains("alice.creds") && error.contains("644") && error.contains("chmod 600"), "{error}");
    let bob = scene.authority.make(&name("bob"), Standing::Operator, None).expect("made");
    let mixed = IdentityFile { key: bob.key.clone(), ..alice.clone() };
    assert!(mixed.checked().map(drop).expect_err("mixed").contains("different identities"));
    for at in 0..4 {
        let blocks: Vec<String> = alice.text().split("\n\n").map(str::to_owned).collect();
        let without: Vec<String> = blocks
            .into_iter()
            .enumerate()
            .filter(|(index, _)| *index != at)
            .map(|(_, block)| block)
            .collect();
        assert!(IdentityFile::parse(&without.join("\n\n")).expect_err("a block less").contains("it has no"));
    }
}

#[test]
fn a_seal_holds_for_one_message_at_one_place() {
    use crate::{MessageSigner, SignatureError, SigningInput};
    let scene = Scene::new();
    let alice = scene.authority.make(&name("alice"), Standing::Operator, None).expect("made");
    let trust = scene.trust();
    let said: [(&str, &str); 2] = [("D-Time", "17"), ("D-Offset", "3")];
    let plain = |name: &str| said.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let parts =
        SigningInput { subject: "exec.w1", reply: Some("_INBOX_alice.x"), headers: &plain, payload: b"{}" };
    let seal = MessageSigner::of(&alice).headers(&parts);
    let check = |subject: &str, reply: Option<&str>, payload: &[u8], change: Option<(&str, &str)>| {
        let find = |name: &str| {
            let changed = change.filter(|(key, _)| *key == name).map(|(_, value)| value);
            let sealed = seal.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
            changed.or(sealed).or_else(|| plain(name))
        };
        trust.signer(&SigningInput { subject, reply, headers: &find, payload }).map(|signer| signer.name)
    };
    let reply = Some("_INBOX_alice.x");
    assert_eq!(check("exec.w1", reply, b"{}", None), Ok(name("alice")));
    let changed = Err(SignatureError::Changed(name("alice")));
    assert_eq!(check("exec.w2", reply, b"{}", None), changed);
    assert_eq!(check("exec.w1", Some("_INBOX_alice.y"), b"{}", None), changed);
    assert_eq!(check("exec.w1", None, b"{}", None), changed);
    assert_eq!(check("exec.w1", reply, b"{ }", None), changed);
    assert_eq!(check("exec.w1", reply, b"{}", Some(("D-Time", "18"))), changed);
    assert_eq!(check("exec.w1", reply, b"{}", Some(("D-Challenge", "x"))), changed);
    assert_eq!(check("exec.w1", reply, b"{}", Some(("D-Signature", "?"))), Err(SignatureError::Malformed));
    let bob = scene.authority.make(&name("bob"), Standing::Operator, None).expect("made");
    assert_eq!(
        check("exec.w1", reply, b"{}", Some(("D-Identity", &bob.token))),
        Err(SignatureError::Changed(name("bob")))
    );
    let unsigned = trust.signer(&parts).expect_err("unsigned");
    assert_eq!(unsigned, SignatureError::Unsigned);
}

/// The fleet's key signs these documents too, and every server's configuration contains them.
#[test]
fn another_document_of_the_fleet_is_not_its_account() {
    use crate::BadAccount;
    let scene = Scene::new();
    let trust = scene.trust();
    let documents = scene.authority.for_server().expect("documents");
    for other in [&documents.operator, &documents.system] {
        let error = trust.learn(other).expect_err("no account");
        assert!(matches!(error, BadAccount::NotTheAccount | BadAccount::Token(_)), "{error}");
    }
    assert_eq!(trust.learn(&documents.account), Ok(false));
}

#[test]
fn a_fleet_gets_the_keys_of_standings_that_are_newer_than_itself() {
    let scene = Scene::new();
    let directory = scene.folder.path().join("fleet");
    let older = || {
        let mut account = scene.authority.account().expect("an account");
        account.vouching.remove(&Standing::Gateway);
        account.issued += 1;
        scene.authority.publish(account.clone()).expect("written");
        fs::remove_file(directory.join("vouches-for-gateways.nk")).expect("removed");
        account
    };
    let account = older();
    let alice = scene.authority.make(&name("alice"), Standing::Operator, None).expect("made");
    assert!(
        !scene.trust().account().vouching.contains_key(&Standing::Gateway),
        "nothing was missing for that"
    );
    assert!(scene.authority.renew_rights().expect("renewed"), "written anew");
    assert!(!scene.authority.renew_rights().expect("looked at"), "and only once");
    let renewed = scene.trust().account();
    assert!(renewed.issued > account.issued && renewed.vouching.len() == Standing::ALL.len());
    assert!(account.vouching.iter().all(|(standing, key)| renewed.vouching.get(standing) == Some(key)));
    scene.trust().member(&alice.token).expect("still a member");

    // An invitation works even before the leader has checked for the new account.
    older();
    let web = scene.authority.make(&name("web"), Standing::Gateway, None).expect("made");
    assert_eq!(scene.trust().member(&web.token).expect("a member").standing, Standing::Gateway);
}
