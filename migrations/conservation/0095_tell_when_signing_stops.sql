-- +goose Up
-- Why the archive's credential cannot sign, while it cannot: by the word of the signer, or of the issuer of its certificate.
SET lock_timeout = '5s';

CREATE TABLE signing_outage (
    source      text        PRIMARY KEY CHECK (source IN ('SIGNER', 'ISSUER')),
    since       timestamptz NOT NULL,
    code        text        NOT NULL,
    reason      text        NOT NULL,
    certificate bytea       CHECK (length(certificate) = 32) -- SHA-256 of the one that the issuer took back
);

-- A report of deposits that is signed and not stamped yet: what is tried again is the stamp.
ALTER TABLE deposit ADD COLUMN unstamped bytea;
ALTER TABLE submission ADD COLUMN unstamped bytea;
