// Package validation judges signed files as ETSI EN 319 102-1 has it: total-passed, indeterminate
// or total-failed, with the reason by name, for every signature in a file.
//
// It owns the way from the bytes of a file (.p7m attached, detached or nested, XML and PDF with
// signatures, .tsr, .tsd, .m7m) to one report; the choice of the time that a signature is proven
// to be from; chains, revocation, algorithms by dated policy, and what trusted lists make
// qualified. Integrity is judged by cms, cades, xades, pades and tsp.
//
// All that it judges by is given by the caller: anchors, trusted lists, CRLs, OCSP responses and
// the time. It fetches nothing, has no clock, and says total-passed only when all of it was
// there. It refuses archive time-stamps outside PDF, attribute certificates, evidence records
// (package ers) and revocation data inside files, which it does not read.
package validation
