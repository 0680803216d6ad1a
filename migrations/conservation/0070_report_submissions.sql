-- +goose Up
-- What came by event, gathered for its report (rapporto di versamento), and where tenants are told by certified mail what the log states.
SET lock_timeout = '5s';

-- Leaves first_sequence to last_sequence of a tenant's chain. The report is made by a job, from these rows alone.
CREATE TABLE submission (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    first_sequence bigint      NOT NULL CHECK (first_sequence > 0),
    last_sequence  bigint      NOT NULL CHECK (last_sequence >= first_sequence),
    unit_count     integer     NOT NULL CHECK (unit_count > 0),
    fiscal_year    integer     NOT NULL, -- the last one in it: the report is kept as long as what it tells of
    years          integer     NOT NULL, -- of the class that is kept longest
    created_at     timestamptz NOT NULL,
    report_id      uuid, -- object of the signed report
    stamp_id       uuid, -- object of its time stamp
    report         bytea,
    stamp          bytea,
    stamped_at     timestamptz,
    UNIQUE (tenant_id, last_sequence),
    CHECK ((report IS NULL) = (stamped_at IS NULL))
);
CREATE INDEX submission_list ON submission (tenant_id, id);
ALTER TABLE submission ENABLE ROW LEVEL SECURITY;
ALTER TABLE submission FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON submission
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Up to which leaf a tenant's chain is in submissions.
CREATE TABLE submission_cursor (
    tenant_id text   PRIMARY KEY,
    sequence  bigint NOT NULL
);
ALTER TABLE submission_cursor ENABLE ROW LEVEL SECURITY;
ALTER TABLE submission_cursor FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON submission_cursor
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- request_id is of the last message, by which a refusal is known.
CREATE TABLE statement_mail (
    tenant_id  text        PRIMARY KEY,
    mailbox    text        NOT NULL,
    address    text        NOT NULL,
    sent_size  bigint      NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    request_id uuid,
    trouble    text        NOT NULL DEFAULT ''
);
ALTER TABLE statement_mail ENABLE ROW LEVEL SECURITY;
ALTER TABLE statement_mail FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON statement_mail
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
