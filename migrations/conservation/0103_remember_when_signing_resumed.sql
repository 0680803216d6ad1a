-- +goose Up
-- When an outage of signing ended last: a refusal that was asked for before that is no new one. Of all tenants, like the outages.
SET lock_timeout = '5s';

CREATE TABLE signing_resumed (
    source text        PRIMARY KEY CHECK (source IN ('SIGNER', 'ISSUER', 'AUTHORITY')),
    at     timestamptz NOT NULL
);
