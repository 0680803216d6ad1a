-- Lists of revoked certificates of the authorities behind the providers, as they were given. An earlier list stays:
-- what it says of a moment stays true.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE trust_revocation (
    sha256      text        PRIMARY KEY,
    issuer      text        NOT NULL,
    list        bytea       NOT NULL, -- DER
    this_update timestamptz NOT NULL,
    next_update timestamptz,
    create_time timestamptz NOT NULL
);
