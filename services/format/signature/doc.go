// Package signature reads an invoice file as it came, whatever is around it, and
// says of each signature what is true of it.
//
// It owns the way from the bytes of a file (.xml, .xml.p7m, envelopes inside
// envelopes, in DER, BER, PEM or Base64, XML with a signature inside) to the
// invoice in them, and the words and codes of SdI for signatures that do not hold.
//
// The two results are apart: no signature, however broken, expired, self-signed or
// unknown, keeps an invoice from being read, and what is true of the signatures
// says nothing of the invoice. It refuses to have a trust policy: roots and the
// time of judgement are the caller's, and without them neither trust nor expiry is
// judged. Revocation and trusted lists are not looked at; the report names the
// controls that need them. It makes no operating system call.
package signature
