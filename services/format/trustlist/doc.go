// Package trustlist reads EU trusted lists (ETSI TS 119 612) and says which certificates speak for
// which trust service, and with what status at what time.
//
// It owns the reader of national lists and of the list of the lists (LOTL), the chain of
// signatures over them (given certificates sign the LOTL, pivots included; the LOTL names who
// signs each national list) and their expiry. All is from bytes that the caller gives.
//
// It fails closed: a list whose signature does not verify, that is expired, or that nothing
// points to is an error, never a list with less in it. It refuses to fetch, to cache, and to
// decide what a status is good for; it does not judge revocation of the lists' own signers,
// which are named one by one.
package trustlist
