package pec

import (
	"bytes"
	"crypto/x509"
	"time"
)

// What is known of a certificate's revocation at the moment of judgement.
const (
	RevocationUnknown = "unknown" // no list that covers the moment: never silently good
	RevocationGood    = "good"
	RevocationRevoked = "revoked"
)

// revocation looks a certificate up in the lists that the caller has. Issuers are candidates: one
// counts only when it signed both the certificate and the list. A revocation after the moment of
// judgement changes nothing about a receipt that was signed before. spec: RFC5280 §5, §6.3
func revocation(cert *x509.Certificate, issuers []*x509.Certificate, lists []*x509.RevocationList, at time.Time) (string, time.Time) {
	state := RevocationUnknown
	for _, list := range lists {
		if !bytes.Equal(list.RawIssuer, cert.RawIssuer) || !signedBySame(cert, issuers, list) {
			continue
		}
		for i := range list.RevokedCertificateEntries {
			e := &list.RevokedCertificateEntries[i]
			if e.SerialNumber.Cmp(cert.SerialNumber) != 0 {
				continue
			}
			if !e.RevocationTime.After(at) {
				return RevocationRevoked, e.RevocationTime
			}
			state = RevocationGood // it was still good then
		}
		// a list speaks for the moment when it was issued after it, or was current at it
		if !list.ThisUpdate.Before(at) || !list.NextUpdate.IsZero() && !at.After(list.NextUpdate) {
			state = RevocationGood
		}
	}
	return state, time.Time{}
}

func signedBySame(cert *x509.Certificate, issuers []*x509.Certificate, list *x509.RevocationList) bool {
	for _, issuer := range issuers {
		if bytes.Equal(issuer.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(issuer) == nil && list.CheckSignatureFrom(issuer) == nil {
			return true
		}
	}
	return false
}
