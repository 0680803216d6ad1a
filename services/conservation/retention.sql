-- name: RetentionRules :many
SELECT * FROM retention_rule WHERE tenant_id = @tenant_id;

-- name: RetentionYears :one
SELECT years FROM retention_rule WHERE tenant_id = @tenant_id AND class = @class;

-- name: SetRetentionRule :exec
INSERT INTO retention_rule (tenant_id, class, years) VALUES (@tenant_id, @class, @years)
ON CONFLICT (tenant_id, class) DO UPDATE SET years = excluded.years;

-- name: LockDisposals :exec
-- Holds and the eraser's beginning wait for each other, tenant by tenant.
SELECT pg_advisory_xact_lock(hashtextextended('conservation disposal ' || @tenant_id::text, 0));

-- name: BeginObject :exec
-- Held from before the first byte of an intake object until the rows that name it are committed, or never will be.
SELECT pg_advisory_xact_lock_shared(hashtextextended('conservation intake ' || @tenant_id::text, 0));

-- name: AwaitObjects :exec
-- Waits until every intake object of a tenant whose writing has begun has its row or was given up.
SELECT pg_advisory_xact_lock(hashtextextended('conservation intake ' || @tenant_id::text, 0));

-- name: InsertHold :exec
INSERT INTO hold (id, tenant_id, unit_id, package_id, fiscal_year, class, reason, set_by, set_at)
VALUES (@id, @tenant_id, sqlc.narg('unit_id'), sqlc.narg('package_id'), @fiscal_year, @class, @reason, @set_by, @set_at);

-- name: LiftHold :execrows
UPDATE hold SET lifted_by = @lifted_by, lift_reason = @lift_reason, lifted_at = @lifted_at WHERE id = @id AND tenant_id = @tenant_id AND lifted_at IS NULL;

-- name: GetHold :one
SELECT * FROM hold WHERE id = @id AND tenant_id = @tenant_id;

-- name: ListHolds :many
SELECT * FROM hold WHERE tenant_id = @tenant_id AND (NOT @active::bool OR lifted_at IS NULL) ORDER BY id DESC LIMIT 1000;

-- name: HoldOver :many
-- Holds that cover a package: itself, its year and class, a unit of it; or one whose units belong to units of it, as later receipts
-- belong to their document, whichever of the two the hold is over.
SELECT h.* FROM hold h JOIN package p ON p.id = @package
WHERE h.tenant_id = @tenant_id AND h.lifted_at IS NULL AND (
    h.package_id = p.id
    OR (h.unit_id IS NULL AND h.package_id IS NULL AND (h.fiscal_year = 0 OR h.fiscal_year = p.fiscal_year) AND (h.class = '' OR h.class = p.class))
    OR EXISTS (SELECT 1 FROM unit u WHERE u.id = h.unit_id AND u.package_id = p.id)
    OR EXISTS (SELECT 1 FROM unit i JOIN unit u ON u.id = i.integrates WHERE i.package_id = p.id AND u.state NOT IN ('REFUSED', 'DESTROYED') AND (
        u.id = h.unit_id OR u.package_id = h.package_id
        OR (h.unit_id IS NULL AND h.package_id IS NULL AND (h.fiscal_year = 0 OR h.fiscal_year = u.fiscal_year) AND (h.class = '' OR h.class = u.class))))
    OR EXISTS (SELECT 1 FROM unit u JOIN unit i ON i.integrates = u.id WHERE u.package_id = p.id AND i.state NOT IN ('REFUSED', 'DESTROYED') AND (
        i.id = h.unit_id OR i.package_id = h.package_id
        OR (h.unit_id IS NULL AND h.package_id IS NULL AND (h.fiscal_year = 0 OR h.fiscal_year = i.fiscal_year) AND (h.class = '' OR h.class = i.class)))))
ORDER BY h.id LIMIT 1;

-- name: StandingIntegrations :many
-- What later receipts added to units of a package and still stands elsewhere. goes: the same disposal has it on its list, and has not
-- begun with it.
SELECT i.id, EXISTS (SELECT 1 FROM disposal_item t WHERE t.disposal_id = @disposal AND t.package_id = i.package_id AND t.state = 'AUTHORIZED') AS goes
FROM unit u JOIN unit i ON i.integrates = u.id
WHERE u.package_id = @package::uuid AND (i.package_id IS NULL OR i.package_id <> @package::uuid) AND i.state NOT IN ('REFUSED', 'DESTROYED')
ORDER BY goes, i.id LIMIT 1;

