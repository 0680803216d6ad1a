-- Certified mail as a channel.

-- name: AllPecChannels :many
-- What the choice of a channel needs to know of each company that has a mailbox.
SELECT c.tenant_id, c.company, c.mailbox, c.preference, b.problem, b.retry_at, b.degraded_at,
       coalesce((SELECT min(m.created_at) FROM pec_mailing m WHERE m.mailbox = c.mailbox AND m.state IN ('REQUESTED', 'QUEUED')), 'epoch')::timestamptz AS leaving_since,
       coalesce((SELECT min(m.created_at) FROM pec_mailing m WHERE m.mailbox = c.mailbox AND m.state NOT IN ('FAILED', 'OVERDUE') AND m.outcome_id IS NULL), 'epoch')::timestamptz AS first_at,
       EXISTS (SELECT 1 FROM pec_address a WHERE a.mailbox = c.mailbox) AS assigned,
       coalesce((SELECT r.problem FROM pec_arrival r WHERE r.problem LIKE 'PEC_TWO_ADDRESSES: %' AND starts_with(r.message, c.mailbox || '/')
               AND coalesce(r.certified_at, r.received_at) > coalesce((SELECT max(a.assigned_at) FROM pec_address a WHERE a.mailbox = c.mailbox), '-infinity')
               ORDER BY coalesce(r.certified_at, r.received_at) DESC LIMIT 1), '')::text AS doubt,
       EXISTS (SELECT 1 FROM transmission t WHERE t.tenant_id = c.tenant_id AND t.channel = 'PEC' AND t.mailing_id IS NULL
               AND starts_with(t.invoice, c.company || '/')) AS waiting
FROM pec_channel c JOIN pec_mailbox b ON b.mailbox = c.mailbox
ORDER BY c.company;

-- name: SetPecChannel :exec
INSERT INTO pec_channel (tenant_id, company, mailbox, preference, updated_at, updated_by)
VALUES (@tenant_id, @company, @mailbox, @preference, @now, @updated_by)
ON CONFLICT (company) DO UPDATE SET mailbox = excluded.mailbox, preference = excluded.preference, updated_at = excluded.updated_at,
    updated_by = excluded.updated_by;

-- name: AddPecMailbox :exec
INSERT INTO pec_mailbox (tenant_id, mailbox) VALUES (@tenant_id, @mailbox) ON CONFLICT DO NOTHING;

-- name: GetPecChannel :one
SELECT company, mailbox, preference, updated_at, updated_by FROM pec_channel WHERE company = @company;

-- name: ListPecChannels :many
SELECT company, mailbox, preference, updated_at, updated_by FROM pec_channel
WHERE (@tenant_id::text = '' OR tenant_id = @tenant_id) AND company > @after ORDER BY company LIMIT @n;

-- name: CountPecWaiting :one
SELECT count(*) FROM transmission
WHERE tenant_id = @tenant_id AND channel = 'PEC' AND mailing_id IS NULL AND facts = 0 AND starts_with(invoice, @company::text || '/');

-- name: LockPecMailbox :one
-- One process at a time sends from a mailbox.
SELECT mailbox, failures, retry_at, problem FROM pec_mailbox WHERE mailbox = @mailbox FOR UPDATE;

-- name: SettlePecMailbox :exec
UPDATE pec_mailbox SET failures = @failures, retry_at = sqlc.narg(retry_at), problem = @problem WHERE mailbox = @mailbox;

-- name: DegradePecMailbox :exec
UPDATE pec_mailbox SET degraded_at = sqlc.narg(degraded_at), problem = @problem WHERE mailbox = @mailbox;

-- name: PecMailboxFacts :one
SELECT EXISTS (SELECT 1 FROM pec_mailing m WHERE m.mailbox = sqlc.arg(mailbox)::text AND m.state IN ('REQUESTED', 'QUEUED'))::bool AS leaving,
       EXISTS (SELECT 1 FROM pec_mailing m WHERE m.mailbox = sqlc.arg(mailbox)::text AND m.state NOT IN ('FAILED', 'OVERDUE') AND m.outcome_id IS NULL)::bool AS begun,
       coalesce((SELECT a.address FROM pec_address a WHERE a.mailbox = sqlc.arg(mailbox)::text ORDER BY a.assigned_at DESC, a.id DESC LIMIT 1), '')::text AS address;

-- name: AssignedAddress :one
SELECT coalesce((SELECT a.address FROM pec_address a WHERE a.mailbox = @mailbox ORDER BY a.assigned_at DESC, a.id DESC LIMIT 1), '')::text;

-- name: MailingsToTakeBack :many
-- Those that no provider has and that would go to an address that SdI has left; answers go to where their invoice came from.
SELECT m.id, m.mailbox, m.message, m.address, a.address AS assigned FROM pec_mailing m
JOIN LATERAL (SELECT x.address FROM pec_address x WHERE x.mailbox = m.mailbox ORDER BY x.assigned_at DESC, x.id DESC LIMIT 1) a ON a.address <> m.address
WHERE m.state = 'QUEUED' AND m.message <> '' AND m.outcome_id IS NULL
ORDER BY m.id LIMIT @n;

-- name: PickForMailing :many
SELECT id, tenant_id, invoice, file_name, file_uri, traceparent FROM transmission
WHERE tenant_id = @tenant_id AND channel = 'PEC' AND mailing_id IS NULL AND facts = 0 AND state = 'RESERVED'
  AND starts_with(invoice, @company::text || '/')
