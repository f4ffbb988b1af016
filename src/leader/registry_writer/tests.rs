//! Pending removals and rows.

use std::path::Path;

use super::*;
use crate::roster::tests::row;

/// Runs a writer for this file until all changes are written; returns its reports.
async fn kept(file: &Path, waiting: PendingWrites) -> Vec<WriterEvent> {
    let (to_leader, mut reports) = mpsc::channel(64);
    waiting.finish();
    keep(DatabaseUrl::sqlite(file), waiting, to_leader).await;
    let mut said = Vec::new();
    while let Some(report) = reports.recv().await {
        said.push(report);
    }
    said
}

async fn stored(file: &Path) -> Vec<PeerId> {
    let mut registry = Registry::open(&DatabaseUrl::sqlite(file)).await.expect("open");
    registry.load().await.expect("loaded").into_iter().map(|row| row.peer_id).collect()
}

fn id(text: &str) -> PeerId {
    text.parse().expect("valid")
}

#[tokio::test]
async fn a_peer_that_beats_before_it_was_taken_out_is_taken_out_and_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("registry.db");
    let waiting = PendingWrites::default();
    waiting.put([row("a"), row("b")]);
    waiting.remove(id("a"));
    waiting.remove(id("b"));
    waiting.put([row("a")]);
    let said = format!("{:?}", kept(&file, waiting).await);
    assert!(said.contains("Removed") && said.contains(r#""a""#) && said.contains(r#""b""#), "{said}");
    assert_eq!(stored(&file).await, [id("a")]);
}

#[test]
fn what_could_not_be_written_undoes_nothing_newer() {
    let waiting = PendingWrites::default();
    waiting.put([row("removed"), row("beats"), row("same")]);
    waiting.remove(id("rejoins"));
    let undone = waiting.take();
    waiting.remove(id("removed"));
    let newer = PeerRow { hostname: "newer".to_owned(), ..row("beats") };
    waiting.put([newer.clone(), row("rejoins")]);
    waiting.put_back(undone);
    let left = waiting.take();
    assert_eq!(left.removals, BTreeSet::from([id("rejoins"), id("removed")]));
    assert_eq!(left.rows.into_values().collect::<Vec<_>>(), [newer, row("rejoins"), row("same")]);
}
