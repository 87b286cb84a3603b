-- Messages that can't be stored or published, for a person to look at: `place` is the position that they had in the log, `id` is nil and
-- `room` null where the entry could not be decoded. Texts are written as in the messages.
CREATE TABLE chatflow_dead_letters (
    log    int4 NOT NULL,
    place  bytea NOT NULL,
    id     uuid NOT NULL,
    room   text COLLATE "C",
    at     int8 NOT NULL,
    reason text NOT NULL,
    entry  bytea NOT NULL,
    PRIMARY KEY (log, place)
)
