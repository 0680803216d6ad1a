package validation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Limit says until when a primitive is relied on. The first limit that fits counts.
type Limit struct {
	Name  string    // of a hash as in crypto.Hash.String, or RSA, ECDSA, EdDSA
	Below int       // bits of the key; 0: any size
	Until time.Time // zero: no end is set; 1970-01-01: never
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// DefaultPolicy is the dated table of algorithms. The dates of what is still in use are those of
// TS 119 312; those of what is long gone follow the practice of European validators.
// spec: TS119312 §5, §9 (RSA from 1900 to 2999 bits ends with 2028)
func DefaultPolicy() []Limit {
	return []Limit{
		{"MD5", 0, day(1970, 1, 1)}, {"SHA-1", 0, day(2012, 8, 1)}, {"SHA-224", 0, day(2029, 1, 1)},
		{"SHA-256", 0, time.Time{}}, {"SHA-2", 0, time.Time{}}, {"SHA-384", 0, time.Time{}}, {"SHA-512", 0, time.Time{}},
		{"RSA", 1024, day(2010, 8, 1)}, {"RSA", 1900, day(2019, 10, 1)}, {"RSA", 3000, day(2029, 1, 1)}, {"RSA", 0, time.Time{}},
		{"ECDSA", 224, day(2013, 1, 1)}, {"ECDSA", 256, day(2021, 1, 1)}, {"ECDSA", 0, time.Time{}},
		{"EdDSA", 0, time.Time{}},
	}
}

// primitive is one algorithm in use.
type primitive struct {
	use, name string // name as in Limit
	bits      int
}

func (p primitive) String() string {
	if p.bits > 0 {
		return fmt.Sprintf("%s-%d", p.name, p.bits)
	}
	return p.name
}

func keyOf(use string, pub any) primitive {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return primitive{use, "RSA", k.N.BitLen()}
	case *ecdsa.PublicKey:
		return primitive{use, "ECDSA", k.Params().BitSize}
	}
	return primitive{use, strings.TrimPrefix(fmt.Sprintf("%T", pub), "*"), 0}
}

// of a certificate: what it was signed with.
func certificateHash(c *x509.Certificate) (primitive, bool) {
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if name := strings.ReplaceAll(h.String(), "-", ""); strings.Contains(strings.ReplaceAll(c.SignatureAlgorithm.String(), "-", ""), name) {
			return primitive{"digest of the certificate " + commonName(c), h.String(), 0}, true
		}
	}
	return primitive{}, false
}

// weigh judges primitives at a time; the first that is too weak gives the reason.
func weigh(policy []Limit, used []primitive, at time.Time) ([]Algorithm, string) {
	var out []Algorithm
	weak := ""
	for _, p := range used {
		a := Algorithm{Use: p.use, Name: p.String()}
		for _, l := range policy {
			if l.Name == p.name && (l.Below == 0 || p.bits < l.Below) {
				a.Until, a.OK = l.Until, l.Until.IsZero() || at.Before(l.Until)
				break
			}
		}
		if !a.OK && weak == "" {
			weak = fmt.Sprintf("%s (%s) is not relied on", p, p.use)
			if !a.Until.IsZero() {
				weak = fmt.Sprintf("%s (%s) is relied on until %s, and the signature is proven for %s only", p, p.use, a.Until.Format(time.DateOnly), at.UTC().Format(time.DateOnly))
			}
		}
		out = append(out, a)
	}
	return out, weak
}
