-- Messages that can't be stored or published, for a person to look at: `place` is the position that they had in the log, `id` is nil and
-- `room` null where the entry could not be decoded.
CREATE TABLE IF NOT EXISTS chatflow_dead_letters (
    log    INT NOT NULL,
    place  BINARY(24) NOT NULL,
    id     BINARY(16) NOT NULL,
    room   VARBINARY(64),
    at     BIGINT NOT NULL,
    reason BLOB NOT NULL,
    entry  LONGBLOB NOT NULL,
    PRIMARY KEY (log, place)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