-- name: DisposablePackages :many
-- Sealed packages whose term is over and that are on no list.
SELECT p.* FROM package p
WHERE p.tenant_id = @tenant_id AND p.state = 'SEALED'
  AND COALESCE(p.retain_until, make_timestamptz(p.fiscal_year + 11, 12, 31, 23, 59, 59, 'UTC')) < @now::timestamptz
  AND (@fiscal_year::int = 0 OR p.fiscal_year = @fiscal_year) AND (@class::text = '' OR p.class = @class)
  AND NOT EXISTS (SELECT 1 FROM disposal_item i WHERE i.package_id = p.id AND i.state <> 'KEPT')
  -- what later receipts added, or what is added to, goes at the same time or later, never alone before
  AND NOT EXISTS (SELECT 1 FROM unit u JOIN unit i ON i.integrates = u.id WHERE u.package_id = p.id AND (i.package_id IS NULL
      OR EXISTS (SELECT 1 FROM package q WHERE q.id = i.package_id AND q.state <> 'DESTROYED'
          AND (q.state <> 'SEALED' OR COALESCE(q.retain_until, make_timestamptz(q.fiscal_year + 11, 12, 31, 23, 59, 59, 'UTC')) >= @now::timestamptz))))
ORDER BY p.id LIMIT 10000;

-- name: InsertDisposal :exec
INSERT INTO disposal (id, tenant_id, state, needs_authority, proposed_by, proposed_at) VALUES (@id, @tenant_id, 'PROPOSED', @needs_authority, @proposed_by, @proposed_at);

-- name: InsertDisposalItem :exec
INSERT INTO disposal_item (disposal_id, package_id, tenant_id, state, retained_until, sha256, unit_count)
VALUES (@disposal, @package, @tenant_id, 'LISTED', @retained_until, @sha256, @unit_count);

-- name: LockDisposal :one
SELECT * FROM disposal WHERE id = @id AND tenant_id = @tenant_id FOR UPDATE;

-- name: GetDisposal :one
SELECT * FROM disposal WHERE id = @id AND tenant_id = @tenant_id;

-- name: ListDisposals :many
SELECT * FROM disposal WHERE tenant_id = @tenant_id ORDER BY id DESC LIMIT 1000;

-- name: ReleasedDisposals :many
SELECT id, tenant_id FROM disposal WHERE state = 'RELEASED' AND id > @after ORDER BY id LIMIT @page;

-- name: DisposalItems :many
SELECT i.*, p.fiscal_year, p.class, p.state AS package_state, p.object_id
FROM disposal_item i JOIN package p ON p.id = i.package_id WHERE i.disposal_id = @disposal ORDER BY i.package_id;

-- name: SetDisposalItem :execrows
UPDATE disposal_item SET state = @state, note = @note WHERE disposal_id = @disposal AND package_id = @package AND state = ANY(@from_states::text[]);

-- name: AuthorizeDisposal :exec
UPDATE disposal SET state = 'AUTHORIZED', producer = @producer, soprintendenza = sqlc.narg('soprintendenza'), authorized_by = @authorized_by, authorized_at = @at WHERE id = @id;

-- name: ReleaseDisposalOnce :exec
UPDATE disposal SET state = 'RELEASED_ONCE', first_by = @by, first_person = @person WHERE id = @id;

-- name: ReleaseDisposal :exec
UPDATE disposal SET state = 'RELEASED', second_by = @by, second_person = @person, released_at = @at WHERE id = @id;

-- name: WithdrawDisposal :exec
UPDATE disposal SET state = 'WITHDRAWN', ended_at = @at WHERE id = @id;

-- name: SetDisposalTrouble :exec
UPDATE disposal SET last_error = @last_error WHERE id = @id;

-- name: EndObjectTrouble :exec
-- What was said of an object is over; what is said of anything else stays.
UPDATE disposal SET last_error = '' WHERE id = @id AND position(@key::text IN last_error) > 0;

