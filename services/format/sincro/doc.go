// Package sincro writes and reads the preservation index of UNI 11386:2020 (SInCRO): the PIndex,
// which names every file of a preservation package with its digest, says who answers for the
// package, and is what gets signed and time-stamped.
//
// It owns the streaming writer, whose bytes are a pure function of what it is given (the same
// package indexed twice gives the same index), the reader, and the rules of the schema that a
// document must satisfy: required fields, closed lists, the form of identifiers, the characters
// that XML 1.0 admits.
//
// It refuses to mend data: a character that XML does not admit is an error that names the field,
// never a silent replacement. It reads no other edition: an IdC of 2010 is told apart (ErrIdC2010)
// and left alone. Signing is cades' work, stamping tsp's.
package sincro

// Namespace of the 2020 edition. spec: UNI11386-2020 §PIndex
const Namespace = "http://www.uni.com/U3011/sincro-v2/"

// SchemaURI is the fixed value of PIndex@uri.
const SchemaURI = "http://www.uni.com/U3011/sincro-v2/PIndex.xsd"

// Version is the fixed value of PIndex@sincroVersion.
const Version = "2.0"

// SHA256 is the name of the digest in Hash@hashFunction. The standard fixes neither the names of
// functions nor the text form of a digest: base64 of the raw digest is ours, as in Allegato 5.
const SHA256 = "SHA-256"
