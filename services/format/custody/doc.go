// Package custody says how a preservation package and the receipts of its log belong together: what a
// leaf of the log states about a unit or a package, and what a package, receipts and checkpoints that
// somebody kept prove offline, without whoever runs the log.
//
// It owns the objects of the leaves, the reading of a package's units from its bytes, and the verdict.
// It refuses to judge the package by itself (manifests, signature of the index, time stamp of the index:
// sincro, cades and tsp do), to fetch anything, and to decide whom to trust: the log's key is the caller's.
package custody
