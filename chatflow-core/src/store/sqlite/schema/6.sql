-- Where in a log a time is: nothing that was accepted at `at`, or later, stands in front of the place. See times.rs.
CREATE TABLE times (
    log      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    epoch    ANY NOT NULL,
    "offset" ANY NOT NULL,
    PRIMARY KEY (log, at)
) STRICT, WITHOUT ROWID;

-- The latest time of acceptance in the log, how much earlier than one before it any message was accepted at the most, both in
-- milliseconds, and how many rows came since the last of the times above.
ALTER TABLE logs ADD COLUMN latest INTEGER;
ALTER TABLE logs ADD COLUMN disorder INTEGER NOT NULL DEFAULT 0;
ALTER TABLE logs ADD COLUMN unmarked INTEGER NOT NULL DEFAULT 0;
UPDATE logs SET latest = (SELECT max(at) FROM messages);
