// Package tlog is an append-only Merkle log whose history its readers can check without its
// operator: RFC 6962 hashing, the tiles of C2SP tlog-tiles, signed checkpoints, cosignatures of
// witnesses, receipts that hold offline, and one chain of leaves per tenant inside the common log.
//
// It owns the tile arithmetic over any write-once store, the proofs, the texts (checkpoint,
// receipt, witness request) and the verdict on two checkpoints: grown, rolled back or forked.
// The hashing and the shape of proofs are those of golang.org/x/mod/sumdb/tlog, the reading of
// signed notes that of sumdb/note; what stands here is where those two stop.
//
// It refuses to open files, to speak HTTP, to keep keys (a key is a crypto.Signer) and to decide
// whom to trust: origins, keys and the number of witnesses are the caller's Policy. ML-DSA-44
// cosignatures are not judged: the standard library has no such key yet, and a key of that kind
// in a policy is an error, never a witness that is passed over in silence.
package tlog
