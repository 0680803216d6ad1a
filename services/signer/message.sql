-- Passwords that are sent.

-- name: PutMessage :execrows
-- A new password takes the place of the one before, not too soon after it and not too often a day.
INSERT INTO otp_message (device_id, tenant_id, binding, mac, tries, sent_at, expires_at, day, sent_today)
SELECT d.id, d.tenant_id, @binding, @mac, 0, @at, @expires_at, @today, 1
FROM otp_device d WHERE d.id = @device_id AND d.state <> 'REMOVED' AND d.type IN ('SMS', 'EMAIL')
ON CONFLICT (device_id) DO UPDATE SET binding = excluded.binding, mac = excluded.mac, tries = 0, sent_at = excluded.sent_at,
       expires_at = excluded.expires_at, day = excluded.day,
       sent_today = CASE WHEN otp_message.day = excluded.day THEN otp_message.sent_today ELSE 0 END + 1
WHERE (otp_message.sent_at <= @sent_before OR otp_message.binding <> excluded.binding)
  AND CASE WHEN otp_message.day = excluded.day THEN otp_message.sent_today ELSE 0 END < (@per_day::integer);

-- name: UnsendMessage :exec
-- Nobody took the message: the next one need not wait.
UPDATE otp_message SET expires_at = @at, sent_at = @sent_before WHERE device_id = @device_id AND mac = @mac;

-- name: TryMessage :one
-- One of the few tries at a password, of what it was sent for and while it holds.
UPDATE otp_message SET tries = tries + 1
WHERE device_id = @device_id AND binding = @binding AND expires_at > @at AND tries < (@allowed::integer)
RETURNING mac;
