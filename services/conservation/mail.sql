-- name: InsertMailItem :exec
INSERT INTO mail_item (tenant_id, mailbox, day, message) VALUES (@tenant_id, @mailbox, @day, @message) ON CONFLICT DO NOTHING;

-- name: InsertMailDay :execrows
INSERT INTO mail_day (tenant_id, mailbox, day, messages, register_sha256, close_time)
VALUES (@tenant_id, @mailbox, @day, @messages, @register_sha256, @close_time) ON CONFLICT DO NOTHING;

-- name: GetMailDay :one
SELECT * FROM mail_day WHERE tenant_id = @tenant_id AND mailbox = @mailbox AND day = @day;

-- name: ListMailDays :many
SELECT * FROM (
    SELECT d.mailbox, d.day, d.messages, d.register_sha256, d.close_time,
        (SELECT count(*) FROM mail_item i WHERE i.tenant_id = d.tenant_id AND i.mailbox = d.mailbox AND i.day = d.day
            AND EXISTS (SELECT 1 FROM unit u WHERE u.tenant_id = i.tenant_id AND u.subject = i.message AND u.state <> 'REFUSED')) AS kept
    FROM mail_day d WHERE d.tenant_id = @tenant_id AND (@mailbox::text = '' OR d.mailbox = @mailbox)
      AND (sqlc.narg(before_day)::date IS NULL OR (d.day, d.mailbox) < (sqlc.narg(before_day)::date, @before_mailbox::text))
) x
WHERE NOT @incomplete::boolean OR x.kept <> x.messages
ORDER BY x.day DESC, x.mailbox DESC LIMIT @page;

-- name: ShortMailDays :many
-- Days with fewer messages in custody than the gateway counted. A message counts while its unit is there, also as one that was
-- destroyed by a disposal: its subject stays when its key does not.
SELECT d.mailbox, d.day, d.messages, count(i.message) AS kept
FROM mail_day d LEFT JOIN mail_item i ON i.tenant_id = d.tenant_id AND i.mailbox = d.mailbox AND i.day = d.day
    AND EXISTS (SELECT 1 FROM unit u WHERE u.tenant_id = i.tenant_id AND u.subject = i.message AND u.state <> 'REFUSED')
WHERE d.tenant_id = @tenant_id AND d.close_time < @before::timestamptz
GROUP BY d.mailbox, d.day, d.messages HAVING count(i.message) <> d.messages
ORDER BY d.day, d.mailbox LIMIT @page;

-- name: CountMailDays :one
SELECT count(*) FROM mail_day WHERE tenant_id = @tenant_id AND close_time < @before::timestamptz;