-- name: EndDisposal :execrows
UPDATE disposal SET state = 'PARTIAL', ended_at = @at, last_error = '', report = @report WHERE id = @id AND state = 'RELEASED';

-- name: CompleteDisposal :exec
UPDATE disposal SET state = 'COMPLETE', completed_by = @by, completion = @completion WHERE id = @id;

-- name: UnsignedDisposals :many
SELECT id, tenant_id FROM disposal WHERE report IS NOT NULL AND report_id IS NULL AND id > @after ORDER BY id LIMIT @page;

-- name: SetDisposalReport :execrows
UPDATE disposal SET report_id = @object WHERE id = @id AND report_id IS NULL;

-- name: BeginErasing :execrows
UPDATE disposal_item SET state = 'ERASING', begun_at = @at WHERE disposal_id = @disposal AND package_id = @package AND state = 'AUTHORIZED';

-- name: SetPackageErasing :execrows
UPDATE package SET state = 'ERASING', disposal_id = @disposal WHERE id = @package AND state = 'SEALED';

-- name: DestroyUnits :exec
UPDATE unit SET state = 'DESTROYED', problem = @problem WHERE package_id = @package::uuid AND state = 'PRESERVED';

-- name: DropSearchOf :exec
DELETE FROM search_entry WHERE unit_id IN (SELECT u.id FROM unit u WHERE u.package_id = @package::uuid);

-- name: DropOwedSearchOf :exec
DELETE FROM search_owed WHERE unit_id IN (SELECT u.id FROM unit u WHERE u.package_id = @package::uuid);

-- name: ObjectsOfPackage :many
-- What was taken in for the units of a package, and what else holds bytes of them.
SELECT f.object_id::uuid AS object_id FROM unit_file f JOIN unit u ON u.id = f.unit_id WHERE u.package_id = @package::uuid AND f.object_id IS NOT NULL
UNION
SELECT l.object_id FROM bytes_left l JOIN unit v ON v.id = l.unit_id WHERE v.package_id = @package::uuid;

-- name: LeaveBytes :exec
-- What of a unit stays in an object to which none of its files leads any more.
INSERT INTO bytes_left (object_id, unit_id, tenant_id)
SELECT x.object_id, x.unit_id, @tenant_id FROM (SELECT unnest(@objects::uuid[]) AS object_id, unnest(@units::uuid[]) AS unit_id) AS x
WHERE NOT EXISTS (SELECT 1 FROM unit_file f WHERE f.unit_id = x.unit_id AND f.object_id = x.object_id)
ON CONFLICT DO NOTHING;

-- name: KeysAndBytesOf :many
-- By what documents of a package are known again wherever they lie: their keys, and the digests of their files.
SELECT u.unit_key, f.sha256 FROM unit u JOIN unit_file f ON f.unit_id = u.id WHERE u.package_id = @package::uuid AND f.role <> 'metadata';

-- name: ObjectKeysKnown :many
-- Which of these keys objects of the archive have.
SELECT key FROM archive_object WHERE key = ANY(@keys::text[]);

-- name: RememberKeys :exec
INSERT INTO destroyed_key (tenant_id, key_sha256, unit_id, destroyed_at)
SELECT u.tenant_id, sha256(convert_to(u.tenant_id || E'\n' || u.unit_key, 'UTF8')), u.id, @at FROM unit u WHERE u.package_id = @package::uuid ON CONFLICT DO NOTHING;

-- name: KeysDestroyed :many
-- Which of these unit keys documents had that were destroyed, and when the last of each was.
SELECT k.unit_key::text AS unit_key, max(d.destroyed_at)::timestamptz AS destroyed_at
FROM (SELECT DISTINCT unnest(@keys::text[]) AS unit_key) AS k
JOIN destroyed_key d ON d.tenant_id = @tenant AND d.key_sha256 = sha256(convert_to(@tenant || E'\n' || k.unit_key, 'UTF8')) GROUP BY k.unit_key;

-- name: CondemnedBy :many
-- The disposal by which an object has to go, or went.
SELECT disposal_id, gone FROM disposal_object WHERE tenant_id = @tenant AND kind = 'object' AND key = @key ORDER BY gone, disposal_id LIMIT 1;

