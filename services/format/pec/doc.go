// Package pec reads and writes certified e-mail: the messages of RFC 6109 (PEC) and, for
// reading only, those of European registered mail (REM, ETSI EN 319 532).
//
// It owns
//   - the tolerant MIME reader: one pass over the bytes, offsets instead of copies, so that a
//     message of 100 MB costs a buffer; broken headers, wrong charsets, missing boundaries are
//     findings, not failures (Parse, Part);
//   - what a message claims to be (Classify) and, apart from it, what its signature proves
//     (Read, Reading.Verify): a header is never a fact;
//   - daticert.xml, read strictly and written (ParseDaticert, Daticert.XML);
//   - the matching of receipts with what was sent (Match), the hashes of a brief receipt
//     (CheckBreve), the state of a message as a function of its verified facts (Derive);
//   - the message that a user sends (Compose), what an access point checks before it takes
//     one (CheckSubmission, Preflight), and into how many messages it has to be split (Draft.Split);
//   - every message that a provider issues: envelopes, receipts and notices, signed by any
//     crypto.Signer (Gestore.Write), and the index of providers (ParseIndice);
//   - the mail side of the Sistema di Interscambio (SdIAddress, ReadSdI).
//
// It refuses to talk to anybody: no network, no files, no clock (times are arguments), and no
// trust of its own (trust anchors, the list of providers and revocation lists are the caller's).
// It does not make HTML safe for display and writes no REM.
//
// The bytes of a message stay with the caller as they came (an io.ReaderAt). Every part knows
// its range, so whatever is said about a message can be checked on the original.
//
// Words of the law are Italian (busta, ricevuta, gestore, accettazione), as in the statute; the
// glossary is in the top README.
package pec
