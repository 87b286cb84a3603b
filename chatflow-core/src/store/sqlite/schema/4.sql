-- Messages that can't be stored or published, for a person to look at: `place` is the position that they had in the log, 24 big-endian
-- bytes that sort as positions do; `id` is nil and `room` null where the entry could not be decoded.
CREATE TABLE dead_letters (
    log    INTEGER NOT NULL,
    place  BLOB NOT NULL,
    id     BLOB NOT NULL,
    room   TEXT,
    at     INTEGER NOT NULL,
    reason TEXT NOT NULL,
    entry  BLOB NOT NULL,
    PRIMARY KEY (log, place)
) STRICT;
