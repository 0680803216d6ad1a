-- name: InsertObjects :exec
-- Objects of one tenant with their copies; what is there already stays as it is.
WITH o AS (
    INSERT INTO archive_object (id, tenant_id, kind, key, sha256, size, retain_until, created_at)
    SELECT n.id, @tenant_id, @kind, n.key, n.sha256, n.size, @retain_until, @at
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@keys::text[]) AS key, unnest(@hashes::bytea[]) AS sha256, unnest(@sizes::bigint[]) AS size) AS n
    ON CONFLICT (id) DO NOTHING
    RETURNING id, tenant_id
)
INSERT INTO archive_copy (object_id, replica, tenant_id, state, checked_at, check_due)
SELECT o.id, c.replica, o.tenant_id, c.state, CASE WHEN c.state = 'GOOD' THEN @at::timestamptz END, @due
FROM o, (SELECT unnest(@replicas::text[]) AS replica, unnest(@states::text[]) AS state) AS c;

-- name: GetObject :one
SELECT id, tenant_id, kind, key, sha256, size, retain_until, created_at FROM archive_object WHERE id = @id;

-- name: GetObjects :many
SELECT id, tenant_id, kind, key, sha256, size, retain_until, created_at FROM archive_object WHERE id = ANY(@ids::uuid[]);

-- name: CopiesOf :many
SELECT object_id, replica, tenant_id, state, checked_at, check_due FROM archive_copy WHERE object_id = @object ORDER BY replica;

-- name: LockCopiesOf :many
-- Who locks them learns whether somebody is writing one: nobody can begin until the lock ends.
SELECT object_id, replica, state, claimed_at, claimed_by FROM archive_copy WHERE object_id = ANY(@objects::uuid[]) ORDER BY object_id, replica FOR UPDATE;

-- name: ClaimantGone :one
-- Whether nobody holds the lock of who made a claim: the process died, or ended its work.
SELECT pg_try_advisory_xact_lock(@claimed_by::bigint)::bool AS gone;

-- name: Claimants :many
SELECT DISTINCT claimed_by::bigint AS claimed_by FROM archive_copy WHERE claimed_by IS NOT NULL;

-- name: DropClaimsOf :exec
UPDATE archive_copy SET claimed_at = NULL, claimed_by = NULL WHERE claimed_by = @claimed_by::bigint;

-- name: OwesCopies :one
SELECT EXISTS (SELECT 1 FROM archive_copy d
    WHERE d.state = 'OWED' AND d.replica = @replica AND (d.tried_at IS NULL OR d.tried_at < @before::timestamptz)
      AND (d.claimed_at IS NULL OR (d.claimed_by IS NULL AND d.claimed_at < @before::timestamptz)));

