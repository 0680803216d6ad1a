-- Who wants to be told of what, and what became of each attempt to tell them.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE webhook_endpoint (
    tenant_id       text        NOT NULL,
    id              uuid        NOT NULL,
    url             text        NOT NULL,
    event_types     text[]      NOT NULL,
    disabled        boolean     NOT NULL,
    disable_reason  text        NOT NULL DEFAULT '',
    secret          bytea       NOT NULL, -- encrypted, see secret.go
    previous_secret bytea,                -- still signs until previous_until
    previous_until  timestamptz,
    failing_since   timestamptz,          -- first failure after the last success
    version         integer     NOT NULL DEFAULT 1,
    create_time     timestamptz NOT NULL,
    update_time     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE webhook_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE webhook_endpoint FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON webhook_endpoint
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE email_subscription (
    tenant_id   text        NOT NULL,
    id          uuid        NOT NULL,
    address     text        NOT NULL,
    event_types text[]      NOT NULL,
    language    text        NOT NULL CHECK (language IN ('it', 'en')),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE email_subscription ENABLE ROW LEVEL SECURITY;
ALTER TABLE email_subscription FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON email_subscription
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- One event on its way to one target. It outlives the target: it is the record of what was sent.
CREATE TABLE delivery (
    tenant_id         text        NOT NULL,
    id                uuid        NOT NULL,
    channel           text        NOT NULL CHECK (channel IN ('webhook', 'email')),
    target_id         uuid        NOT NULL,
    event_id          uuid        NOT NULL,
    event_type        text        NOT NULL,
    event_time        timestamptz NOT NULL,
    invoice           text        NOT NULL,
    payload           bytea       NOT NULL, -- the body, byte for byte what is signed and posted
    state             smallint    NOT NULL,
    tries             integer     NOT NULL DEFAULT 0, -- since the last time it was (re)started
    attempts          jsonb       NOT NULL DEFAULT '[]',
    next_attempt_time timestamptz,
    create_time       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX delivery_event ON delivery (tenant_id, target_id, event_id);
CREATE INDEX delivery_invoice ON delivery (tenant_id, invoice, id);
ALTER TABLE delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON delivery
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
