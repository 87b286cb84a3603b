-- Where in a log a time is: nothing that was accepted at `at`, or later, stands in front of `place`. See times.rs.
CREATE TABLE chatflow_times (
    log   int4 NOT NULL,
    at    int8 NOT NULL,
    place bytea NOT NULL,
    PRIMARY KEY (log, at)
);

-- The latest time of acceptance in the log, how much earlier than one before it any message was accepted at the most, both in
-- milliseconds, and how many rows came since the last of the times above.
ALTER TABLE chatflow_logs ADD COLUMN latest int8, ADD COLUMN disorder int8 NOT NULL DEFAULT 0, ADD COLUMN unmarked int8 NOT NULL DEFAULT 0;
UPDATE chatflow_logs SET latest = (SELECT max(at) FROM chatflow_messages);

-- With the room, so that a user's rooms are counted without touching the rows.
CREATE INDEX chatflow_messages_by_user ON chatflow_messages (sender, at) INCLUDE (room);
DROP INDEX chatflow_messages_by_sender;