ORDER BY created_at, id LIMIT @n
FOR UPDATE SKIP LOCKED;

-- name: InsertMailing :exec
INSERT INTO pec_mailing (id, tenant_id, mailbox, address, file_names, outcome_id, created_at, updated_at)
VALUES (@id, @tenant_id, @mailbox, @address, @file_names, sqlc.narg(outcome_id), @now, @now);

-- name: InsertMailingFiles :exec
INSERT INTO pec_mailing_file (mailing_id, transmission_id, tenant_id)
SELECT @mailing_id, unnest(@transmission_ids::uuid[]), @tenant_id::text;

-- name: BindToMailing :exec
-- From here on it may reach SdI: the attempt counts, as one before a call does.
UPDATE transmission SET mailing_id = @mailing_id, attempts = attempts + 1, attempt_at = @now, next_at = NULL, updated_at = @now
WHERE id = ANY(@ids::uuid[]);

-- name: LockMailing :one
SELECT id, tenant_id, mailbox, address, outcome_id, facts, state, message, message_id, problem, created_at, settled_at
FROM pec_mailing WHERE id = @id FOR UPDATE;

-- name: StoreMailing :exec
UPDATE pec_mailing SET facts = @facts, state = @state, message = @message, message_id = @message_id, problem = @problem,
    updated_at = @now, settled_at = sqlc.narg(settled_at)
WHERE id = @id;

-- name: MailingFiles :many
SELECT f.transmission_id FROM pec_mailing_file f WHERE f.mailing_id = @mailing_id ORDER BY f.transmission_id;

-- name: FreeFromMailing :many
-- The message is known to have reached nobody.
UPDATE transmission SET mailing_id = NULL, attempts = greatest(attempts - 1, 0), attempt_at = NULL, last_error = @last_error,
    updated_at = @now
WHERE mailing_id = @mailing_id AND facts = 0
RETURNING id, tenant_id, invoice, traceparent;

-- name: CountAgain :exec
-- A message that was said to have failed has arrived after all: what is sent since is a repeat.
UPDATE transmission t SET attempts = t.attempts + 1, updated_at = @now
FROM pec_mailing_file f WHERE f.mailing_id = @mailing_id AND f.transmission_id = t.id AND t.mailing_id IS DISTINCT FROM f.mailing_id;

-- name: LeaveMailing :exec
-- By a person's decision: the attempt stays counted, since the message may have arrived.
UPDATE transmission SET mailing_id = NULL, updated_at = @now WHERE id = @id AND facts = 0;

-- name: ListMailings :many
SELECT id, mailbox, address, file_names, state, message, message_id, problem, created_at, settled_at FROM pec_mailing
WHERE (@tenant_id::text = '' OR tenant_id = @tenant_id) AND (@state::text = '' OR state = @state) AND id < @before
ORDER BY id DESC LIMIT @n;

-- name: TakeArrival :one
-- The first verdict makes it; a later one is taken while the message waits in quarantine.
INSERT INTO pec_arrival (id, tenant_id, message, content_uri, proven, doubts, certified_at, received_at)
VALUES (@id, @tenant_id, @message, @content_uri, @proven, @doubts, sqlc.narg(certified_at), @received_at)
ON CONFLICT (message) DO UPDATE SET proven = excluded.proven, doubts = excluded.doubts, certified_at = excluded.certified_at, state = 'TAKEN', problem = ''
WHERE pec_arrival.state = 'QUARANTINED' AND excluded.proven
RETURNING id;

-- name: ReadArrival :one
SELECT id, tenant_id, message, content_uri, state, proven, doubts, certified_at, received_at FROM pec_arrival WHERE id = @id;

-- name: FinishArrival :exec
UPDATE pec_arrival SET state = @state, problem = @problem, sender = @sender, file_names = @file_names, sdi_ids = @sdi_ids WHERE id = @id;

-- name: ListArrivals :many
SELECT id, message, content_uri, state, problem, sender, certified_at, received_at, file_names FROM pec_arrival
WHERE (@tenant_id::text = '' OR tenant_id = @tenant_id) AND (@state::text = '' OR state = @state) AND id < @before
ORDER BY id DESC LIMIT @n;

-- name: SenderOfInvoice :one
-- Whom to answer, and from which mailbox: where the file came from last. Only of a proven letter a file is taken, also when something
-- else in it keeps the letter in quarantine.
SELECT tenant_id, message, sender FROM pec_arrival
WHERE sdi_ids @> ARRAY[sqlc.arg(sdi_id)::text] AND sdi_ids <> '{}' ORDER BY certified_at DESC NULLS LAST, id DESC LIMIT 1;

-- name: AssignAddress :execrows
INSERT INTO pec_address (id, tenant_id, mailbox, address, assigned_at, message, learned_at)
VALUES (@id, @tenant_id, @mailbox, @address, @assigned_at, @message, @learned_at)
ON CONFLICT ON CONSTRAINT pec_address_once DO NOTHING;

-- name: ListAddresses :many
SELECT mailbox, address, assigned_at, message, learned_at FROM pec_address WHERE mailbox = ANY(@mailboxes::text[])
ORDER BY mailbox, assigned_at DESC, id DESC;
