-- The archive's own objects and where their copies are. Documents no longer rest on the platform's store.

-- +goose Up
SET lock_timeout = '5s';

-- An object is written once under its key into every replica: what one transaction took in (intake), a sealed
-- package, a report of a check.
CREATE TABLE archive_object (
    id           uuid        PRIMARY KEY,
    tenant_id    text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('intake', 'package', 'report')),
    key          text        NOT NULL UNIQUE,
    sha256       bytea       NOT NULL CHECK (length(sha256) = 32),
    size         bigint      NOT NULL CHECK (size >= 0),
    retain_until timestamptz NOT NULL,
    created_at   timestamptz NOT NULL
);
CREATE INDEX archive_object_list ON archive_object (tenant_id, kind, id);
ALTER TABLE archive_object ENABLE ROW LEVEL SECURITY;
ALTER TABLE archive_object FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON archive_object
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- OWED: the replica was away when the object was written. DAMAGED: what it holds is not the object.
CREATE TABLE archive_copy (
    object_id  uuid        NOT NULL REFERENCES archive_object (id),
    replica    text        NOT NULL,
    tenant_id  text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('GOOD', 'OWED', 'DAMAGED')),
    checked_at timestamptz,             -- last read whole and found right
    check_due  timestamptz NOT NULL,    -- the order of the checks, and their cursor
    PRIMARY KEY (object_id, replica)
);
CREATE INDEX archive_copy_due ON archive_copy (check_due) WHERE state = 'GOOD';
CREATE INDEX archive_copy_bad ON archive_copy (object_id) WHERE state <> 'GOOD';
ALTER TABLE archive_copy ENABLE ROW LEVEL SECURITY;
ALTER TABLE archive_copy FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON archive_copy
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What was found wrong with a copy, and what became of it.
CREATE TABLE archive_damage (
    id          uuid        PRIMARY KEY,
    object_id   uuid        NOT NULL REFERENCES archive_object (id),
    tenant_id   text        NOT NULL,
    replica     text        NOT NULL,
    problem     text        NOT NULL,
    found_at    timestamptz NOT NULL,
    quarantine  text        NOT NULL DEFAULT '', -- where the damaged bytes are kept
    repaired_at timestamptz
);
CREATE UNIQUE INDEX archive_damage_open ON archive_damage (object_id, replica) WHERE repaired_at IS NULL;
CREATE INDEX archive_damage_list ON archive_damage (id);
ALTER TABLE archive_damage ENABLE ROW LEVEL SECURITY;
ALTER TABLE archive_damage FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON archive_damage
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Replicas that are away, of all tenants: while one is, documents are taken in with one copy, openly.
CREATE TABLE archive_outage (
    replica text        PRIMARY KEY,
    since   timestamptz NOT NULL,
    reason  text        NOT NULL
);

-- Where the bytes of a file are: in an object, from this byte on. NULL: in the platform's store only.
ALTER TABLE unit_file ADD COLUMN object_id uuid, ADD COLUMN object_offset bigint;
ALTER TABLE unit_file ADD CONSTRAINT unit_file_place CHECK ((object_id IS NULL) = (object_offset IS NULL));
ALTER TABLE package ADD COLUMN object_id uuid;
