package xades

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"strings"
	"time"
)

// checkProperties reads the properties that are signed; unsigned ones are as if not there.
// spec: TS101903 §6.2.1, §7.2.1, §7.2.2; EN319132-1 §5.2.2
func (r *SignatureReport) checkProperties(props *node, o VerifyOptions) {
	ssp := props.child(nsXAdES, "SignedSignatureProperties")
	r.Time = r.readTime(ssp, o)
	if !r.SigningTime.IsZero() {
		r.Level = LevelSigningTime
	}
	var named []*node
	for _, name := range []string{"SigningCertificate", "SigningCertificateV2"} {
		named = append(named, ssp.child(nsXAdES, name).all(nsXAdES, "Cert")...)
	}
	switch {
	case len(named) == 0 && o.RequireBES:
		r.Signer = fail("SigningCertificate is missing: any certificate of the same key could be put in place")
	case len(named) == 0:
		r.Signer = unjudged("no SigningCertificate")
	case r.Certificate == nil:
		r.Signer = unjudged("no certificate")
	default:
		r.Signer = fail("SigningCertificate names another certificate")
		for _, c := range named[:min(len(named), maxCerts)] {
			if names(c, r.Certificate) {
				r.Signer, r.Level = pass(""), LevelBES
				return
			}
		}
	}
}

// names says whether an xades:Cert is this certificate. The serial number is compared, the
// issuer's name is not: its text form differs from one writer to the next, and the digest binds it.
func names(el *node, cert *x509.Certificate) bool {
	d := el.child(nsXAdES, "CertDigest")
	alg, _ := d.child(nsDSig, "DigestMethod").attr("Algorithm")
	hash, ok := digests[alg]
	if !ok {
		return false
	}
	want, err := decode64(d.child(nsDSig, "DigestValue").value())
	if err != nil {
		return false
	}
	h := hash.New()
	h.Write(cert.Raw)
	if !bytes.Equal(h.Sum(nil), want) {
		return false
	}
	text := strings.TrimSpace(el.child(nsXAdES, "IssuerSerial").child(nsDSig, "X509SerialNumber").value())
	if text == "" {
		return true
	}
	if len(text) > 128 {
		return false
	}
	serial, ok := new(big.Int).SetString(text, 10)
	return ok && serial.Cmp(cert.SerialNumber) == 0
}

// clockSkew is how far a signing time may be after the time of judgement.
const clockSkew = 2 * time.Minute

func (r *SignatureReport) readTime(ssp *node, o VerifyOptions) Check {
	text := strings.TrimSpace(ssp.child(nsXAdES, "SigningTime").value())
	if text == "" {
		if o.RequireSigningTime {
			return fail("the signing time is missing")
		}
		return unjudged("no signing time")
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fail("signing time %.40q lacks its time zone or is malformed", text)
	}
	r.SigningTime = t
	switch c := r.Certificate; {
	case !o.At.IsZero() && t.After(o.At.Add(clockSkew)):
		return fail("signing time %s is after %s", text, o.At.UTC().Format(time.RFC3339))
	case c != nil && (t.Before(c.NotBefore) || t.After(c.NotAfter)):
		return fail("signing time %s is outside the certificate's validity", text)
	}
	return pass("")
}

func checkKeyUsage(cert *x509.Certificate, o VerifyOptions) Check {
	const signing = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	switch {
	case o.RequireContentCommitment && cert.KeyUsage&x509.KeyUsageContentCommitment == 0:
		return fail("the certificate is not for signing: keyUsage lacks nonRepudiation")
	case cert.KeyUsage != 0 && cert.KeyUsage&signing == 0:
		return fail("keyUsage of the certificate allows no signatures")
	case cert.IsCA:
		return fail("the certificate is a certification authority's")
	}
	return pass("")
}

func checkTrust(cert *x509.Certificate, embedded []*x509.Certificate, o VerifyOptions) (Check, []*x509.Certificate) {
	if o.Roots == nil {
		return unjudged("no trust anchors were given"), nil
	}
	if o.At.IsZero() {
		return unjudged("no time of judgement was given"), nil
	}
	pool := x509.NewCertPool()
	for _, list := range [][]*x509.Certificate{embedded, o.Intermediates} {
		for _, c := range list {
			pool.AddCert(c)
		}
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: o.Roots, Intermediates: pool, CurrentTime: o.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fail("%v", err), nil
	}
	return pass(""), chains[0]
}
