-- +goose Up
-- A distribution is held before its signature is asked for, with the index that is to be signed: whoever dies in between, the next attempt asks for
-- the same, and built anew it would hold later proofs of the log. What was signed is held until it is stamped.
SET lock_timeout = '5s';

ALTER TABLE distribution ADD COLUMN signed_sha256 bytea CHECK (length(signed_sha256) = 32), ADD COLUMN signed_size bigint;

-- What was stored for distributions in the platform's store, noted before it is stored. What is none when its distribution is ready goes with the
-- eraser's next run, and the rest with the first document in it.
CREATE TABLE distribution_blob (
    distribution_id uuid        NOT NULL REFERENCES distribution (id),
    sha256          bytea       NOT NULL CHECK (length(sha256) = 32),
    tenant_id       text        NOT NULL,
    size            bigint      NOT NULL,
    noted_at        timestamptz NOT NULL,
    PRIMARY KEY (distribution_id, sha256)
);
CREATE INDEX distribution_blob_bytes ON distribution_blob (tenant_id, sha256);
ALTER TABLE distribution_blob ENABLE ROW LEVEL SECURITY;
ALTER TABLE distribution_blob FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON distribution_blob
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

SELECT set_config('ceralacca.scope', 'system', true);
INSERT INTO distribution_blob (distribution_id, sha256, tenant_id, size, noted_at)
SELECT id, held_sha256, tenant_id, held_size, asked_at FROM distribution WHERE held_sha256 IS NOT NULL;
SELECT set_config('ceralacca.scope', '', true);
