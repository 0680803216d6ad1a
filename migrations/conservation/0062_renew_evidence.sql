-- Evidence records (RFC 4998) that outlive the certificates of time stamps, and more kinds of objects and checks.

-- +goose Up
SET lock_timeout = '5s';

-- Kinds are the program's matter: a list here would have to be changed with each.
ALTER TABLE archive_object DROP CONSTRAINT archive_object_kind_check;
ALTER TABLE archive_object ADD CONSTRAINT archive_object_kind_check CHECK (kind ~ '^[a-z_]+$');
ALTER TABLE archive_report DROP CONSTRAINT archive_report_kind_check;
ALTER TABLE archive_report ADD CONSTRAINT archive_report_kind_check CHECK (kind ~ '^[A-Z_]+$');

-- Each renewal is a whole record, kept beside the package; the former ones stay.
CREATE TABLE package_evidence (
    package_id uuid        NOT NULL REFERENCES package (id),
    number     integer     NOT NULL CHECK (number > 0),
    tenant_id  text        NOT NULL,
    object_id  uuid        NOT NULL REFERENCES archive_object (id),
    renewal    text        NOT NULL CHECK (renewal IN ('INITIAL', 'TIME_STAMP', 'HASH_TREE')),
    hash       text        NOT NULL,
    stamped_at timestamptz NOT NULL,
    until_at   timestamptz NOT NULL,
    PRIMARY KEY (package_id, number)
);
ALTER TABLE package_evidence ENABLE ROW LEVEL SECURITY;
ALTER TABLE package_evidence FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON package_evidence
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Inventories go through keys in the order of their bytes, as the replicas list them.
CREATE INDEX archive_object_bytes ON archive_object (key COLLATE "C");

-- Until when the last time stamp of a package can be verified; no row: nobody looked yet.
CREATE TABLE package_term (
    package_id uuid        PRIMARY KEY REFERENCES package (id),
    tenant_id  text        NOT NULL,
    until_at   timestamptz NOT NULL
);
CREATE INDEX package_term_due ON package_term (until_at, package_id);
ALTER TABLE package_term ENABLE ROW LEVEL SECURITY;
ALTER TABLE package_term FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON package_term
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
