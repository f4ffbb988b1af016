//! Deliveries from the queue that have not started yet: `journal/queued/<id>`.
//!
//! A copy is complete, including the values of variables, and readable by the owner only. It exists for some
//! milliseconds, or until a dead daemon has a successor.
//!
//! Guarantee: once the server was told that a job is claimed, its copy is here or it is about to start.

use std::fs;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::{Journal, sync_directory};
use peerbus_bus::{Headers, Incoming};
use peerbus_protocol::signature::{IDENTITY, SIGNATURE, TIME};
use peerbus_protocol::{JobId, decode};

/// The headers that prove who made a request.
const KEPT_HEADERS: [&str; 3] = [IDENTITY, SIGNATURE, TIME];

/// A message from the queue, and the subject that acknowledges it.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    /// The message as it was signed: without a reply subject.
    pub(crate) message: Incoming,
    /// The subject for acknowledgements.
    pub(crate) confirm: String,
}

/// A kept copy. An unreadable one has only its id.
pub(crate) struct Copied {
    /// The job.
    pub(crate) id: JobId,
    /// The delivery.
    pub(crate) delivered: io::Result<Delivered>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    subject: String,
    headers: Vec<(String, String)>,
    payload: String,
    confirm: String,
}

impl Journal {
    /// Keeps a delivery and forces it to disk.
    pub(super) fn keep_copy(&self, id: JobId, delivered: &Delivered) -> io::Result<()> {
        let Delivered { message, confirm } = delivered;
        let header = |name: &str| Some((name.to_owned(), message.headers.get(name)?.to_owned()));
        let written = Written {
            subject: message.subject.clone(),
            headers: KEPT_HEADERS.into_iter().filter_map(header).collect(),
            payload: BASE64.encode(&message.payload),
            confirm: confirm.clone(),
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.queued)?;
        file.write_all(&decode::to_json(&written))?;
        file.as_file().sync_all()?;
        file.persist(self.queued.join(id.to_string()))?;
        sync_directory(&self.queued)
    }

    /// Removes a copy that is no longer needed.
    ///
    /// # Errors
    /// If it exists and cannot be removed.
    pub(crate) fn drop_copy(&self, id: JobId) -> io::Result<()> {
        match fs::remove_file(self.queued.join(id.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Whether the copy of a delivery still exists.
    #[must_use]
    pub(crate) fn has_copy(&self, id: JobId) -> bool {
        self.queued.join(id.to_string()).exists()
    }

    /// All kept copies.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub(crate) fn copies(&self) -> io::Result<Vec<Copied>> {
        let mut copies = Vec::new();
        for entry in fs::read_dir(&self.queued)? {
            let path = entry?.path();
            // Other names are drafts of a daemon killed while writing.
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            let delivered = fs::read(&path).and_then(|text| read(&text));
            copies.push(Copied { id, delivered });
        }
        Ok(copies)
    }
}

fn read(text: &[u8]) -> io::Result<Delivered> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let Written { subject, headers, payload, confirm } =
        decode::json(text).map_err(|bad| wrong(bad.to_string()))?;
    let payload = BASE64.decode(payload).map_err(|_| wrong("its payload is not base64".to_owned()))?;
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let message = Incoming {
        subject,
        reply: None,
        headers: Headers::of(headers),
        payload: payload.into(),
        no_responders: false,
        status: None,
    };
    Ok(Delivered { message, confirm })
}
