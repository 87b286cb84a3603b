-- Nodes with an older program, which would not know of what follows, do not count any more: they find that another does. A history
-- without a name is new, and no other node has it.
INSERT INTO chatflow_logs AS l (log, generation, holder, expires, through)
    SELECT 65535, 1, 'nodes with a newer program', 'infinity'::timestamptz, decode(repeat('00', 24), 'hex') FROM chatflow_meta WHERE name = 'identity'
    ON CONFLICT (log) DO UPDATE SET generation = l.generation + 1, holder = excluded.holder, expires = excluded.expires;

-- Blocks of ten days (level 4). None is rolled up yet, which is a time before all others.
UPDATE chatflow_meta SET value = value || ' -1152921504606846976' WHERE name = 'rolled' AND value LIKE '% % %' AND value NOT LIKE '% % % %';

-- Who was ever in which rooms, both by their numbers, of what is counted.
CREATE TABLE chatflow_user_rooms (
    "user" int4 NOT NULL,
    room   int4 NOT NULL,
    PRIMARY KEY ("user", room)
);
INSERT INTO chatflow_user_rooms SELECT DISTINCT u.number, c.number FROM chatflow_messages m
    JOIN chatflow_users u ON u.name = m.sender JOIN chatflow_counted c ON c.room = m.room AND m.place <= c.place;
