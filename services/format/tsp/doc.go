// Package tsp speaks the Time-Stamp Protocol: requests, responses, tokens, a client over HTTP
// and the answering side of an authority.
//
// It owns the encoding of RFC 3161 with the RFC 5816 update, the checks that a requester has to
// make on a token (imprint, nonce, policy, certificate usage, ESS, time), and typed failures.
// It refuses to decide which authority to ask next, to count stamps, or to trust an authority
// that the caller did not name; revocation of the authority is not looked at here.
package tsp