-- name: ClaimDebt :many
-- A copy that a replica owes, for one who makes it: others pass it over, and so does everybody for a while after it failed.
UPDATE archive_copy c SET claimed_at = @now::timestamptz, claimed_by = @claimed_by::bigint FROM archive_object o
WHERE o.id = c.object_id AND (c.object_id, c.replica) = (
    SELECT d.object_id, d.replica FROM archive_copy d
    WHERE d.state = 'OWED' AND d.replica = @replica AND (d.tried_at IS NULL OR d.tried_at < @before::timestamptz)
      AND (d.claimed_at IS NULL OR (d.claimed_by IS NULL AND d.claimed_at < @before::timestamptz))
    ORDER BY d.tried_at NULLS FIRST, d.object_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING o.id, o.tenant_id, o.kind, o.key, o.sha256, o.size, o.retain_until, o.created_at;

-- name: ClaimCopy :exec
UPDATE archive_copy SET claimed_at = @now::timestamptz, claimed_by = @claimed_by::bigint WHERE object_id = @object AND replica = @replica;

-- name: LetGoOfCopy :exec
UPDATE archive_copy SET claimed_at = NULL, claimed_by = NULL, tried_at = COALESCE(sqlc.narg('tried_at'), tried_at)
WHERE object_id = @object AND replica = @replica AND claimed_by = @claimed_by::bigint;

-- name: SetCopy :exec
UPDATE archive_copy SET state = @state, tried_at = NULL WHERE object_id = @object AND replica = @replica;

-- name: SetCopyMade :execrows
-- A copy that who claimed it has made and read back.
UPDATE archive_copy SET state = 'GOOD', checked_at = @at::timestamptz, check_due = @due::timestamptz, claimed_at = NULL, claimed_by = NULL, tried_at = NULL
WHERE object_id = @object AND replica = @replica AND claimed_by = @claimed_by::bigint;

-- name: SetChecked :exec
-- Copies that were read whole and found right.
UPDATE archive_copy c SET checked_at = n.at, check_due = n.due
FROM (SELECT unnest(@objects::uuid[]) AS object, unnest(@replicas::text[]) AS replica, unnest(@ats::timestamptz[]) AS at, unnest(@dues::timestamptz[]) AS due) AS n
WHERE c.object_id = n.object AND c.replica = n.replica AND c.state = 'GOOD';

-- name: CountCopies :many
SELECT replica, state, count(*) AS copies FROM archive_copy WHERE state <> 'GOOD' GROUP BY replica, state;

-- name: OldestCheck :one
-- The good copy that waits longest for its check.
SELECT COALESCE(min(checked_at), @now::timestamptz)::timestamptz FROM archive_copy WHERE state = 'GOOD';

-- name: InsertDamage :execrows
INSERT INTO archive_damage (id, object_id, tenant_id, replica, problem, found_at)
VALUES (@id, @object, @tenant_id, @replica, @problem, @at)
ON CONFLICT (object_id, replica) WHERE repaired_at IS NULL DO NOTHING;

-- name: SetRepaired :exec
UPDATE archive_damage SET repaired_at = @at, quarantine = @quarantine WHERE object_id = @object AND replica = @replica AND repaired_at IS NULL;

-- name: ListDamages :many
SELECT d.id, d.tenant_id, d.replica, d.problem, d.found_at, d.quarantine, d.repaired_at, o.key, o.kind, o.sha256, o.size
FROM archive_damage d JOIN archive_object o ON o.id = d.object_id
WHERE d.id < @before AND (NOT @open::bool OR d.repaired_at IS NULL) ORDER BY d.id DESC LIMIT @page;

-- name: Outages :many
SELECT replica, since, reason FROM archive_outage ORDER BY replica;

-- name: InsertOutage :execrows
INSERT INTO archive_outage (replica, since, reason) VALUES (@replica, @since, @reason) ON CONFLICT (replica) DO NOTHING;

-- name: EndOutage :many
DELETE FROM archive_outage WHERE replica = @replica RETURNING since;

-- name: PackagesWithoutObject :many
-- Packages that were sealed before there were replicas.
SELECT id, tenant_id FROM package WHERE state = 'SEALED' AND object_id IS NULL AND id > @after ORDER BY id LIMIT @page;

-- name: AdoptPackage :execrows
UPDATE package SET object_id = @object WHERE id = @id AND state = 'SEALED' AND object_id IS NULL;

-- name: BeginSigningOutage :one
-- Whether it is new; no row when nothing changes.
INSERT INTO signing_outage AS o (source, since, code, reason, certificate, told) VALUES (@source, @since, @code, @reason, sqlc.narg('certificate'), @told)
ON CONFLICT (source) DO UPDATE SET code = excluded.code, reason = excluded.reason, certificate = excluded.certificate
    WHERE (o.code, o.reason, o.certificate) IS DISTINCT FROM (excluded.code, excluded.reason, excluded.certificate)
RETURNING (xmax = 0)::bool AS first;

-- name: TellSigningOutage :many
-- One that has lasted since a moment or longer, once.
UPDATE signing_outage SET told = true WHERE source = @source AND NOT told AND since <= @since RETURNING since;

-- name: SigningOutages :many
SELECT source, since, code, reason, certificate, told FROM signing_outage ORDER BY since, source;

-- name: EndSigningOutage :many
-- What was heard before it began, by this process or another, ends nothing.
DELETE FROM signing_outage WHERE source = @source AND since < @at::timestamptz AND (since < @heard::timestamptz OR certificate IS DISTINCT FROM sqlc.narg('certificate'))
RETURNING since, told;

-- name: SetSigningResumed :exec
INSERT INTO signing_resumed (source, at) VALUES (@source, @at) ON CONFLICT (source) DO UPDATE SET at = excluded.at;

-- name: SigningResumedSince :one
-- A time that is still to come was written by a clock that was wrong, and says nothing.
SELECT EXISTS (SELECT 1 FROM signing_resumed WHERE source = @source AND at >= @asked::timestamptz AND at <= @until::timestamptz)::bool;
