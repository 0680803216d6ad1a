-- The terms of a mailbox took the moment at which somebody first said how many days its password lasts for the day that the password was
-- given, and 0130 kept that. Where the audit records reach back to the mailbox's beginning they know better: it was given with the mailbox,
-- or when it was last changed. A day that somebody stated since, and one that is right, stay; records that were cut say nothing.

-- +goose Up
SET lock_timeout = '5s';

SELECT set_config('ceralacca.scope', 'system', true);

WITH known AS (
    SELECT m.tenant_id, m.id, m.password_time AS said, coalesce(max(a.at) FILTER (WHERE a.action = 'mailbox.password' AND a.outcome = 'ok'), m.create_time) AS at
    FROM mailbox m JOIN mailbox_policy p ON p.tenant_id = m.tenant_id AND p.mailbox_id = m.id AND p.password_time = m.password_time
    JOIN audit_entry a ON a.tenant_id = m.tenant_id AND a.resource = 'tenants/' || m.tenant_id || '/mailboxes/' || m.id
    GROUP BY m.tenant_id, m.id
    HAVING bool_or(a.action = 'mailbox.create')
), given AS (
    SELECT * FROM known WHERE at < said - interval '1 minute'
), mailboxes AS (
    UPDATE mailbox m SET password_time = g.at FROM given g WHERE m.tenant_id = g.tenant_id AND m.id = g.id
)
UPDATE mailbox_policy p SET password_time = g.at, warned_password = NULL FROM given g WHERE p.tenant_id = g.tenant_id AND p.mailbox_id = g.id;
