package signer

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"time"

	"ceralacca.dev/services/internal/fault"
)

// parseChain reads PEM certificates, leaf first.
func parseChain(text string) ([]*x509.Certificate, error) {
	chain, err := parseCertificates(text)
	if err == nil && len(chain) > 10 {
		return nil, badCertificate("CERTIFICATE_PEM", "%d certificates: send the leaf and its chain only", len(chain))
	}
	return chain, err
}

// parseCertificates reads PEM certificates.
func parseCertificates(text string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, badCertificate("CERTIFICATE_PEM", "block %d is %q: send certificates only, never a key", len(chain)+1, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badCertificate("CERTIFICATE_PEM", "certificate %d cannot be read: %v", len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, badCertificate("CERTIFICATE_PEM", "no PEM certificate found (-----BEGIN CERTIFICATE-----)")
	}
	return chain, nil
}

func badCertificate(code, format string, a ...any) *fault.Fault {
	why := fmt.Sprintf(format, a...)
	return fault.Invalid(code, "certificate_pem: %s", why).WithField("certificate_pem", code, why)
}

// checkCertificate says whether the first certificate of chain may sign with the key at now.
// Errors are Invalid: CERTIFICATE_KEY_MISMATCH, CERTIFICATE_NOT_FOR_SIGNING, CERTIFICATE_EXPIRED,
// CERTIFICATE_NOT_YET_VALID, CERTIFICATE_ALGORITHM, CERTIFICATE_CHAIN.
func checkCertificate(chain []*x509.Certificate, key crypto.PublicKey, now time.Time) error {
	leaf := chain[0]
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key) {
		return badCertificate("CERTIFICATE_KEY_MISMATCH", "the first certificate is not of this credential's key: have its csr_pem certified")
	}
	// Only nonRepudiation: a certificate that also authenticates could be made to sign a challenge
	// that is a document. SdI refuses others as 00107. spec: EN319412-2 §4.3.2 (type A)
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageContentCommitment {
		return badCertificate("CERTIFICATE_NOT_FOR_SIGNING", "its key usage is not nonRepudiation alone: use a signing certificate, not one for authentication")
	}
	if now.Before(leaf.NotBefore) {
		return badCertificate("CERTIFICATE_NOT_YET_VALID", "it is valid from %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if !now.Before(leaf.NotAfter) {
		return badCertificate("CERTIFICATE_EXPIRED", "it expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	err := checkAlgorithms(chain, now)
	if err != nil {
		return err
	}
	return checkChain(chain, now)
}

// checkChain wants each certificate issued by the next, and at least one issuer: a signature goes
// out with its chain, so that it can be verified by whoever has only the root.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 1 {
		return badCertificate("CERTIFICATE_CHAIN", "the issuer's certificate is missing: add it after the first one")
	}
	for i, cert := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		err := cert.CheckSignatureFrom(issuer)
		if err != nil {
			return badCertificate("CERTIFICATE_CHAIN", "certificate %d is not issued by certificate %d: put the chain in order, leaf first (%v)", i+1, i+2, err)
		}
		if now.Before(issuer.NotBefore) || now.After(issuer.NotAfter) {
			return badCertificate("CERTIFICATE_CHAIN", "certificate %d is valid from %s to %s only", i+2,
				issuer.NotBefore.UTC().Format(time.RFC3339), issuer.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

var (
	oidSurname                = asn1.ObjectIdentifier{2, 5, 4, 4}
	oidSerialNumber           = asn1.ObjectIdentifier{2, 5, 4, 5}
	oidGivenName              = asn1.ObjectIdentifier{2, 5, 4, 42}
	oidDNQualifier            = asn1.ObjectIdentifier{2, 5, 4, 46}
	oidPseudonym              = asn1.ObjectIdentifier{2, 5, 4, 65}
	oidOrganizationIdentifier = asn1.ObjectIdentifier{2, 5, 4, 97}
)

// identifies is an identifier that means the same whoever issues the certificate: its kind, a country, and the number that the person or
// the organization has there. Any other is a number of the issuer's own. spec: EN319412-1 §5.1.3, §5.1.4
var identifies = regexp.MustCompile(`^(?:[A-Z]{3}|[A-Z]{2}:)[A-Z]{2}-.`)

// ownerOf is whom a certificate names: by the identifiers of person and organization where these say it, else by the whole name, without
// the number that authorities tell certificates of one name apart by. An organization's identifier alone does not say which of its people
// a certificate is of. spec: EN319412-2 §4.2.4, EN319412-3 §4.2.1
func ownerOf(cert *x509.Certificate) []string {
	var ids, all []string
	ofPerson, identified := false, false
	for _, n := range cert.Subject.Names {
		text := fmt.Sprint(n.Value)
		one := n.Type.String() + "=" + text
		switch {
		case n.Type.Equal(oidDNQualifier):
			continue
		case n.Type.Equal(oidSerialNumber) && identifies.MatchString(text):
			ids, identified = append(ids, one), true
		case n.Type.Equal(oidOrganizationIdentifier) && identifies.MatchString(text):
			ids = append(ids, one)
		case n.Type.Equal(oidSurname), n.Type.Equal(oidGivenName), n.Type.Equal(oidPseudonym):
			ofPerson = true
		}
		all = append(all, one)
	}
	if len(ids) > 0 && (identified || !ofPerson) {
		all = ids
	}
	slices.Sort(all)
	return all
}

// sameOwner says whether two chains are of certificates that name the same owner. Where one has an identifier and the other has
// none, or nobody is named, nobody can tell.
func sameOwner(a, b [][]byte) (bool, error) {
	if len(a) == 0 || len(b) == 0 {
		return false, nil
	}
	first, err := x509.ParseCertificate(a[0])
	if err != nil {
		return false, fmt.Errorf("signer: kept certificate: %w", err)
	}
	second, err := x509.ParseCertificate(b[0])
	if err != nil {
		return false, fmt.Errorf("signer: kept certificate: %w", err)
	}
	owner := ownerOf(first)
	return len(owner) > 0 && slices.Equal(owner, ownerOf(second)), nil
}

func encodePEM(kind string, der ...[]byte) string {
	var out []byte
	for _, d := range der {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: d})...)
	}
	return string(out)
}
