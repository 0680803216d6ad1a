-- +goose Up
-- A check that is longer than a round goes on where the last round ended.
SET lock_timeout = '5s';

CREATE TABLE archive_cursor (
    kind    text        NOT NULL,
    subject text        NOT NULL, -- whose objects; empty: everybody's
    place   jsonb       NOT NULL,
    kept_at timestamptz NOT NULL,
    PRIMARY KEY (kind, subject)
);

-- Which units an object has the last word on. New objects come at its end.
CREATE INDEX unit_file_described ON unit_file (object_id) WHERE role = 'metadata';
