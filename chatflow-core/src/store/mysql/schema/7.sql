-- Nodes with an older program, which would not know of what follows, do not count any more: they find that another does. A history
-- without a name is new, and no other node has it.
INSERT INTO chatflow_logs (log, generation, holder, expires, through)
    SELECT 65535, 1, 'nodes with a newer program', 9223372036854775807, REPEAT(CHAR(0), 24) FROM chatflow_meta WHERE name = 'identity'
    ON DUPLICATE KEY UPDATE generation = generation + 1, holder = VALUES(holder), expires = VALUES(expires);

-- Blocks of ten days (level 4). None is rolled up yet, which is a time before all others.
UPDATE chatflow_meta SET value = concat(value, ' -1152921504606846976') WHERE name = 'rolled' AND value LIKE '% % %' AND value NOT LIKE '% % % %';

-- Who was ever in which rooms, both by their numbers, of what is counted.
CREATE TABLE IF NOT EXISTS chatflow_user_rooms (
    user INT NOT NULL,
    room INT NOT NULL,
    PRIMARY KEY (user, room)
) ENGINE = InnoDB;
INSERT IGNORE INTO chatflow_user_rooms (user, room) SELECT DISTINCT u.number, c.number FROM chatflow_messages m
    JOIN chatflow_users u ON u.user = m.user JOIN chatflow_counted c ON c.room = m.room AND m.place <= c.place
