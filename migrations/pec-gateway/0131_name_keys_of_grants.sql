-- Grants named an API key by its id alone, as the contract says, and a caller was compared by the key's whole name: whoever was on such a
-- list was let in by nothing. They have the whole name now.

-- +goose Up
SET lock_timeout = '5s';

SELECT set_config('ceralacca.scope', 'system', true);

DELETE FROM mailbox_grant g USING mailbox_grant whole
WHERE g.caller LIKE 'key:%' AND strpos(g.caller, '/') = 0 AND whole.tenant_id = g.tenant_id AND whole.mailbox_id = g.mailbox_id
  AND whole.caller = 'key:tenants/' || g.tenant_id || '/apiKeys/' || substr(g.caller, 5);

UPDATE mailbox_grant SET caller = 'key:tenants/' || tenant_id || '/apiKeys/' || substr(caller, 5)
WHERE caller LIKE 'key:%' AND strpos(caller, '/') = 0;
