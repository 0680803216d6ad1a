package pec

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"
)

// What is known of a certificate's revocation at the moment of judgement.
const (
	RevocationUnknown = "unknown" // no list that covers the moment: never silently good
	RevocationGood    = "good"
	RevocationRevoked = "revoked"
)

func signedBySame(cert *x509.Certificate, issuers []*x509.Certificate, list *x509.RevocationList) bool {
	for _, issuer := range issuers {
		if bytes.Equal(issuer.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(issuer) == nil && list.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}

// partial says whether a list is not one of everything that its authority revoked, or may not be for all that is known here: such
// ones (deltas, lists of some reasons or kinds) say so in a critical extension. What they do name is revoked. spec: RFC5280 §5.2
func partial(list *x509.RevocationList) bool {
	return slices.ContainsFunc(list.Extensions, func(e pkix.Extension) bool { return e.Critical })
}

var oidExpiredCertsOnCRL = asn1.ObjectIdentifier{2, 5, 29, 60}

// keepsEnded says whether a list that was issued after the end of a certificate would still name it: authorities take off what has
// ended, unless their list says since when it keeps it. spec: RFC5280 §3.3; X.509 §9.5.2.8
func keepsEnded(list *x509.RevocationList, cert *x509.Certificate) bool {
	for _, e := range list.Extensions {
		if !e.Id.Equal(oidExpiredCertsOnCRL) {
			continue
		}
		var since time.Time
		rest, err := asn1.UnmarshalWithParams(e.Value, &since, "generalized")
		return err == nil && len(rest) == 0 && !since.After(cert.NotAfter)
	}
	return false
}
