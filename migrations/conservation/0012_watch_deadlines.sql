-- Until when the documents of a fiscal year must be sealed, and who was warned of it.

-- +goose Up
SET lock_timeout = '5s';

-- What differs from the calendar year, or from the rule. A year without a row ends on 31 December and is due
-- by the rule.
CREATE TABLE fiscal_year (
    tenant_id   text    NOT NULL,
    fiscal_year integer NOT NULL CHECK (fiscal_year BETWEEN 2000 AND 2200),
    ends_on     date    NOT NULL,
    deadline    date    NOT NULL CHECK (deadline > ends_on),
    PRIMARY KEY (tenant_id, fiscal_year)
);
ALTER TABLE fiscal_year ENABLE ROW LEVEL SECURITY;
ALTER TABLE fiscal_year FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON fiscal_year
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Warnings that were given, each once for a deadline: a deadline that is moved warns anew.
CREATE TABLE deadline_alarm (
    tenant_id   text    NOT NULL,
    fiscal_year integer NOT NULL,
    deadline    date    NOT NULL,
    days        integer NOT NULL, -- before the deadline: 90, 60, 30, 7
    given_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, fiscal_year, deadline, days)
);
ALTER TABLE deadline_alarm ENABLE ROW LEVEL SECURITY;
ALTER TABLE deadline_alarm FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON deadline_alarm
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What is not sealed yet: little, whatever the archive holds.
CREATE INDEX unit_unsealed ON unit (tenant_id, fiscal_year) WHERE state IN ('TAKEN_IN_CHARGE', 'ASSIGNED');
