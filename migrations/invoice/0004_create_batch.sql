-- Bulk work: batches, their files and the pieces of uploaded archives; which batch an invoice came with.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE invoice ADD COLUMN batch_id uuid;

-- One row per batch. Its id is the request id of the upload, so that who lost the connection can find it.
-- The counts are kept by whoever changes files, in the same transaction: nobody ever counts rows.
CREATE TABLE batch (
    tenant_id      text        NOT NULL,
    id             uuid        NOT NULL,
    company_id     text        NOT NULL,
    kind           smallint    NOT NULL,
    display_name   text        NOT NULL,
    state          smallint    NOT NULL,
    failure        text        NOT NULL DEFAULT '',
    -- The upload is one ZIP archive, and its files are known once it is complete.
    archive        boolean     NOT NULL DEFAULT false,
    -- A job works on it, or is promised.
    working        boolean     NOT NULL DEFAULT false,
    received_files bigint      NOT NULL DEFAULT 0,
    received_bytes bigint      NOT NULL DEFAULT 0,
    files          bigint      NOT NULL DEFAULT 0,
    created        bigint      NOT NULL DEFAULT 0,
    refused        bigint      NOT NULL DEFAULT 0,
    duplicates     bigint      NOT NULL DEFAULT 0,
    cancelled      bigint      NOT NULL DEFAULT 0,
    ignored        bigint      NOT NULL DEFAULT 0,
    seq            bigint      GENERATED ALWAYS AS IDENTITY,
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX batch_seq ON batch (tenant_id, seq);
ALTER TABLE batch ENABLE ROW LEVEL SECURITY;
ALTER TABLE batch FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON batch
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- One row per file. uri is where the bytes of an uploaded file are; a member of an archive has none, and
-- place is its number in the list of the archive.
CREATE TABLE batch_file (
    tenant_id   text     NOT NULL,
    batch_id    uuid     NOT NULL,
    idx         bigint   NOT NULL,
    file_name   text     NOT NULL,
    size        bigint   NOT NULL,
    external_id text     NOT NULL,
    uri         text     NOT NULL,
    place       integer  NOT NULL DEFAULT 0,
    state       smallint NOT NULL,
    -- The invoice that was created, or that holds the number (of invoice_company).
    invoice_id      uuid,
    invoice_company text  NOT NULL DEFAULT '',
    code        text     NOT NULL DEFAULT '',
    message     text     NOT NULL DEFAULT '',
    violations  jsonb    NOT NULL DEFAULT '[]',
    PRIMARY KEY (tenant_id, batch_id, idx)
);
CREATE INDEX batch_file_state ON batch_file (tenant_id, batch_id, state, idx);
ALTER TABLE batch_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE batch_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON batch_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The pieces of an uploaded archive, by reference, one after the other without a gap.
CREATE TABLE batch_part (
    tenant_id text   NOT NULL,
    batch_id  uuid   NOT NULL,
    start     bigint NOT NULL,
    size      bigint NOT NULL,
    uri       text   NOT NULL,
    PRIMARY KEY (tenant_id, batch_id, start)
);
ALTER TABLE batch_part ENABLE ROW LEVEL SECURITY;
ALTER TABLE batch_part FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON batch_part
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
