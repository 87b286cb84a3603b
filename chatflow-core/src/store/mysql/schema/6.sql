-- Where in a log a time is: nothing that was accepted at `at`, or later, stands in front of `place`. See times.rs.
CREATE TABLE IF NOT EXISTS chatflow_times (
    log   INT NOT NULL,
    at    BIGINT NOT NULL,
    place BINARY(24) NOT NULL,
    PRIMARY KEY (log, at)
) ENGINE = InnoDB;

-- The latest time of acceptance in the log, how much earlier than one before it any message was accepted at the most, both in
-- milliseconds, and how many rows came since the last of the times above.
ALTER TABLE chatflow_logs ADD COLUMN latest BIGINT, ADD COLUMN disorder BIGINT NOT NULL DEFAULT 0, ADD COLUMN unmarked BIGINT NOT NULL DEFAULT 0;
UPDATE chatflow_logs SET latest = (SELECT max(at) FROM chatflow_messages);

-- With the room, so that a user's rooms are counted without touching the rows.
ALTER TABLE chatflow_messages ADD KEY chatflow_messages_by_user_and_room (user, at, id, room), DROP KEY chatflow_messages_by_user