-- name: NeighboursIn :many
-- Other units whose files an object holds.
SELECT DISTINCT u.id FROM unit_file f JOIN unit u ON u.id = f.unit_id
WHERE f.object_id = ANY(@objects::uuid[]) AND u.tenant_id = @tenant_id AND (u.package_id IS NULL OR u.package_id <> @package::uuid) AND u.state <> 'DESTROYED' ORDER BY u.id;

-- name: MoveFile :exec
UPDATE unit_file SET object_id = @object, object_offset = @place WHERE unit_id = @unit AND ordinal = @ordinal;

-- name: InsertDisposalObject :exec
INSERT INTO disposal_object (disposal_id, package_id, tenant_id, kind, key, sha256, size, what, found_by) VALUES (@disposal, @package, @tenant_id, @kind, @key, @sha256, @size, @what, '{conservation}')
ON CONFLICT DO NOTHING;

-- name: InsertAbsentObject :exec
-- A key under which nothing was: what comes to lie there all the same is known.
INSERT INTO disposal_object (disposal_id, package_id, tenant_id, kind, key, sha256, size, what, state, gone) VALUES (@disposal, @package, @tenant_id, 'object', @key, @sha256, @size, @what, 'ABSENT', true)
ON CONFLICT DO NOTHING;

-- name: CondemnObject :exec
-- What was found when its disposal had gone past it: the eraser destroys it all the same.
INSERT INTO disposal_object (disposal_id, package_id, tenant_id, kind, key, sha256, size, what, found_by) VALUES (@disposal, @package, @tenant_id, 'object', @key, @sha256, @size, @what, '{conservation}')
ON CONFLICT (disposal_id, package_id, kind, key) DO UPDATE SET gone = false, state = '';

-- name: CondemnAgain :execrows
-- What was destroyed and has come back, such as from a backup of its disk, goes as it went.
UPDATE disposal_object AS d SET gone = false, state = '' WHERE d.tenant_id = @tenant AND d.kind = 'object' AND d.key = @key AND d.gone
  AND NOT EXISTS (SELECT 1 FROM disposal_object o WHERE o.tenant_id = @tenant AND o.kind = 'object' AND o.key = @key AND NOT o.gone);

-- name: DisposalsOfKeys :many
-- By which disposals documents of these keys were destroyed, and in which packages.
SELECT DISTINCT p.disposal_id::uuid AS disposal_id, p.id AS package_id
FROM destroyed_key d JOIN unit u ON u.id = d.unit_id JOIN package p ON p.id = u.package_id
WHERE d.tenant_id = @tenant AND d.key_sha256 IN (SELECT sha256(convert_to(@tenant || E'\n' || k.unit_key, 'UTF8')) FROM (SELECT unnest(@keys::text[]) AS unit_key) AS k) AND p.disposal_id IS NOT NULL;

-- name: LateObjects :many
-- Objects that have to go, of packages that the eraser is done with.
SELECT o.* FROM disposal_object o JOIN disposal_item i ON i.disposal_id = o.disposal_id AND i.package_id = o.package_id
WHERE o.kind = 'object' AND NOT o.gone AND i.state IN ('ERASED', 'DESTROYED')
  AND (o.tenant_id, o.key, o.disposal_id, o.package_id) > (@tenant::text, @key::text, @disposal::uuid, @package::uuid)
ORDER BY o.tenant_id, o.key, o.disposal_id, o.package_id LIMIT @page;

-- name: LateNeighbours :many
-- Objects that have to go in which files lie that rows lead to.
SELECT DISTINCT o.id, o.tenant_id FROM disposal_object d JOIN archive_object o ON o.key = d.key AND o.tenant_id = d.tenant_id
WHERE d.kind = 'object' AND NOT d.gone AND o.id > @after AND EXISTS (SELECT 1 FROM unit_file f JOIN unit u ON u.id = f.unit_id WHERE f.object_id = o.id AND u.state <> 'DESTROYED')
ORDER BY o.id LIMIT @page;

-- name: UnitsIn :many
-- Units whose files an object holds.
SELECT DISTINCT u.id FROM unit_file f JOIN unit u ON u.id = f.unit_id WHERE f.object_id = @object::uuid AND u.tenant_id = @tenant_id AND u.state <> 'DESTROYED' ORDER BY u.id;

