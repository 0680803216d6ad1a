// Package sdi plays the Sistema di Interscambio for transmitters: it takes files over the real
// wire (SOAP 1.1 with MTOM, mutual TLS), judges them, and pushes signed receipts back to the
// transmitter's endpoint as SdI does, on the sandbox's virtual clock.
//
// It owns the exchange's memory: what was received, how often, under which name, and what
// became of it; it answers questions about that. It refuses to be the exchange: nothing is
// kept on disk but the sequence of identifiers, certificates and receipts say SANDBOX, and
// wherever the official texts leave a choice it chooses otherwise than a client may hope
// (identifiers above 32 bits with gaps, answers now multipart and now plain, receipts that
// may arrive before the sender has noted the answer).
//
// Recipients are decided by magic codes, listed in sandbox/README.md.
package sdi
