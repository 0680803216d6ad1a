// Package dossier is the file of a signature request that is over: the documents as they were and as they
// were signed, who did what, and what proves it. It writes the ZIP and judges it, without asking anybody.
//
// The audit trail is canonical JSON (RFC 8785, without numbers other than integers). Each line names the
// hash of the line before, so a line that is missing, added or changed is seen; what is cut off at the end is
// seen by the closing line, and all of it by the seal over audit.json.
//
// It refuses archives with paths that lead out of them, with members twice or not listed in SHA256SUMS, and
// larger than what was said; and it never calls a dossier passed whose signatures are not.
package dossier
