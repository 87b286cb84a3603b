-- Who may log in, by the name in lower case. `ended` is 24 bytes for each session that was ended before its time: its id, and when its
-- token runs out. In the user's id, a backslash is written \\.
CREATE TABLE chatflow_accounts (
    key      text COLLATE "C" PRIMARY KEY,
    name     text COLLATE "C" NOT NULL,
    "user"   text COLLATE "C" NOT NULL UNIQUE,
    password text NOT NULL,
    stamp    uuid NOT NULL,
    ended    bytea NOT NULL,
    created  int8 NOT NULL,
    changed  int8 NOT NULL,
    edition  uuid NOT NULL
);
