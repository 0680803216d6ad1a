-- name: SetFiscalYear :exec
INSERT INTO fiscal_year (tenant_id, fiscal_year, ends_on, deadline) VALUES (@tenant_id, @fiscal_year, @ends_on, @deadline)
ON CONFLICT (tenant_id, fiscal_year) DO UPDATE SET ends_on = @ends_on, deadline = @deadline;

-- name: FiscalYears :many
SELECT tenant_id, fiscal_year, ends_on, deadline FROM fiscal_year WHERE @tenant::text = '' OR tenant_id = @tenant;

-- name: WaitingLines :many
-- Units that wait for a package, by line.
SELECT u.tenant_id, u.fiscal_year, u.class, count(*) AS units, min(u.created_at)::timestamptz AS oldest,
       COALESCE(sum((SELECT sum(f.size) FROM unit_file f WHERE f.unit_id = u.id)), 0)::bigint AS bytes
FROM unit u WHERE u.state = 'TAKEN_IN_CHARGE' GROUP BY u.tenant_id, u.fiscal_year, u.class ORDER BY u.tenant_id, u.fiscal_year, u.class;

-- name: SizesOf :many
SELECT unit_id, sum(size)::bigint AS bytes FROM unit_file WHERE unit_id = ANY(@units::uuid[]) GROUP BY unit_id;

-- name: Unsealed :many
-- What is not sealed yet, by tenant and year.
SELECT tenant_id, fiscal_year, count(*) AS units, count(*) FILTER (WHERE state = 'TAKEN_IN_CHARGE') AS waiting FROM unit
WHERE state IN ('TAKEN_IN_CHARGE', 'ASSIGNED') AND (@tenant::text = '' OR tenant_id = @tenant)
GROUP BY tenant_id, fiscal_year;

-- name: SealedUnits :many
-- Units in sealed packages, by tenant and year: from the packages, which are few.
SELECT tenant_id, fiscal_year, sum(unit_count)::bigint AS units FROM package
WHERE state = 'SEALED' AND (@tenant::text = '' OR tenant_id = @tenant) GROUP BY tenant_id, fiscal_year;

-- name: GiveAlarm :execrows
INSERT INTO deadline_alarm (tenant_id, fiscal_year, deadline, days, given_at) VALUES (@tenant_id, @fiscal_year, @deadline, @days, @at)
ON CONFLICT DO NOTHING;

-- name: BytesOf :one
SELECT COALESCE(sum(f.size), 0)::bigint FROM unit u JOIN unit_file f ON f.unit_id = u.id WHERE u.package_id = @package_id::uuid;
