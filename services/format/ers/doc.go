// Package ers reads, verifies, builds and renews evidence records of RFC 4998: the proof that data
// existed at a time, which outlives the certificates of its time stamps and the strength of its
// hash algorithms because it is renewed before they end.
//
// It owns the reader (DER, guarded), the reduced hash trees, the rules that tie each archive time
// stamp to the one before, and both renewals: of the time stamp (a new stamp over the last one) and
// of the hash tree (a new algorithm over all data and all evidence so far). Tokens are tsp's.
//
// It refuses to ask a time-stamp authority, to open files (an Object is a function), to judge
// revocation, and to decide whom to trust: roots and the horizons of algorithms are the caller's.
// SHA-1 and MD5 are not read. XML evidence records (RFC 6283) are another format. Evidence over
// encrypted groups is verified over the bytes that were encrypted, as the caller gives them.
package ers
