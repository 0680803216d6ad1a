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
	Until time.Time // zero: no end is set; 1970-01-01: at no time
}

func day(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }

// DefaultPolicy is the dated table of algorithms: a primitive is relied on before its date. The
// dates are those that European validators took from the editions of the standard named beside
// them. RSA from 1900 to 2999 bits has that of the edition of 2026: no new certificates after
// 2026-12-31, and none of the old ones in force after 2028-12-31, so that nothing is signed after it.
// What the present edition recommends has no end here: the horizon of an edition is none.
// spec: TS119312 §5, §8.4, §9 (V1.1.1, V1.4.2, 2026); before it TS 102 176-1 V2.0.0 and V2.1.1
func DefaultPolicy() []Limit {
	return []Limit{
		{"MD5", 0, never}, {"SHA-1", 0, day(2009, 1, 1)}, // TS 102 176-1 V2.0.0
		{"SHA-224", 0, day(2026, 1, 1)}, // V1.4.2
		{"SHA-256", 0, time.Time{}}, {"SHA-2", 0, time.Time{}}, {"SHA-384", 0, time.Time{}}, {"SHA-512", 0, time.Time{}},
		{"RSA", 1024, never}, {"RSA", 1536, day(2009, 1, 1)}, // TS 102 176-1 V2.0.0
		{"RSA", 1900, day(2016, 1, 1)},                          // V1.1.1
		{"RSA", 3000, day(2029, 1, 1)}, {"RSA", 0, time.Time{}}, // edition of 2026, §8.4
		{"ECDSA", 160, never}, {"ECDSA", 224, day(2013, 1, 1)}, // TS 102 176-1 V2.1.1
		{"ECDSA", 256, day(2016, 1, 1)}, {"ECDSA", 0, time.Time{}}, // V1.1.1
		// Not in the standard's list of suites; RFC 8410 and EN 319 122-1 let it be used.
		{"EdDSA", 0, time.Time{}},
	}
}

// never was relied on at no time that matters.
var never = day(1970, 1, 1)

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
