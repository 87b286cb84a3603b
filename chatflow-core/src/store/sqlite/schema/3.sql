-- Who may log in, by the name in lower case. `ended` is 24 bytes for each session that was ended before its time: its id, and when its
-- token runs out. `stamp` and `edition` are 16 random bytes.
CREATE TABLE accounts (
    key      TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    user     TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    stamp    BLOB NOT NULL,
    ended    BLOB NOT NULL,
    created  INTEGER NOT NULL,
    changed  INTEGER NOT NULL,
    edition  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
