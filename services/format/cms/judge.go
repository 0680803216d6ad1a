package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"time"
)

// checkESS compares the first certificate that the attribute names with the signer's.
// spec: RFC5035 §3, §5; EN319122-1 §5.2.2
func (si *SignerInfo) checkESS(cert *x509.Certificate, required bool) Check {
	if v2, n := find(si.SignedAttributes, OIDSigningCertificateV2); n > 0 {
		var a signingCertificateV2
		if n != 1 || len(v2) != 1 {
			return fail("more than one signing-certificate-v2 attribute")
		}
		if rest, err := asn1.Unmarshal(v2[0], &a); err != nil || len(rest) > 0 || len(a.Certs) == 0 {
			return fail("signing-certificate-v2 is malformed")
		}
		h := crypto.SHA256
		if alg := a.Certs[0].HashAlgorithm.Algorithm; alg != nil {
			if h = hashByOID(alg); h == 0 {
				return fail("signing-certificate-v2 uses the unsupported hash %v", alg)
			}
		}
		return matchESS(cert, h, a.Certs[0].CertHash, a.Certs[0].IssuerSerial)
	}
	if v1, n := find(si.SignedAttributes, OIDSigningCertificate); n > 0 {
		var a signingCertificate
		if n != 1 || len(v1) != 1 {
			return fail("more than one signing-certificate attribute")
		}
		if rest, err := asn1.Unmarshal(v1[0], &a); err != nil || len(rest) > 0 || len(a.Certs) == 0 {
			return fail("signing-certificate is malformed")
		}
		return matchESS(cert, crypto.SHA1, a.Certs[0].CertHash, a.Certs[0].IssuerSerial)
	}
	if required {
		return fail("the signing-certificate attribute is missing: any certificate of the same key could be put in place")
	}
	return unjudged("no signing-certificate attribute")
}

func matchESS(cert *x509.Certificate, h crypto.Hash, want []byte, is issuerSerial) Check {
	if !bytes.Equal(sum(h, cert.Raw), want) {
		return fail("signing-certificate names another certificate")
	}
	if len(is.Serial.FullBytes) > 0 && signedInteger(is.Serial.Bytes).Cmp(cert.SerialNumber) != 0 {
		return fail("signing-certificate names another serial number")
	}
	if h == crypto.SHA1 {
		return pass("by SHA-1")
	}
	return pass("")
}

// checkTime reads signing-time. SdI refuses a signature without one (00103) or with one later
// than its reception (00105).
func (si *SignerInfo) checkTime(cert *x509.Certificate, o VerifyOptions) (time.Time, Check) {
	values, count := find(si.SignedAttributes, OIDSigningTime)
	if count == 0 {
		if o.RequireSigningTime {
			return time.Time{}, fail("the signing-time attribute is missing")
		}
		return time.Time{}, unjudged("no signing-time attribute")
	}
	if count != 1 || len(values) != 1 {
		return time.Time{}, fail("%d signing-time attributes, exactly 1 is expected", count)
	}
	var t time.Time
	if rest, err := asn1.Unmarshal(values[0], &t); err != nil || len(rest) > 0 {
		return time.Time{}, fail("signing-time attribute is malformed")
	}
	switch {
	case !o.At.IsZero() && t.After(o.At.Add(clockSkew)):
		return t, fail("signing time %s is after %s", t.UTC().Format(time.RFC3339), o.At.UTC().Format(time.RFC3339))
	case cert != nil && (t.Before(cert.NotBefore) || t.After(cert.NotAfter)):
		return t, fail("signing time %s is outside the certificate's validity", t.UTC().Format(time.RFC3339))
	}
	return t, pass("")
}

// checkKeyUsage: spec: EN319412-2 §4.3.2
func checkKeyUsage(cert *x509.Certificate, o VerifyOptions) Check {
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch {
	case o.RequireContentCommitment && cert.KeyUsage&x509.KeyUsageContentCommitment == 0:
		return fail("the certificate is not for signing: keyUsage lacks nonRepudiation")
	case cert.KeyUsage != 0 && cert.KeyUsage&signing == 0:
		return fail("keyUsage of the certificate allows no signatures")
	case cert.IsCA:
		return fail("the certificate is a certification authority's")
	case len(o.ExtKeyUsages) > 0 && !hasUsage(cert, o.ExtKeyUsages):
		return fail("the certificate lacks the extended key usage that is required")
	case cert.KeyUsage == 0:
		return pass("the certificate has no keyUsage")
	}
	return pass("")
}

func hasUsage(cert *x509.Certificate, wanted []x509.ExtKeyUsage) bool {
	for _, have := range cert.ExtKeyUsage {
		for _, want := range wanted {
			if have == want {
				return true
			}
		}
	}
	return false
}

func (sd *SignedData) checkTrust(cert *x509.Certificate, o VerifyOptions) (Check, []*x509.Certificate) {
	if o.Roots == nil {
		return unjudged("no trust anchors were given"), nil
	}
	if o.At.IsZero() {
		return unjudged("no time of judgement was given"), nil
	}
	pool := x509.NewCertPool()
	for _, list := range [][]*x509.Certificate{sd.Certificates, o.Intermediates} {
		for _, c := range list {
			pool.AddCert(c)
		}
	}
	usages := o.ExtKeyUsages
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: o.Roots, Intermediates: pool, CurrentTime: o.At, KeyUsages: usages,
	})
	if err != nil {
		return fail("%v", err), nil
	}
	return pass(""), chains[0]
}
