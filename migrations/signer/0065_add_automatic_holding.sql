-- Keys at providers that sign without a person: automatic signatures and seals.

-- +goose Up
SET lock_timeout = '5s';

-- The name of the secret in Vault that the provider signs for; '' for persons, who bring their own.
ALTER TABLE credential_holding ADD COLUMN secret text NOT NULL DEFAULT '';

-- What is signed at a provider without a person has a challenge too, of the request under a mandate or of the invoice's
-- signature: it is the intent, it fixes the signing time and with it what is signed, and its calls are written down
-- with it. It is authorized by the mandate (or by the company, which has the credential for its invoices): nobody can
-- show its authorization, for that is the digest of nothing.
ALTER TABLE challenge ADD COLUMN signing_id uuid REFERENCES document_signing (id);
ALTER TABLE challenge ADD COLUMN signature_id uuid REFERENCES signature (id);
ALTER TABLE challenge ADD CONSTRAINT challenge_mandated CHECK
    ((signing_id IS NULL OR signature_id IS NULL) AND ((signing_id IS NULL AND signature_id IS NULL) OR holding_id IS NOT NULL));
CREATE UNIQUE INDEX challenge_signing ON challenge (signing_id) WHERE signing_id IS NOT NULL;
-- One whose outcome is not known is in the way of no other: that there may be another is for a person to say.
CREATE UNIQUE INDEX challenge_signature ON challenge (signature_id) WHERE signature_id IS NOT NULL AND state <> 'OUTCOME_UNKNOWN';
