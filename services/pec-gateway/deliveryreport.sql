-- A report of ordinary mail about an envelope names it by the provider's identifier, and may come before the acceptance
-- that says what message of ours that is.
-- name: LinkDeliveryReports :exec
UPDATE message SET about_id = @about_id
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = 1 AND about_id IS NULL AND @identificativo::text <> '' AND reference = @identificativo
  AND EXISTS (SELECT FROM unnest(doubts) d WHERE d LIKE 'DELIVERY_REPORT: %');
