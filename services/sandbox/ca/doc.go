// Package ca is the sandbox's certification authority: throw-away, and made so that nobody can
// take its certificates for real ones (issuer and subject say "SANDBOX - NOT VALID").
//
// It owns the certificates of everything that the sandbox plays or hands out: TLS servers and
// clients, signers by CSR, seals and roles, the time-stamp authority, the signer of receipts.
// It refuses to state what is not true: no QcStatements, no policy of a real provider. It has no
// revocation service.
package ca
