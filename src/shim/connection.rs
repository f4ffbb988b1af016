//! Whoever talks to this shim now: the daemon that started it, or one that came later.
//!
//! Guarantees: one connection counts, the one that said hello last. One that breaks, says too much or does
//! not listen is given up, which changes nothing for the job. Only this user's processes and root's are
//! listened to.

use std::io;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::messages::{FromShim, ToShim};
use super::wire::{self, LINE_MOST, MessageReader, MessageWriter};
use peerbus_process::host;

/// How long somebody who has connected may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait when no connection can be taken, as without a free descriptor.
const LISTEN_AGAIN: Duration = Duration::from_millis(100);

/// Somebody who has said hello.
#[derive(Debug)]
pub(super) struct NewConnection {
    hearing: MessageReader,
    saying: MessageWriter,
}

/// The connection that counts, if there is one.
#[derive(Debug)]
pub(super) struct CurrentConnection {
    pub(super) hearing: Option<MessageReader>,
    pub(super) saying: Option<MessageWriter>,
}

impl CurrentConnection {
    pub(super) fn with(hearing: MessageReader, saying: MessageWriter) -> Self {
        Self { hearing: Some(hearing), saying: Some(saying) }
    }

    /// From now on it is this one.
    pub(super) fn go_on_with(&mut self, newcomer: NewConnection) {
        *self = Self::with(newcomer.hearing, newcomer.saying);
    }

    /// Nobody is there.
    pub(super) fn give_up(&mut self) {
        *self = Self { hearing: None, saying: None };
    }

    /// Says something to whoever is there.
    pub(super) fn say(&mut self, word: &FromShim) {
        let said = self.saying.as_mut().map(|saying| saying.say(word));
        self.goes_on(said);
    }

    /// Goes on with what could not be said at once.
    pub(super) fn write(&mut self) {
        let said = self.saying.as_mut().map(MessageWriter::write);
        self.goes_on(said);
    }

    fn goes_on(&mut self, said: Option<io::Result<()>>) {
        if let Some(Err(error)) = said {
            tracing::debug!(%error, "the daemon is gone");
            self.give_up();
        }
    }

    /// Whether somebody is there and has heard all that was said.
    pub(super) fn is_listening(&self) -> bool {
        self.saying.as_ref().is_some_and(MessageWriter::is_written)
    }

    /// Waits until all that was said is on its way, and no longer than that.
    pub(super) async fn flush(&mut self, within: Duration) {
        if let Some(saying) = &mut self.saying {
            // Who does not hear it reads what is written.
            let _ = tokio::time::timeout(within, saying.flush()).await;
        }
    }
}

/// What is said next; `None` once, when nobody is there any more. Cancel safe.
pub(super) async fn heard(hearing: &mut Option<MessageReader>) -> Option<ToShim> {
    match hearing {
        // A broken connection is as good as one that has ended.
        Some(hearing) => hearing.word(LINE_MOST).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Waits until more can be said to somebody. Cancel safe.
pub(super) async fn may_say(saying: &Option<MessageWriter>) {
    match saying {
        Some(saying) => saying.writable().await,
        None => std::future::pending().await,
    }
}

/// Takes connections, and passes on those that say hello.
pub(super) async fn receive(listener: UnixListener, newcomers: mpsc::Sender<NewConnection>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let newcomers = newcomers.clone();
                tokio::spawn(async move {
                    match tokio::time::timeout(HELLO_WITHIN, greeted(stream)).await {
                        Ok(Ok(Some(newcomer))) => drop(newcomers.send(newcomer).await),
                        Ok(Ok(None)) | Err(_) => tracing::debug!("somebody came and did not say hello"),
                        Ok(Err(error)) => tracing::warn!(%error, "somebody came who is not listened to"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "taking a connection");
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        }
    }
}

async fn greeted(stream: UnixStream) -> io::Result<Option<NewConnection>> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != host::user_number() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("they are user {uid}")));
    }
    let (mut hearing, saying) = wire::split(stream);
    match hearing.word(LINE_MOST).await? {
        Some(ToShim::Hello { .. }) => Ok(Some(NewConnection { hearing, saying })),
        _ => Ok(None),
    }
}
