-- What is not counted in the summaries: `fresh_at` is the least time of acceptance of what was committed since the last look, and
-- `counting_at` of what was found there and is being counted. Null: nothing.
ALTER TABLE chatflow_logs ADD COLUMN fresh_at BIGINT, ADD COLUMN counting_at BIGINT;
UPDATE chatflow_logs SET fresh_at = (SELECT min(at) FROM chatflow_messages);

-- Where the room's last message stands.
ALTER TABLE chatflow_rooms ADD COLUMN place BINARY(24);
UPDATE chatflow_rooms SET place = (SELECT max(m.place) FROM chatflow_messages m WHERE m.room = name) WHERE place IS NULL;

-- Rooms by number, and up to where their messages are counted.
CREATE TABLE IF NOT EXISTS chatflow_counted (
    room   VARBINARY(64) PRIMARY KEY,
    number INT NOT NULL UNIQUE,
    place  VARBINARY(24) NOT NULL
) ENGINE = InnoDB;

-- Users by number; `user` as in `chatflow_messages`, `name` in full.
CREATE TABLE IF NOT EXISTS chatflow_users (
    user   VARBINARY(255) PRIMARY KEY,
    number INT NOT NULL UNIQUE,
    name   BLOB NOT NULL
) ENGINE = InnoDB;

-- Blocks of counts: what kind (0 messages, 1 by room, 2 by user, 3 users in rooms), how long a stretch (0 a minute, 1 ten, 2 an hour,
-- 3 a day), when it begins, and for kinds 2 and 3 which 65,536 users.
CREATE TABLE IF NOT EXISTS chatflow_summaries (
    kind   TINYINT NOT NULL,
    level  TINYINT NOT NULL,
    begins BIGINT NOT NULL,
    part   INT NOT NULL,
    data   LONGBLOB NOT NULL,
    PRIMARY KEY (kind, level, begins, part)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Up to when stretches are rolled up into longer ones.
INSERT IGNORE INTO chatflow_meta (name, value) VALUES ('rolled', '')
