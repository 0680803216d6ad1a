-- Where the certificates of listed providers say that lists of revoked ones are, and how fetching them goes. Lists that
-- were fetched are kept apart from those that a person gave.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE revocation_point (
    url         text        PRIMARY KEY,
    next_time   timestamptz NOT NULL,
    fetch_time  timestamptz, -- of the last list that counted
    failures    integer     NOT NULL DEFAULT 0,
    problem     text        NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL
) WITH (fillfactor = 70);

ALTER TABLE trust_revocation ADD COLUMN source text NOT NULL DEFAULT ''; -- URL; empty: given by a person
