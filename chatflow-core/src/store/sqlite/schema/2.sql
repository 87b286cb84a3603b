-- Where the log's history begins within the epoch `began`: 0, or where it was skipped to because entries were lost.
ALTER TABLE logs ADD COLUMN began_offset ANY NOT NULL DEFAULT 0;
