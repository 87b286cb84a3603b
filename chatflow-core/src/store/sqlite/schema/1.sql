CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- The lease and the cursor of each log; `holder` is null once the lease was given back.
CREATE TABLE logs (
    log        INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    holder     TEXT,
    epoch      ANY NOT NULL,
    "offset"   ANY NOT NULL
) STRICT;

-- Names are kept once. `last` is when the room's last message was accepted, null while it has none.
CREATE TABLE rooms (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last INTEGER
) STRICT;

-- Clustered by room and position, the order in which a room is read; `room` is rooms.id. Epoch and offset are an integer up to 2^63 - 1
-- and 16 bytes beyond.
CREATE TABLE messages (
    room     INTEGER NOT NULL,
    epoch    ANY NOT NULL,
    "offset" ANY NOT NULL,
    id       BLOB NOT NULL UNIQUE,
    digest   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    sender   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    node     TEXT NOT NULL,
    session  INTEGER NOT NULL,
    origin   TEXT NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (room, epoch, "offset")
) STRICT, WITHOUT ROWID;
