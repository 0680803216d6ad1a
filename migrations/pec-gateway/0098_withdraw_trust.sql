-- Trust that a person ended, from when on, and why; which receipts lost their proof by that; and which providers the newest
-- index does not name.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE trust_provider ADD COLUMN index_time timestamptz;   -- of the last index that named it; null: none ever did
ALTER TABLE trust_provider ADD COLUMN absent_since timestamptz; -- of the first index after that
UPDATE trust_provider SET index_time = update_time WHERE cardinality(domains) > 0 OR cardinality(sha1) > 0; -- no person's approval gives these

-- A row is written once; later only its end and how far judging anew is.
CREATE TABLE trust_withdrawal (
    id             uuid        PRIMARY KEY,
    provider       text        NOT NULL REFERENCES trust_provider (name),
    certificate    text        NOT NULL DEFAULT '', -- SHA-256 or SHA-1; empty: all of the provider's
    effective_time timestamptz,                     -- null: it was never to be trusted
    reason         text        NOT NULL,
    decided_by     text        NOT NULL,
    decide_time    timestamptz NOT NULL,
    version        bigint      NOT NULL,
    end_time       timestamptz,
    ended_by       text        NOT NULL DEFAULT '',
    end_reason     text        NOT NULL DEFAULT '',
    -- Messages are gone through in the order of their primary key.
    at_tenant      text        NOT NULL DEFAULT '',
    at_message     uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    unproven       bigint      NOT NULL DEFAULT 0,
    doubted        bigint      NOT NULL DEFAULT 0,
    failed         bigint      NOT NULL DEFAULT 0,
    judge_time     timestamptz
);

ALTER TABLE fact ADD COLUMN doubt text NOT NULL DEFAULT ''; -- why its receipt is not proven any more
