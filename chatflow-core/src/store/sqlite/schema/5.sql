-- Users by number.
CREATE TABLE users (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
) STRICT;

-- A user's messages in the order of time: `row` is that of `messages`, `room` is rooms.id. Written after the commits, with the summaries:
-- an index of `messages` would cost their writer more than the table does.
CREATE TABLE user_rows (
    user INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    row  INTEGER NOT NULL,
    room INTEGER NOT NULL,
    PRIMARY KEY (user, at, row)
) STRICT, WITHOUT ROWID;

-- Blocks of counts: what kind (0 messages, 1 by room, 2 by user, 3 users in rooms), how long a stretch (0 a minute, 1 ten, 2 an hour,
-- 3 a day), when it begins, and for kinds 2 and 3 which 65,536 users.
CREATE TABLE summaries (
    kind   INTEGER NOT NULL,
    level  INTEGER NOT NULL,
    begins INTEGER NOT NULL,
    part   INTEGER NOT NULL,
    data   BLOB NOT NULL,
    PRIMARY KEY (kind, level, begins, part)
) STRICT;

-- The last row of `messages` that is counted, which is in the order in which rows were committed, and its id; up to when stretches are
-- rolled up into longer ones.
INSERT INTO meta (name, value) VALUES ('counted', 0), ('counted_id', x''), ('rolled', '');