-- name: ObjectOfKey :many
SELECT id FROM archive_object WHERE key = @key;

-- name: DisposalObjects :many
SELECT * FROM disposal_object WHERE disposal_id = @disposal AND package_id = @package ORDER BY kind, key;

-- name: SetObjectGone :exec
UPDATE disposal_object SET gone = true WHERE disposal_id = @disposal AND package_id = @package AND kind = @kind AND key = @key;

-- name: ForgetDamages :exec
DELETE FROM archive_damage WHERE object_id = ANY(@objects::uuid[]);

-- name: ForgetCopies :exec
DELETE FROM archive_copy WHERE object_id = ANY(@objects::uuid[]);

-- name: ForgetObjects :exec
DELETE FROM archive_object WHERE id = ANY(@objects::uuid[]);

-- name: ForgetFiles :exec
UPDATE unit_file SET object_id = NULL, object_offset = NULL, content = NULL, file_name = '', media_type = ''
WHERE unit_id IN (SELECT u.id FROM unit u WHERE u.package_id = @package::uuid);

-- name: SetErased :execrows
UPDATE disposal_item SET state = 'ERASED', erased_at = @at WHERE disposal_id = @disposal AND package_id = @package AND state = 'ERASING';

-- name: UnitsToTellOf :many
-- Units of a package, and whether another unit still stands of what they are about: a late receipt goes before what it belongs to.
SELECT u.id, u.subject, EXISTS (SELECT 1 FROM unit o WHERE o.tenant_id = u.tenant_id AND o.subject = u.subject AND o.state NOT IN ('DESTROYED', 'REFUSED')) AS stands
FROM unit u WHERE u.package_id = @package::uuid ORDER BY u.position;

-- name: BuryUnits :exec
-- What is left of units tells nothing of anybody. Keys that SdI or we gave stay: the same event again finds them taken.
UPDATE unit SET facts = '{}', correlation = '', causation = '', traceparent = '',
    unit_key = CASE WHEN unit_key LIKE 'SDI|%' OR unit_key LIKE 'IN|%' OR unit_key LIKE 'IMP|%' THEN unit_key ELSE 'GONE|' || id::text END
WHERE package_id = @package::uuid;

-- name: BuryPackage :exec
UPDATE package SET state = 'DESTROYED', destroyed_at = @at, object_id = NULL, terms = '{}', last_error = '' WHERE id = @package AND state = 'ERASING';

-- name: LockDepositsOf :many
-- All attempts under the keys of what was destroyed. Who locks them learns what became of one that was being accepted: a statement that
-- waits for a row sees everything else as it was before it waited.
SELECT x.id FROM deposit x WHERE x.tenant_id = @tenant_id AND x.client_key IN (
    SELECT d.client_key FROM deposit d JOIN unit u ON u.id = d.unit_id WHERE d.tenant_id = @tenant_id AND u.package_id = @package::uuid)
ORDER BY x.id FOR UPDATE;

-- name: BuryDeposits :exec
-- Attempts that are locked, but for those whose own document stands. One that is open ends: its key is gone, and its parts are.
UPDATE deposit AS x SET client_key = 'GONE|' || x.id::text, file_name = '(destroyed)', head = '{}', verification = NULL, problems = '[]', reason = '', deposited_by = '',
    state = CASE WHEN x.state IN ('RECEIVING', 'CONFLICT') THEN 'REFUSED' ELSE x.state END, ended_at = COALESCE(x.ended_at, @at::timestamptz)
WHERE x.tenant_id = @tenant_id AND x.id = ANY(@ids::uuid[]) AND NOT EXISTS (SELECT 1 FROM unit s WHERE s.id = x.unit_id AND s.state <> 'DESTROYED');

-- name: DropPartsOf :exec
DELETE FROM deposit_part WHERE tenant_id = @tenant_id AND deposit_id = ANY(@ids::uuid[]);

-- name: PartsOfPackage :many
SELECT p.sha256, p.size FROM deposit_part p WHERE p.deposit_id IN (
    SELECT e.id FROM deposit e WHERE e.tenant_id = @tenant_id AND e.client_key IN (
        SELECT d.client_key FROM deposit d JOIN unit u ON u.id = d.unit_id WHERE d.tenant_id = @tenant_id AND u.package_id = @package::uuid));

