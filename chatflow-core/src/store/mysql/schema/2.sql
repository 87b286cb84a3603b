-- A user's messages in the order of (time, id): an index on the beginning of a `BLOB` has no order. `user` is the sender, or, longer than
-- 254 bytes, its beginning and a hash of all of it. It is made by the database where the index is written, and kept nowhere else.
ALTER TABLE chatflow_messages
    ADD COLUMN user VARBINARY(255)
        GENERATED ALWAYS AS (IF(LENGTH(sender) < 255, sender, CONCAT(LEFT(sender, 223), UNHEX(SHA2(sender, 256))))) VIRTUAL,
    ADD KEY chatflow_messages_by_user (user, at, id),
    DROP KEY chatflow_messages_by_sender
