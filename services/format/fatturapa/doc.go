// Package fatturapa reads, checks and describes Italian electronic invoices:
// the ordinary format (FPA12, FPR12: schemas 1.2 to 1.2.3), the simplified
// format (FSM10: schemas 1.0.0 to 1.0.2) and, as archive, the first versions
// of the format for public bodies (1.0 and 1.1).
//
// It owns four things:
//
//   - [Parse]: an XML reader of its own, bounded in size, depth and counts, that
//     refuses DTDs and entities, keeps the original bytes and gives a typed view
//     over the header and every body of a lot;
//   - [CheckStructure]: the equivalent of validation against the official
//     schemas, from a table of our own, each violation as code 00200 with XPath,
//     line, what was expected and what was found;
//   - [Check]: the controls of the exchange system (SdI) that can be decided
//     without its registers, in rule packs with effective dates;
//   - [Decimal] and the check digits of VAT numbers and tax codes.
//
// It refuses to do anything else: it does not open signature envelopes (.p7m is
// the job of format/cms), does not verify signatures, asks no register, reads no
// file, no clock and no network. It makes no operating system call, so it can be
// compiled to WebAssembly.
//
// Names of elements and of their Go fields are the statutory Italian ones.
package fatturapa
