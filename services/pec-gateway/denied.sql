-- Where messages and drafts are that are not in a mailbox.
-- name: MailboxesOf :many
SELECT m.mailbox_id FROM message m WHERE m.tenant_id = @tenant_id AND m.id = ANY(@ids::uuid[]) AND m.mailbox_id <> @mailbox_id
UNION
SELECT d.mailbox_id FROM draft d WHERE d.tenant_id = @tenant_id AND d.id = ANY(@ids::uuid[]) AND d.mailbox_id <> @mailbox_id;
