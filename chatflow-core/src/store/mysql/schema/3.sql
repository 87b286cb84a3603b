-- Who may log in, by the name in lower case. `ended` is 24 bytes for each session that was ended before its time: its id, and when its
-- token runs out.
CREATE TABLE IF NOT EXISTS chatflow_accounts (
    `key`    VARBINARY(20) PRIMARY KEY,
    name     VARBINARY(20) NOT NULL,
    user     VARBINARY(128) NOT NULL,
    password VARBINARY(1024) NOT NULL,
    stamp    BINARY(16) NOT NULL,
    ended    VARBINARY(4096) NOT NULL,
    created  BIGINT NOT NULL,
    changed  BIGINT NOT NULL,
    edition  BINARY(16) NOT NULL,
    UNIQUE KEY chatflow_accounts_by_user (user)
) ENGINE = InnoDB
