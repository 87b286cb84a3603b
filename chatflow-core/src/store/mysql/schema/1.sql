CREATE TABLE IF NOT EXISTS chatflow_meta (
    name  VARBINARY(64) PRIMARY KEY,
    value VARBINARY(255) NOT NULL
) ENGINE = InnoDB;

-- The lease and the cursor of each log; `holder` is null once the lease was given back, and it runs out at `expires`, in
-- milliseconds since 1970. A position is 24 big-endian bytes, epoch and offset, which sort as positions do. `began` is where the
-- log's history begins, null before the first commit.
CREATE TABLE IF NOT EXISTS chatflow_logs (
    log        INT PRIMARY KEY,
    generation BIGINT NOT NULL,
    holder     VARBINARY(255),
    expires    BIGINT NOT NULL,
    through    BINARY(24) NOT NULL,
    began      BINARY(24)
) ENGINE = InnoDB;

-- `last` is when the room's last message was accepted, in milliseconds since 1970.
CREATE TABLE IF NOT EXISTS chatflow_rooms (
    name VARBINARY(64) PRIMARY KEY,
    last BIGINT NOT NULL
) ENGINE = InnoDB;

-- Texts are kept as bytes: they come back as they were and compare as they are. The index by place has the time, so that looking
-- for a time does not touch the rows; the writer's cursor sees to it that places are unique.
CREATE TABLE IF NOT EXISTS chatflow_messages (
    id      BINARY(16) PRIMARY KEY,
    digest  BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    session BIGINT NOT NULL,
    room    VARBINARY(64) NOT NULL,
    place   BINARY(24) NOT NULL,
    sender  BLOB NOT NULL,
    kind    BLOB NOT NULL,
    node    BLOB NOT NULL,
    origin  BLOB NOT NULL,
    body    LONGBLOB NOT NULL,
    KEY chatflow_messages_by_place (room, place, at),
    KEY chatflow_messages_by_sender (sender(128), at),
    KEY chatflow_messages_by_time (at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
