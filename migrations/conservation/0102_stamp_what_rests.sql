-- +goose Up
-- Days on which the log had nothing new: its last checkpoint is stamped anew, so that who reads the log can tell one that rests from an old copy.
-- One stamp a day, by the day in its token. Of all tenants, like the checkpoints.
SET lock_timeout = '5s';

CREATE TABLE log_restamp (
    stamp_time timestamptz PRIMARY KEY,
    size       bigint      NOT NULL REFERENCES log_checkpoint (size),
    stamp      bytea       NOT NULL, -- RFC 3161 token over the text of the checkpoint's note
    stamp_by   text        NOT NULL
);
CREATE UNIQUE INDEX log_restamp_day ON log_restamp (((stamp_time AT TIME ZONE 'UTC')::date));
CREATE INDEX log_restamp_of ON log_restamp (size, stamp_time);
