-- The first seven columns keep this order and these names: scripts read them.
-- Columns that are missing in an existing table are added one by one, so this file may grow by
-- columns that can be null, and never changes one that is there.
CREATE TABLE IF NOT EXISTS peer_registry (
    peer_id        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    ip_address     VARCHAR(45),
    mac_address    VARCHAR(64),
    hostname       VARCHAR(255),
    last_seen      DATETIME,                   -- UTC
    is_online      BOOLEAN NOT NULL DEFAULT FALSE,
    daemon_version VARCHAR(255),
    instance       VARCHAR(64),
    role           VARCHAR(64),
    os             VARCHAR(255),
    arch           VARCHAR(255),
    tags           TEXT                        -- a JSON array of words
) CHARACTER SET utf8mb4
