CREATE TABLE IF NOT EXISTS chatflow_outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id     uuid NOT NULL,
    entry  bytea NOT NULL
);

-- Who forwards: one row.
CREATE TABLE IF NOT EXISTS chatflow_outbox_lead (
    one     int PRIMARY KEY CHECK (one = 1),
    holder  text NOT NULL,
    expires timestamptz NOT NULL
);
INSERT INTO chatflow_outbox_lead (one, holder, expires) VALUES (1, '', '-infinity') ON CONFLICT (one) DO NOTHING
