//! The output of `d peers`, and waiting for a certain output.

use std::time::Duration;

use serde_json::Value;

use super::fleet::Fleet;
use super::wait::within;

/// Timeout until the leader reports a silent peer as offline: three intervals of 5 s, on a busy
/// machine.
pub const SILENCE_DEADLINE: Duration = Duration::from_secs(40);

impl Fleet {
    /// All peers as `d peers --json` shows them, sorted by id.
    #[track_caller]
    pub fn peers(&self) -> Vec<Value> {
        lines(&self.d(["peers", "--json"]).expect_success().out())
    }

    /// The row of one peer in `d peers --json`.
    #[track_caller]
    pub fn peer(&self, id: &str) -> Value {
        let rows = self.peers();
        match rows.iter().find(|row| row["peer_id"] == id) {
            Some(row) => row.clone(),
            None => panic!("{id} is not among {rows:#?}"),
        }
    }

    /// Waits until `d peers` shows exactly these peers in these states; returns their rows, sorted
    /// by id.
    #[track_caller]
    pub fn wait_for_states(&self, wanted: &[(&str, &str)], deadline: Duration) -> Vec<Value> {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        let mut shown = String::new();
        let found = within(deadline, || {
            let finished = self.d(["peers", "--json"]);
            shown = format!("{finished:?}");
            let rows = (finished.code() == Some(0)).then(|| lines(&finished.out()))?;
            let states = rows.iter().map(|row| (row["peer_id"].as_str(), row["state"].as_str()));
            states.eq(wanted.iter().map(|(id, state)| (Some(*id), Some(*state)))).then_some(rows)
        });
        match found {
            Some(rows) => rows,
            None => panic!("waited {deadline:?} in vain for {wanted:?}; the last look: {shown}"),
        }
    }
}

#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    let parse = |line: &str| match serde_json::from_str(line) {
        Ok(row) => row,
        Err(error) => panic!("not JSON ({error}): {line}"),
    };
    text.lines().map(parse).collect()
}
