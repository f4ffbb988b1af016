//! One connection between daemon and shim: lines of JSON of limited length in both directions.

use std::io;

use bytes::{Buf, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Longest line of an order, in bytes. It can be large, because its sender could start any command itself.
pub(super) const ORDER_MOST: usize = 256 << 20;

/// Longest other line, in bytes; terminal snapshots are the longest.
pub(super) const LINE_MOST: usize = 8 << 20;

/// Most bytes queued for the other side. A peer that does not read loses the connection, and receives the
/// whole state when it reconnects.
const WAITING_MOST: usize = 16 << 20;

/// The receiving end.
#[derive(Debug)]
pub(super) struct MessageReader {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    /// How many bytes of the buffer were searched for a newline.
    looked_at: usize,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct MessageWriter {
    stream: OwnedWriteHalf,
    waiting: BytesMut,
}

/// Splits a connection into its two ends.
pub(super) fn split(stream: UnixStream) -> (MessageReader, MessageWriter) {
    let (reader, writer) = stream.into_split();
    let hearing = MessageReader { stream: reader, buffer: BytesMut::new(), looked_at: 0 };
    (hearing, MessageWriter { stream: writer, waiting: BytesMut::new() })
}

impl MessageReader {
    /// The next known message; `None` at the end of the connection. Cancel safe.
    ///
    /// # Errors
    /// When the connection is broken or a line is too long.
    pub(super) async fn word<T: DeserializeOwned>(&mut self, most: usize) -> io::Result<Option<T>> {
        loop {
            if let Some(line) = self.buffered_line() {
                match understood(&line) {
                    Some(word) => return Ok(Some(word)),
                    None => continue,
                }
            }
            if self.buffer.len() > most {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line that does not end"));
            }
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.buffer) {
                // An incomplete last line is discarded.
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn buffered_line(&mut self) -> Option<BytesMut> {
        let fresh = self.buffer.get(self.looked_at..)?;
        let Some(length) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.looked_at = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.looked_at + length);
        self.buffer.advance(1);
        self.looked_at = 0;
        Some(line)
    }
}

impl MessageWriter {
    /// Queues a message and sends it as soon as the other side reads.
    ///
    /// # Errors
    /// When too much is queued because the other side does not read.
    pub(super) fn say(&mut self, word: &impl Serialize) -> io::Result<()> {
        if self.waiting.len() > WAITING_MOST {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the other side does not read"));
        }
        self.waiting.extend_from_slice(&line(word)?);
        self.write()
    }

    /// Whether the queue is empty.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waits until queued bytes can be written. Cancel safe.
    pub(super) async fn writable(&self) {
        if self.is_written() {
            std::future::pending().await
        }
        // The next write reports any error.
        let _ = self.stream.writable().await;
    }

    /// Writes as much as the other side accepts.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.stream.try_write(&self.waiting) {
                Ok(count) => self.waiting.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // Free the memory of a long line.
        self.waiting = BytesMut::new();
        Ok(())
    }

    /// Waits until the queue is empty. Cancel safe.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_written() {
            self.writable().await;
            self.write()?;
        }
        Ok(())
    }
}

/// Encodes a message.
pub(super) fn line(word: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    Ok(line)
}

/// Decodes a line; `None` if this version does not know the message. The line may contain secrets, so only
/// its first key is logged.
pub(super) fn understood<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let word = serde_json::from_slice(line).ok();
    if word.is_none() {
        let object: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_slice(line).ok();
        let key = object.and_then(|object| object.keys().next().cloned());
        let key: Option<String> = key.map(|key| key.chars().take(32).collect());
        tracing::debug!(?key, bytes = line.len(), "a word that is not known here");
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{FromShim, LogExtent};
    use tokio::io::AsyncWriteExt;

    async fn heard(said: &[u8]) -> Vec<FromShim> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let (mut hearing, _saying) = split(ours);
        let said = said.to_vec();
        let speaker = tokio::spawn(async move { theirs.write_all(&said).await });
        let mut words = Vec::new();
        while let Some(word) = hearing.word(LINE_MOST).await.expect("a connection") {
            words.push(word);
        }
        speaker.await.expect("no panic").expect("said");
        words
    }

    #[tokio::test]
    async fn what_is_not_known_is_passed_over() {
        let reach = LogExtent { out: 1, err: 2, first_out: 0, first_err: 0 };
        let known = line(&FromShim::Log(reach)).expect("a line");
        let with_more = br#"{"log":{"out":1,"err":2,"first_out":0,"first_err":0,"later":[1,{}]}}"#;
        let said = [
            &b"\n\x00\xff garbage\n{}\n[1]\n{\"later\":{\"a\":1}}\n\"word\"\n"[..],
            &known,
            &b"{\"log\":7}\n{\"log\":{\"out\":-1}}\n"[..],
            with_more,
            b"\n{\"log\":{\"out\":1,\"er",
        ];
        assert_eq!(heard(&said.concat()).await, [FromShim::Log(reach), FromShim::Log(reach)]);
    }

    #[tokio::test]
    async fn a_line_without_end_is_an_error() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let (mut hearing, _saying) = split(ours);
        tokio::spawn(async move { while theirs.write_all(&[b'x'; 1000]).await.is_ok() {} });
        assert!(hearing.word::<FromShim>(10_000).await.is_err());
        assert!(hearing.buffer.len() < 100_000);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (_hearing, mut saying) = split(ours);
        let word = "x".repeat(1 << 20);
        let said = (0..100).take_while(|_| saying.say(&word).is_ok()).count();
        assert!((16..20).contains(&said), "{said}");
        drop(theirs);
        assert!(saying.flush().await.is_err());
    }
}
