package pec

import (
	"bytes"
	"crypto/x509"
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