-- name: DistributionsOf :many
-- Distributions that hold documents of a package.
SELECT d.id, d.state, d.sha256, d.size FROM distribution d
WHERE d.tenant_id = @tenant_id AND EXISTS (SELECT 1 FROM unit u WHERE u.package_id = @package::uuid AND u.id = ANY(d.units));

-- name: BuryDistributions :exec
UPDATE distribution SET state = 'FAILED', sha256 = NULL, size = NULL, held_sha256 = NULL, held_size = NULL, signed_sha256 = NULL, signed_size = NULL, ready_at = NULL, purpose = '', last_error = @said WHERE id = ANY(@ids::uuid[]);

-- name: LoneParties :exec
-- Parties that no document names any more, with the words by which they were found.
WITH lone AS (
    SELECT p.id FROM search_party p WHERE p.tenant_id = @tenant_id
      AND NOT EXISTS (SELECT 1 FROM search_entry e WHERE e.tenant_id = @tenant_id AND e.seller = p.id)
      AND NOT EXISTS (SELECT 1 FROM search_entry e WHERE e.tenant_id = @tenant_id AND e.buyer = p.id)
), words AS (
    DELETE FROM search_word w WHERE w.tenant_id = @tenant_id AND w.party_id IN (SELECT lone.id FROM lone)
)
DELETE FROM search_party p WHERE p.id IN (SELECT lone.id FROM lone);

-- name: BuryItem :execrows
UPDATE disposal_item SET state = 'DESTROYED' WHERE disposal_id = @disposal AND package_id = @package AND state = 'ERASED';

-- name: DestroyedPackages :many
SELECT id, fiscal_year, class, unit_count, disposal_id, destroyed_at FROM package
WHERE tenant_id = @tenant_id AND state IN ('ERASING', 'DESTROYED') AND (cardinality(@years::int[]) = 0 OR fiscal_year = ANY(@years::int[]))
  AND (cardinality(@classes::text[]) = 0 OR class = ANY(@classes::text[])) ORDER BY id DESC LIMIT 100;

-- name: DisposalDue :one
SELECT COALESCE(p.retain_until, make_timestamptz(p.fiscal_year + 11, 12, 31, 23, 59, 59, 'UTC')) < @now::timestamptz FROM package p WHERE p.id = @package;

-- name: OpenHandOvers :one
-- Exports and distributions that are being built from a package.
SELECT (SELECT count(*) FROM export e WHERE e.tenant_id = @tenant_id AND e.state = 'BUILDING'
        AND (@package::uuid = ANY(e.packages) OR e.waiting && ARRAY(SELECT u.id FROM unit u WHERE u.package_id = @package::uuid)))
     + (SELECT count(*) FROM distribution d WHERE d.tenant_id = @tenant_id AND d.state = 'BUILDING'
        AND EXISTS (SELECT 1 FROM unit u WHERE u.package_id = @package::uuid AND u.id = ANY(d.units)));

-- name: BlobsOfPackage :many
-- What the platform's store may have of a package: what the sealing left, the package itself where it was sealed before there were replicas, and the bytes that its documents came from, which invoice,
-- sdi-gateway and pec-gateway hold by the same digest. Who needs them is asked before they go.
SELECT b.sha256::bytea AS sha256, b.size::bigint AS size, b.what::text AS what FROM package p,
LATERAL (VALUES (p.index_sha256, p.index_size, 'index'), (p.signed_sha256, p.signed_size, 'signed index'), (p.stamp_sha256, p.stamp_size, 'time stamp'), (p.archive_sha256, p.archive_size, 'package')) AS b (sha256, size, what)
WHERE p.id = @package AND b.sha256 IS NOT NULL AND b.size IS NOT NULL
UNION
SELECT r.sha256, r.size, 'revocation' FROM package_revocation r WHERE r.package_id = @package
UNION
SELECT f.sha256, f.size, f.role FROM unit u JOIN unit_file f ON f.unit_id = u.id WHERE u.package_id = @package AND f.role <> 'metadata';
