-- No number is given twice, so that a forwarder that comes late can't remove another row than it meant.
CREATE TABLE IF NOT EXISTS chatflow_outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id     BLOB NOT NULL,
    entry  BLOB NOT NULL
);

-- Who forwards: one row. `expires` is in milliseconds since 1970.
CREATE TABLE IF NOT EXISTS chatflow_outbox_lead (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    holder  TEXT NOT NULL,
    expires INTEGER NOT NULL
);
INSERT INTO chatflow_outbox_lead (one, holder, expires) VALUES (1, '', 0) ON CONFLICT DO NOTHING;
