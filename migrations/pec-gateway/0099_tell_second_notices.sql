-- Some providers send one notice of missing delivery, which says all that the second one of others says: it is known by its
-- words and not by when it came.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE fact ADD COLUMN second_notice boolean NOT NULL DEFAULT false;
