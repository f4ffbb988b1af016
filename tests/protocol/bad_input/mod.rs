//! What people mistype: it is refused before anything is sent, with code 2 and words that name the
//! mistake; a bus that is not there is said at once; no error repeats a secret.

mod bus;
mod hostile;
mod names;
mod settings;
mod typed;

use std::ffi::OsStr;

use crate::harness::child::Finished;
use crate::harness::fleet::DCommand;
use crate::harness::scratch::Scratch;

/// Where nothing listens: whoever gets as far as connecting ends with 255.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// A person on a machine without a bus.
struct Person(Scratch);

impl Person {
    fn new() -> Person {
        Person(Scratch::new())
    }

    fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> DCommand {
        DCommand::new(&self.0.directory("person"), arguments).nats(NOWHERE)
    }

    /// Runs what is mistyped; stderr names all of `named`.
    #[track_caller]
    fn mistypes<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S], named: &[&str]) -> String {
        mistake(self.command(arguments).run(), named)
    }

    /// A configuration file with this text.
    fn configured(&self, text: impl AsRef<[u8]>) -> String {
        self.0.file("c.toml", text).to_string_lossy().into_owned()
    }
}

#[track_caller]
fn mistake(finished: Finished, named: &[&str]) -> String {
    let finished = finished.expect_code(2);
    let said = finished.err();
    assert!(finished.stdout.is_empty() && !said.is_empty(), "{finished:?}");
    for word in named {
        assert!(said.contains(word), "{word:?} is not named\n{finished:?}");
    }
    said
}
