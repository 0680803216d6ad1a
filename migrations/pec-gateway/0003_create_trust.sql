-- Who may sign certified mail. The list belongs to the platform, not to a tenant; every change is made by
-- a person and recorded.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE trust_provider (
    name        text        PRIMARY KEY,
    signers     text[]      NOT NULL DEFAULT '{}',
    domains     text[]      NOT NULL DEFAULT '{}',
    sha256      text[]      NOT NULL DEFAULT '{}',
    sha1        text[]      NOT NULL DEFAULT '{}',
    update_time timestamptz NOT NULL
);

CREATE TABLE trust_authority (
    sha256      text        PRIMARY KEY,
    certificate bytea       NOT NULL, -- DER
    subject     text        NOT NULL,
    create_time timestamptz NOT NULL
);

-- One row for each change; the highest number is the version of the list.
CREATE TABLE trust_change (
    version     bigint      PRIMARY KEY,
    change      text        NOT NULL,
    change_time timestamptz NOT NULL
);

-- Certificates that signed well and that the list does not name: a person decides.
CREATE TABLE seen_certificate (
    sha256          text        PRIMARY KEY,
    certificate     bytea       NOT NULL,
    subject         text        NOT NULL,
    issuer          text        NOT NULL,
    addresses       text[]      NOT NULL,
    not_before      timestamptz NOT NULL,
    not_after       timestamptz NOT NULL,
    first_seen_time timestamptz NOT NULL,
    messages        bigint      NOT NULL DEFAULT 0,
    state           smallint    NOT NULL DEFAULT 1,
    provider        text        NOT NULL DEFAULT '',
    decided_by      text        NOT NULL DEFAULT '',
    decide_time     timestamptz,
    reason          text        NOT NULL DEFAULT ''
);
