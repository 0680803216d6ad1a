-- name: InsertSeries :exec
INSERT INTO series (tenant_id, company_id, id, display_name, pattern, create_time, update_time)
VALUES (@tenant_id, @company_id, @id, @display_name, @pattern, @now, @now);

-- name: GetSeries :one
SELECT * FROM series WHERE tenant_id = @tenant_id AND company_id = @company_id AND id = @id;

-- Nobody takes a number of the series until the transaction ends.
-- name: LockSeries :one
SELECT * FROM series WHERE tenant_id = @tenant_id AND company_id = @company_id AND id = @id FOR UPDATE;

-- name: ListSeries :many
SELECT * FROM series WHERE tenant_id = @tenant_id AND company_id = @company_id AND id > @after::text ORDER BY id LIMIT @page_size;

-- name: UpdateSeries :exec
UPDATE series SET display_name = @display_name, pattern = @pattern, version = @version, update_time = @update_time
WHERE tenant_id = @tenant_id AND company_id = @company_id AND id = @id;

-- name: DeleteSeries :exec
WITH years AS (
    DELETE FROM series_year y WHERE y.tenant_id = @tenant_id AND y.company_id = @company_id AND y.series_id = @id
)
DELETE FROM series se WHERE se.tenant_id = @tenant_id AND se.company_id = @company_id AND se.id = @id;

-- name: ListSeriesYears :many
SELECT series_id, year, next, given, coalesce(to_char(last_date, 'YYYY-MM-DD'), '')::text AS last_date FROM series_year
WHERE tenant_id = @tenant_id AND company_id = @company_id AND series_id = ANY(@series_ids::text[])
ORDER BY series_id, year;

-- name: SetSeriesNext :exec
INSERT INTO series_year AS y (tenant_id, company_id, series_id, year, next, given)
VALUES (@tenant_id, @company_id, @series_id, @year, @next, 0)
ON CONFLICT (tenant_id, company_id, series_id, year) DO UPDATE SET next = excluded.next WHERE y.given = 0;

-- What the next number will probably be: nothing is locked.
-- name: PeekSeries :one
SELECT se.pattern, coalesce(y.next, 1)::bigint AS next, coalesce(to_char(y.last_date, 'YYYY-MM-DD'), '')::text AS last_date
FROM series se
LEFT JOIN series_year y ON y.tenant_id = se.tenant_id AND y.company_id = se.company_id AND y.series_id = se.id AND y.year = @year
WHERE se.tenant_id = @tenant_id AND se.company_id = @company_id AND se.id = @id;

-- Takes the next number, at least at_least. The row of the year is locked until the transaction ends: who
-- rolls back gives the number back. last_date is the latest date of all, this one included.
-- name: TakeNumber :one
WITH s AS (
    SELECT se.tenant_id, se.company_id, se.id, se.pattern, @at_least::bigint AS least FROM series se
    WHERE se.tenant_id = @tenant_id AND se.company_id = @company_id AND se.id = @id
    FOR SHARE
), taken AS (
    INSERT INTO series_year AS y (tenant_id, company_id, series_id, year, next, given, last_date)
    SELECT s.tenant_id, s.company_id, s.id, @year, s.least + 1, 1, CAST(@date::text AS date) FROM s
    ON CONFLICT (tenant_id, company_id, series_id, year) DO UPDATE
    SET next = greatest(y.next, excluded.next - 1) + 1, given = y.given + 1, last_date = greatest(y.last_date, excluded.last_date)
    RETURNING y.next - 1 AS number, y.last_date
)
SELECT taken.number::bigint AS number, s.pattern, to_char(taken.last_date, 'YYYY-MM-DD')::text AS last_date FROM taken, s;

-- name: NextProgressive :one
SELECT nextval('progressive')::bigint;

-- name: ListHeld :many
SELECT h.number, h.invoice_id, i.company_id FROM held_number h JOIN invoice i ON i.tenant_id = h.tenant_id AND i.id = h.invoice_id
WHERE h.tenant_id = @tenant_id AND h.issuer = @issuer AND h.fiscal_year = @year AND h.series = @series AND h.number = ANY(@numbers::text[]);

-- name: MarkCorrected :exec
UPDATE invoice SET corrected_by = @corrected_by, version = version + 1, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id;

-- name: FileNameUsed :one
SELECT EXISTS (SELECT FROM invoice WHERE tenant_id = @tenant_id AND file_name <> '' AND upper(file_name) = upper(@file_name::text));
