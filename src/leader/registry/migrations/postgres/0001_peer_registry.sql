-- The first seven columns keep this order and these names: scripts read them.
-- Columns that are missing in an existing table are added one by one, so this file may grow by
-- columns that can be null, and never changes one that is there.
CREATE TABLE IF NOT EXISTS peer_registry (
    peer_id        TEXT NOT NULL PRIMARY KEY,
    ip_address     TEXT,
    mac_address    TEXT,
    hostname       TEXT,
    last_seen      TIMESTAMP,                  -- UTC
    is_online      BOOLEAN NOT NULL DEFAULT FALSE,
    daemon_version TEXT,
    instance       TEXT,
    role           TEXT,
    os             TEXT,
    arch           TEXT,
    tags           TEXT                        -- a JSON array of words
)
