-- Keys that providers outside the house hold: which, since when, and every call that could have signed,
-- written down before it is made.

-- +goose Up
SET lock_timeout = '5s';

-- The provider that holds the key now; '' for a key in Vault. qualified: see the service's README.
ALTER TABLE credential ADD COLUMN provider text NOT NULL DEFAULT '';
ALTER TABLE credential ADD COLUMN qualified boolean NOT NULL DEFAULT false;
ALTER TABLE credential DROP CONSTRAINT credential_key_type_check;
ALTER TABLE credential ADD CONSTRAINT credential_key_type_check
    CHECK (key_type IN ('EC_P256', 'RSA_3072') OR (provider <> '' AND key_type IN ('RSA_2048', 'RSA_4096')));
ALTER TABLE credential DROP CONSTRAINT credential_check;
ALTER TABLE credential ADD CONSTRAINT credential_check CHECK (state <> 'ACTIVE' OR
    (cardinality(chain) > 0 AND not_before IS NOT NULL AND not_after IS NOT NULL AND (key_version > 0 OR provider <> '')));

-- Who holds a credential's key from when on. The one before goes on for challenges that were begun with it.
CREATE TABLE credential_holding (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    credential_id  uuid        NOT NULL REFERENCES credential (id),
    provider       text        NOT NULL CHECK (provider <> ''),
    remote_id      text        NOT NULL, -- the provider's name for the key
    remote_user    text        NOT NULL, -- the holder's account there; may be ''
    key_type       text        NOT NULL CHECK (key_type IN ('EC_P256', 'RSA_2048', 'RSA_3072', 'RSA_4096')),
    chain          bytea[]     NOT NULL CHECK (cardinality(chain) > 0), -- certificates, DER, leaf first
    not_before     timestamptz NOT NULL,
    not_after      timestamptz NOT NULL,
    scal           integer     NOT NULL CHECK (scal IN (1, 2)),
    multisign      integer     NOT NULL CHECK (multisign > 0),
    otp_id         text        NOT NULL, -- the device at the provider that passwords come from
    otp_kind       text        NOT NULL,
    qualified      boolean     NOT NULL,
    effective_from timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    CONSTRAINT credential_holding_date UNIQUE (credential_id, effective_from)
);
ALTER TABLE credential_holding ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_holding FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_holding
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

ALTER TABLE challenge ADD COLUMN holding_id uuid REFERENCES credential_holding (id);
ALTER TABLE challenge DROP CONSTRAINT challenge_state_check;
ALTER TABLE challenge ADD CONSTRAINT challenge_state_check
    CHECK (state IN ('OPEN', 'AUTHORIZED', 'SIGNING', 'SIGNED') OR (state = 'OUTCOME_UNKNOWN' AND holding_id IS NOT NULL));
ALTER TABLE challenge DROP CONSTRAINT challenge_check;
ALTER TABLE challenge ADD CONSTRAINT challenge_check CHECK (state IN ('OPEN', 'OUTCOME_UNKNOWN') OR
    (authorization_sha256 IS NOT NULL AND authorized_at IS NOT NULL AND (device_id IS NOT NULL OR holding_id IS NOT NULL)));

-- What a challenge is at the provider. The digests that are signed there (not those of the documents) follow
-- from the signing time, which is fixed here. The grant is encrypted under the authorization, of which the
-- database has only a digest: neither it nor the caller can use the grant alone.
CREATE TABLE provider_session (
    challenge_id     uuid        PRIMARY KEY REFERENCES challenge (id),
    tenant_id        text        NOT NULL,
    holding_id       uuid        NOT NULL REFERENCES credential_holding (id),
    signing_time     timestamptz NOT NULL,
    authorized       bytea[]     NOT NULL, -- digests that the provider is asked to authorize, SCAL 2
    sealed           bytea,
    grant_expires_at timestamptz,
    otp_sent_at      timestamptz
);
CREATE INDEX provider_session_sent ON provider_session (holding_id, otp_sent_at) WHERE otp_sent_at IS NOT NULL;
CREATE INDEX provider_session_sealed ON provider_session (challenge_id) WHERE sealed IS NOT NULL;
ALTER TABLE provider_session ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_session FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON provider_session
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A call that spends something at a provider: the row is committed before the request leaves. SENT with its
-- time over is UNKNOWN: the process ended before it could write down an answer.
CREATE TABLE provider_call (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    challenge_id  uuid        NOT NULL REFERENCES challenge (id),
    provider      text        NOT NULL,
    step          text        NOT NULL CHECK (step IN ('AUTHORIZE', 'SIGN')),
    hashes        integer     NOT NULL CHECK (hashes > 0),
    signed        integer     NOT NULL DEFAULT 0, -- signatures that came back and hold
    state         text        NOT NULL CHECK (state IN ('SENT', 'DONE', 'REFUSED', 'BUSY', 'UNKNOWN', 'RESOLVED')),
    code          text        NOT NULL DEFAULT '',
    sent_at       timestamptz NOT NULL,
    answer_by     timestamptz NOT NULL,
    ended_at      timestamptz,
    resolution    text        NOT NULL DEFAULT '' CHECK (resolution IN ('', 'SIGNED', 'NOT_SIGNED', 'UNDETERMINED')),
    note          text        NOT NULL DEFAULT '',
    resolved_at   timestamptz,
    CHECK ((state = 'RESOLVED') = (resolved_at IS NOT NULL AND resolution <> ''))
);
-- One call at a time, and none ever after one whose outcome is not known.
CREATE UNIQUE INDEX provider_call_once ON provider_call (challenge_id) WHERE state IN ('SENT', 'UNKNOWN', 'RESOLVED');
CREATE INDEX provider_call_list ON provider_call (tenant_id, id);
CREATE INDEX provider_call_sent ON provider_call (answer_by) WHERE state = 'SENT';
ALTER TABLE provider_call ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_call FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON provider_call
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Signature values as they came back, each verified with the certificate: what is here is not asked for again.
CREATE TABLE provider_signature (
    challenge_id uuid        NOT NULL REFERENCES challenge (id),
    tenant_id    text        NOT NULL,
    hash         bytea       NOT NULL CHECK (length(hash) = 32),
    signature    bytea       NOT NULL,
    made_at      timestamptz NOT NULL,
    PRIMARY KEY (challenge_id, hash)
);
ALTER TABLE provider_signature ENABLE ROW LEVEL SECURITY;
ALTER TABLE provider_signature FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON provider_signature
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
