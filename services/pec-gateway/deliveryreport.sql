-- A report of ordinary mail about an envelope, or the envelope itself that came back in an anomaly, names it by the provider's
-- identifier, and may come before the acceptance that says what message of ours that is.
-- name: LinkDeliveryReports :exec
UPDATE message SET about_id = @about_id
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = 1 AND about_id IS NULL AND @identificativo::text <> '' AND reference = @identificativo
  AND EXISTS (SELECT FROM unnest(doubts) d WHERE d LIKE 'DELIVERY_REPORT: %' OR d LIKE 'WRAPPED_MAIL: %');

-- Receipts that name no message of ours by its Message-ID, and one by the provider's identifier that is known by now.
-- name: LateReceipts :many
SELECT r.tenant_id, r.mailbox_id, r.id FROM message r
JOIN message m ON m.tenant_id = r.tenant_id AND m.mailbox_id = r.mailbox_id AND m.direction = 2 AND m.identificativo = r.identificativo
WHERE r.direction = 1 AND r.proven AND r.about_id IS NULL AND r.reference = '' AND r.identificativo <> '' AND r.tipo = ANY(@tipi::text[])
ORDER BY r.id LIMIT @most;
