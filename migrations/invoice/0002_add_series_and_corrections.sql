-- Series of numbers, and which invoice corrects which.

-- +goose Up
SET lock_timeout = '5s';

-- An invoice corrects at most one other, and is corrected by at most one.
ALTER TABLE invoice ADD COLUMN corrects uuid, ADD COLUMN corrected_by uuid;
CREATE UNIQUE INDEX invoice_corrects ON invoice (tenant_id, corrects) WHERE corrects IS NOT NULL;

-- How the numbers of a series are written. Whoever takes a number holds the row in share, so that the
-- pattern stands still meanwhile.
CREATE TABLE series (
    tenant_id    text        NOT NULL,
    company_id   text        NOT NULL,
    id           text        NOT NULL,
    display_name text        NOT NULL,
    pattern      text        NOT NULL,
    version      integer     NOT NULL DEFAULT 1,
    create_time  timestamptz NOT NULL,
    update_time  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, company_id, id)
);
ALTER TABLE series ENABLE ROW LEVEL SECURITY;
ALTER TABLE series FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON series
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Where each year of a series stands. next grows in the transaction that stores the invoice and never
-- goes back once given is above zero: no gap, no number twice.
CREATE TABLE series_year (
    tenant_id  text     NOT NULL,
    company_id text     NOT NULL,
    series_id  text     NOT NULL,
    year       smallint NOT NULL,
    next       bigint   NOT NULL,
    given      bigint   NOT NULL,
    last_date  date,
    PRIMARY KEY (tenant_id, company_id, series_id, year)
) WITH (fillfactor = 50);
ALTER TABLE series_year ENABLE ROW LEVEL SECURITY;
ALTER TABLE series_year FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON series_year
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- ProgressivoInvio of composed files: new every time, in no order that anybody could count on.
CREATE SEQUENCE progressive;
