// Package cms writes and reads CMS SignedData (the ".p7m" of Italian signatures) and EnvelopedData (the
// envelopes of the SDIFTP channel).
//
// It owns the DER writer (attached, detached, streamed; the key is any crypto.Signer, so
// that it may live in Vault or at a provider), the guarded reader (DER, BER with indefinite
// lengths and chunked octet strings, Base64 and PEM armour, envelopes inside envelopes) and
// the report on each signature.
//
// It refuses encryption for keys other than RSA, signing with anything but SHA-256, and trust policy:
// trust anchors, time of judgement and required usages are the caller's. Revocation is not
// looked at here. Reading never panics and never recurses on data: nesting, size and number
// of elements are limited, because a 4 MB file of "30 80" brings down readers that recurse.
package cms
