CREATE TABLE IF NOT EXISTS chatflow_outbox (
    number BIGINT AUTO_INCREMENT PRIMARY KEY,
    id     BINARY(16) NOT NULL,
    entry  LONGBLOB NOT NULL
) ENGINE = InnoDB;

-- Who forwards: one row. `expires` is in milliseconds since 1970.
CREATE TABLE IF NOT EXISTS chatflow_outbox_lead (
    one     INT PRIMARY KEY,
    holder  VARBINARY(255) NOT NULL,
    expires BIGINT NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO chatflow_outbox_lead (one, holder, expires) VALUES (1, '', 0)
