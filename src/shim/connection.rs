//! The connection to the current daemon: the one that started this shim, or a later one.
//!
//! Guarantees: only the connection with the latest hello is active. One that breaks, sends too much or does
//! not read is dropped, without effect on the job. Only processes of this user and of root are accepted.

use std::io;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::messages::{FromShim, ToShim};
use super::wire::{self, LINE_MOST, MessageReader, MessageWriter};
use peerbus_process::host;

/// How long a new connection may take to send its hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Pause after a failed accept, for example for lack of descriptors.
const LISTEN_AGAIN: Duration = Duration::from_millis(100);

/// A new connection that has sent its hello.
#[derive(Debug)]
pub(super) struct NewConnection {
    hearing: MessageReader,
    saying: MessageWriter,
}

/// The active connection, if any.
#[derive(Debug)]
pub(super) struct CurrentConnection {
    pub(super) hearing: Option<MessageReader>,
    pub(super) saying: Option<MessageWriter>,
}

impl CurrentConnection {
    pub(super) fn with(hearing: MessageReader, saying: MessageWriter) -> Self {
        Self { hearing: Some(hearing), saying: Some(saying) }
    }

    /// Replaces the active connection.
    pub(super) fn go_on_with(&mut self, newcomer: NewConnection) {
        *self = Self::with(newcomer.hearing, newcomer.saying);
    }

    /// Drops the active connection.
    pub(super) fn give_up(&mut self) {
        *self = Self { hearing: None, saying: None };
    }

    /// Sends a message to the daemon, if one is connected.
    pub(super) fn say(&mut self, word: &FromShim) {
        let said = self.saying.as_mut().map(|saying| saying.say(word));
        self.goes_on(said);
    }

    /// Continues a partial write.
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

    /// Whether a daemon is connected and has read everything.
    pub(super) fn is_listening(&self) -> bool {
        self.saying.as_ref().is_some_and(MessageWriter::is_written)
    }

    /// Waits until all messages are sent, at most `within`.
    pub(super) async fn flush(&mut self, within: Duration) {
        if let Some(saying) = &mut self.saying {
            // A daemon that misses them reads the files.
            let _ = tokio::time::timeout(within, saying.flush()).await;
        }
    }
}

/// The next message; `None` once, when the connection ends. Cancel safe.
pub(super) async fn heard(hearing: &mut Option<MessageReader>) -> Option<ToShim> {
    match hearing {
        // Treat a broken connection like a closed one.
        Some(hearing) => hearing.word(LINE_MOST).await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// Waits until more can be sent. Cancel safe.
pub(super) async fn may_say(saying: &Option<MessageWriter>) {
    match saying {
        Some(saying) => saying.writable().await,
        None => std::future::pending().await,
    }
}

/// Accepts connections, and passes on those that send a hello.
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
