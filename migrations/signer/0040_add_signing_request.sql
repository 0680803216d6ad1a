-- Signature requests: documents that several persons approve and sign, in steps.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE signing_request (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    title          text        NOT NULL,
    requester      text        NOT NULL, -- the caller
    state          text        NOT NULL CHECK (state IN ('OPEN', 'COMPLETED', 'REFUSED', 'WITHDRAWN', 'EXPIRED')),
    step           integer     NOT NULL, -- from 0
    needs          integer[]   NOT NULL CHECK (cardinality(needs) BETWEEN 1 AND 20), -- how many have to act, by step
    deadline       timestamptz NOT NULL,
    remind_seconds bigint      NOT NULL DEFAULT 0, -- 0: never
    reminded_at    timestamptz,
    stamped        boolean     NOT NULL DEFAULT false, -- a time-stamp on each signature
    seal_mandate   text        NOT NULL DEFAULT '',
    -- The last line of the audit trail: one that is cut off at the end is missed here.
    sequence       bigint      NOT NULL DEFAULT 0,
    head           bytea       NOT NULL CHECK (length(head) = 32),
    -- Who signs just now, until when: signatures in one file are made one after the other.
    hand           uuid,
    hand_request   text        NOT NULL DEFAULT '',
    hand_until     timestamptz,
    created_at     timestamptz NOT NULL,
    closed_at      timestamptz,
    close_reason   text        NOT NULL DEFAULT '',
    bundle_sha256  bytea       CHECK (length(bundle_sha256) = 32),
    bundle_size    bigint,
    bundled_at     timestamptz,
    bundle_note    text        NOT NULL DEFAULT '',
    CHECK ((state = 'OPEN') = (closed_at IS NULL)),
    CHECK (bundled_at IS NULL OR (state <> 'OPEN' AND bundle_sha256 IS NOT NULL AND bundle_size IS NOT NULL))
);
CREATE INDEX signing_request_list ON signing_request (tenant_id, id);
ALTER TABLE signing_request ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_request FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON signing_request
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE signing_request_document (
    request_id      uuid    NOT NULL REFERENCES signing_request (id),
    position        integer NOT NULL, -- from 1
    tenant_id       text    NOT NULL,
    name            text    NOT NULL,
    form            text    NOT NULL CHECK (form IN ('CADES_ATTACHED', 'CADES_PARALLEL', 'XADES_ENVELOPED', 'PADES')),
    original_sha256 bytea   NOT NULL CHECK (length(original_sha256) = 32),
    original_size   bigint  NOT NULL,
    -- With the signatures made so far.
    signed_sha256   bytea   CHECK (length(signed_sha256) = 32),
    signed_size     bigint,
    PRIMARY KEY (request_id, position)
);
ALTER TABLE signing_request_document ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_request_document FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON signing_request_document
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE signing_request_participant (
    id                   uuid        PRIMARY KEY,
    request_id           uuid        NOT NULL REFERENCES signing_request (id),
    tenant_id            text        NOT NULL,
    step                 integer     NOT NULL,
    ordinal              integer     NOT NULL, -- over the whole request; a successor comes last
    role                 text        NOT NULL CHECK (role IN ('SIGNER', 'APPROVER')),
    standing             text        NOT NULL CHECK (standing IN ('WAITING', 'ASKED', 'DONE', 'REFUSED', 'NOT_NEEDED', 'REPLACED')),
    holder               text        NOT NULL DEFAULT '',
    email                text        NOT NULL DEFAULT '',
    credential           text        NOT NULL DEFAULT '',
    language             text        NOT NULL CHECK (language IN ('it', 'en')),
    require_link         boolean     NOT NULL DEFAULT false,
    delegate_holder      text        NOT NULL DEFAULT '',
    delegate_email       text        NOT NULL DEFAULT '',
    delegate_may_approve boolean     NOT NULL DEFAULT false,
    delegate_until       timestamptz, -- set: there is a delegate
    -- Digest over what was viewed last, by the participant and by the delegate.
    seen                 bytea       CHECK (length(seen) = 32),
    seen_by_delegate     bytea       CHECK (length(seen_by_delegate) = 32),
    viewed_at            timestamptz,
    acted_at             timestamptz,
    reason               text        NOT NULL DEFAULT '',
    challenge_id         uuid        REFERENCES challenge (id),
    CONSTRAINT signing_request_participant_order UNIQUE (request_id, ordinal)
);
CREATE INDEX signing_request_participant_holder ON signing_request_participant (tenant_id, holder, request_id) WHERE holder <> '';
CREATE INDEX signing_request_participant_email ON signing_request_participant (tenant_id, email, request_id) WHERE email <> '';
-- A challenge signs in one place only.
CREATE UNIQUE INDEX signing_request_participant_challenge ON signing_request_participant (challenge_id);
ALTER TABLE signing_request_participant ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_request_participant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON signing_request_participant
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The audit trail. body is canonical JSON and names the hash of the line before: a line that is missing or
-- changed is seen. The service may read and add lines; there is no policy that lets it change or remove one.
CREATE TABLE signing_request_event (
    request_id uuid        NOT NULL REFERENCES signing_request (id),
    sequence   bigint      NOT NULL CHECK (sequence > 0),
    tenant_id  text        NOT NULL,
    body       bytea       NOT NULL,
    sha256     bytea       NOT NULL CHECK (length(sha256) = 32),
    PRIMARY KEY (request_id, sequence)
);
ALTER TABLE signing_request_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_request_event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_reads ON signing_request_event FOR SELECT
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
CREATE POLICY tenant_adds ON signing_request_event FOR INSERT
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Codes that were mailed: 256 random bits, of which only the SHA-256 is here.
CREATE TABLE signing_request_link (
    participant_id uuid        NOT NULL REFERENCES signing_request_participant (id),
    for_delegate   boolean     NOT NULL,
    tenant_id      text        NOT NULL,
    sha256         bytea       NOT NULL CHECK (length(sha256) = 32),
    sent_at        timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    used_at        timestamptz,
    PRIMARY KEY (participant_id, for_delegate)
);
ALTER TABLE signing_request_link ENABLE ROW LEVEL SECURITY;
ALTER TABLE signing_request_link FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON signing_request_link
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
