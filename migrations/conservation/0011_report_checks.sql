-- Checks of the archive, when they are due, and the reports that they leave.

-- +goose Up
SET lock_timeout = '5s';

-- Of all tenants: which check is due when. Whoever moves a row on starts the check.
CREATE TABLE archive_timer (
    kind text        PRIMARY KEY,
    due  timestamptz NOT NULL
);

-- A report belongs to whoever signs it; subject is the tenant whose documents were checked, empty for all.
-- RUNNING, then GOOD or PROBLEMS by what was found, or FAILED when the check could not be made.
CREATE TABLE archive_report (
    id         uuid        PRIMARY KEY,
    tenant_id  text        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('SCRUB', 'DEEP', 'COMPLETENESS', 'RESTORE_DRILL')),
    subject    text        NOT NULL DEFAULT '',
    asked_by   text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('RUNNING', 'GOOD', 'PROBLEMS', 'FAILED')),
    began_at   timestamptz NOT NULL,
    ended_at   timestamptz,
    content    bytea,               -- the report, JSON; its signed form is the object
    object_id  uuid REFERENCES archive_object (id),
    CHECK ((state = 'RUNNING') = (content IS NULL))
);
CREATE INDEX archive_report_list ON archive_report (id);
ALTER TABLE archive_report ENABLE ROW LEVEL SECURITY;
ALTER TABLE archive_report FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON archive_report
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- When a package was last judged from its bytes alone; NULL: never.
ALTER TABLE package ADD COLUMN deep_checked_at timestamptz;
CREATE INDEX package_deep ON package (deep_checked_at NULLS FIRST, id) WHERE state = 'SEALED';
