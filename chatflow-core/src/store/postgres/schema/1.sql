CREATE TABLE chatflow_meta (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- The lease and the cursor of each log; `holder` is null once the lease was given back. A position is 24 big-endian bytes,
-- epoch and offset, which sort as positions do. `began` is where the log's history begins, null before the first commit.
CREATE TABLE chatflow_logs (
    log        int4 PRIMARY KEY,
    generation int8 NOT NULL,
    holder     text,
    expires    timestamptz NOT NULL,
    through    bytea NOT NULL,
    began      bytea
) WITH (fillfactor = 10);

-- `last` is when the room's last message was accepted, in milliseconds since 1970.
CREATE TABLE chatflow_rooms (
    name text COLLATE "C" PRIMARY KEY,
    last int8 NOT NULL
) WITH (fillfactor = 70);

-- In texts, a backslash is written \\ and a NUL, which PostgreSQL's texts can't hold, \0.
CREATE TABLE chatflow_messages (
    id      uuid PRIMARY KEY,
    digest  int8 NOT NULL,
    at      int8 NOT NULL,
    session int8 NOT NULL,
    room    text COLLATE "C" NOT NULL,
    place   bytea NOT NULL,
    sender  text COLLATE "C" NOT NULL,
    kind    text NOT NULL,
    node    text NOT NULL,
    origin  text NOT NULL,
    body    bytea NOT NULL
);

-- With the time, so that looking for a time does not touch the rows. The writer's cursor sees to it that places are unique.
CREATE INDEX chatflow_messages_by_place ON chatflow_messages (room, place, at);
CREATE INDEX chatflow_messages_by_sender ON chatflow_messages (sender, at);
-- Rows come nearly in the order of their times, so a summary of each stretch of the table is enough.
CREATE INDEX chatflow_messages_by_time ON chatflow_messages USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
