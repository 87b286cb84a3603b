-- What is not counted in the summaries: `fresh_at` is the least time of acceptance of what was committed since the last look, and
-- `counting_at` of what was found there and is being counted. Null: nothing.
ALTER TABLE chatflow_logs ADD COLUMN fresh_at int8, ADD COLUMN counting_at int8;
UPDATE chatflow_logs SET fresh_at = (SELECT min(at) FROM chatflow_messages);

-- Where the room's last message stands.
ALTER TABLE chatflow_rooms ADD COLUMN place bytea;
UPDATE chatflow_rooms r SET place = (SELECT place FROM chatflow_messages m WHERE m.room = r.name ORDER BY place DESC LIMIT 1);

-- Rooms by number, and up to where their messages are counted.
CREATE TABLE chatflow_counted (
    room   text COLLATE "C" PRIMARY KEY,
    number int4 NOT NULL UNIQUE,
    place  bytea NOT NULL
) WITH (fillfactor = 50);

-- Users by number. Texts are escaped as in `chatflow_messages`.
CREATE TABLE chatflow_users (
    name   text COLLATE "C" PRIMARY KEY,
    number int4 NOT NULL UNIQUE
);

-- Blocks of counts: what kind (0 messages, 1 by room, 2 by user, 3 users in rooms), how long a stretch (0 a minute, 1 ten, 2 an hour,
-- 3 a day), when it begins, and for kinds 2 and 3 which 65,536 users. The data are packed, so that compressing them again gains nothing.
CREATE TABLE chatflow_summaries (
    kind   int2 NOT NULL,
    level  int2 NOT NULL,
    begins int8 NOT NULL,
    part   int4 NOT NULL,
    data   bytea NOT NULL,
    PRIMARY KEY (kind, level, begins, part)
) WITH (fillfactor = 50);
ALTER TABLE chatflow_summaries ALTER data SET STORAGE EXTERNAL;

-- Up to when stretches are rolled up into longer ones.
INSERT INTO chatflow_meta (name, value) VALUES ('rolled', '');
