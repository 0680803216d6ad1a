-- +goose Up
SET lock_timeout = '5s';

-- Letters of SdI that name two addresses: looked for with every judgement of a mailbox, and next to none.
CREATE INDEX pec_arrival_two_addresses ON pec_arrival (message) WHERE problem LIKE 'PEC_TWO_ADDRESSES: %';
