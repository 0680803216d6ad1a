package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSameOwner: identifiers decide where there are any; else the whole name does, without the number of the certificate.
func TestSameOwner(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	country, name, organization := asn1.ObjectIdentifier{2, 5, 4, 6}, asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}
	chain := func(pairs ...any) [][]byte {
		var names []pkix.AttributeTypeAndValue
		for i := 0; i < len(pairs); i += 2 {
			names = append(names, pkix.AttributeTypeAndValue{Type: pairs[i].(asn1.ObjectIdentifier), Value: pairs[i+1]})
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{ExtraNames: names}}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		require.NoError(t, err)
		return [][]byte{der}
	}
	plain := chain(country, "IT", name, "Alfa Srl", oidDNQualifier, "2026-1")
	company := chain(country, "IT", organization, "Alfa Srl", oidOrganizationIdentifier, "VATIT-01234567890", name, "Alfa")
	person := chain(country, "IT", name, "Maria Rossi", oidSerialNumber, "TINIT-RSSMRA80A41H501Y", oidDNQualifier, "17")
	clerk := chain(country, "IT", oidSurname, "Rossi", oidGivenName, "Maria", name, "Maria Rossi", oidOrganizationIdentifier, "VATIT-01234567890", oidDNQualifier, "1")
	for about, c := range map[string]struct {
		a, b [][]byte
		same bool
	}{
		"itself": {plain, plain, true},
		"the number of the certificate is another": {plain, chain(oidDNQualifier, "2027-1", name, "Alfa Srl", country, "IT"), true},
		"another name":                                  {plain, chain(country, "IT", name, "Beta Srl"), false},
		"the same identifier under another name":        {company, chain(oidOrganizationIdentifier, "VATIT-01234567890", organization, "ALFA S.R.L.", country, "IT"), true},
		"the same name with another identifier":         {company, chain(country, "IT", organization, "Alfa Srl", oidOrganizationIdentifier, "VATIT-09876543210", name, "Alfa"), false},
		"the same person":                               {person, chain(name, "ROSSI MARIA", oidSerialNumber, "TINIT-RSSMRA80A41H501Y"), true},
		"the same person for a company":                 {person, chain(name, "Maria Rossi", oidSerialNumber, "TINIT-RSSMRA80A41H501Y", oidOrganizationIdentifier, "VATIT-01234567890"), false},
		"an identifier on one side only":                {plain, chain(country, "IT", name, "Alfa Srl", oidSerialNumber, "1"), false},
		"the number of one is no identifier of another": {chain(oidSerialNumber, "VATIT-01234567890"), chain(oidOrganizationIdentifier, "VATIT-01234567890"), false},
		"two of one organization":                       {clerk, chain(country, "IT", oidSurname, "Bianchi", oidGivenName, "Anna", name, "Anna Bianchi", oidOrganizationIdentifier, "VATIT-01234567890"), false},
		"one of an organization":                        {clerk, chain(country, "IT", oidSurname, "Rossi", oidGivenName, "Maria", name, "Maria Rossi", oidOrganizationIdentifier, "VATIT-01234567890", oidDNQualifier, "2"), true},
		"a number of the issuer's own":                  {chain(name, "Maria Rossi", oidSerialNumber, "4711"), chain(name, "Anna Bianchi", oidSerialNumber, "4711"), false},
		"a number of a national kind":                   {chain(name, "Maria Rossi", oidSerialNumber, "SI:IT-4711"), chain(name, "ROSSI MARIA", oidSerialNumber, "SI:IT-4711"), true},
		"certificates that name nobody":                 {chain(), chain(), false},
		"a number alone of a certificate":               {chain(oidDNQualifier, "1"), chain(oidDNQualifier, "1"), false},
		"no certificate":                                {nil, nil, false},
	} {
		same, err := sameOwner(c.a, c.b)
		require.NoError(t, err, about)
		require.Equal(t, c.same, same, about)
		same, err = sameOwner(c.b, c.a)
		require.NoError(t, err, about)
		require.Equal(t, c.same, same, about)
	}
}
