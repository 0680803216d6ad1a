-- +goose Up
-- How far the database has come, against which the replicas' marks are held: one that was put back from a backup knows a lower number.
SET lock_timeout = '5s';

CREATE TABLE archive_position (
    one       boolean     PRIMARY KEY DEFAULT true CHECK (one),
    number    bigint      NOT NULL,
    told_at   timestamptz,           -- when a mark of it was last made; NULL: never
    behind_at timestamptz,           -- since when it is known that the replicas are ahead; NULL: they are not
    ahead     bigint                 -- the number that they told then
);
