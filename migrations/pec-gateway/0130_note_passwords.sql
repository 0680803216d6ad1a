-- When the password of a mailbox was given: its days count from then on, whenever its owner says how many they are.

-- +goose Up
SET lock_timeout = '5s';

SELECT set_config('ceralacca.scope', 'system', true);

ALTER TABLE mailbox ADD COLUMN password_time timestamptz; -- null: with the mailbox

UPDATE mailbox m SET password_time = p.password_time FROM mailbox_policy p
WHERE p.tenant_id = m.tenant_id AND p.mailbox_id = m.id AND p.password_time IS NOT NULL;
