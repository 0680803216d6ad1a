-- Who else saw what the log stated, and who was told.

-- +goose Up
SET lock_timeout = '5s';

-- Cosignatures of witnesses over checkpoints, as lines of signed notes. Of all tenants, like the checkpoints.
CREATE TABLE log_cosignature (
    size        bigint      NOT NULL REFERENCES log_checkpoint (size),
    witness     text        NOT NULL,
    line        bytea       NOT NULL,
    cosigned_at timestamptz NOT NULL,
    PRIMARY KEY (size, witness)
);

-- How each witness stands: the size that it cosigned last, and why it does not cosign now.
CREATE TABLE log_witness (
    witness     text        PRIMARY KEY,
    size        bigint      NOT NULL,
    cosigned_at timestamptz,
    trouble     text        NOT NULL DEFAULT ''
);

-- One row while too few witnesses cosign.
CREATE TABLE log_unwitnessed (
    only_one boolean     PRIMARY KEY DEFAULT true CHECK (only_one),
    since    timestamptz NOT NULL,
    reason   text        NOT NULL
);

-- Which checkpoint each tenant was told of last.
CREATE TABLE log_statement (
    tenant_id text        PRIMARY KEY,
    size      bigint      NOT NULL,
    told_at   timestamptz NOT NULL
);
ALTER TABLE log_statement ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_statement FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON log_statement
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
