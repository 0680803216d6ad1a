-- Authorizations of the CSC API: a signer authorizes a number of signatures, of which some digests may
-- not be known yet. The authorization itself is the challenge, as everywhere; here is how many further
-- signatures it is good for, and which challenge took its place.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE signing_transaction (
    challenge_id    uuid    PRIMARY KEY REFERENCES challenge (id),
    tenant_id       text    NOT NULL,
    signatures_left integer NOT NULL CHECK (signatures_left BETWEEN 0 AND 499), -- beyond the digests of the challenge
    extended_by     uuid    UNIQUE REFERENCES challenge (id)                    -- once, by one
);
ALTER TABLE signing_transaction ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_transaction FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON signing_transaction
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
