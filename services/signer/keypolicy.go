package signer

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/internal/fault"
)

// KeysConfig narrows the table of algorithms by which keys are made.
type KeysConfig struct {
	// RSA3072Until is the day from which RSA-3072 is not relied on, YYYY-MM-DD; empty: as the table of algorithms has it.
	RSA3072Until string `yaml:"rsa_3072_until"`
	// ECP256Until is the same for ECDSA P-256.
	ECP256Until string `yaml:"ec_p256_until"`
	// CheckEvery is how often certificates are looked at: those that become valid, and those that expire.
	CheckEvery time.Duration `yaml:"check_every"`
}

func (k KeysConfig) validate(bad func(when bool, path, format string, a ...any)) {
	for path, text := range map[string]string{"keys.rsa_3072_until": k.RSA3072Until, "keys.ec_p256_until": k.ECP256Until} {
		_, err := time.Parse(time.DateOnly, text)
		bad(text != "" && err != nil, path, "%q is no day: write it as 2030-12-31", text)
	}
	bad(k.CheckEvery < 10*time.Millisecond || k.CheckEvery > time.Hour, "keys.check_every", "must be between 10ms and 1h")
}

// certificateLife is how long the certificate of a new key lasts: a key is made only if it is relied on that long.
const certificateLife = 3 * 365 * 24 * time.Hour

// keySuites are the types of keys that are made here, in the words of the table of algorithms.
var keySuites = []struct {
	name, algorithm string
	bits            int
}{{"EC_P256", "ECDSA", 256}, {"RSA_3072", "RSA", 3072}}

// suite is what the policy says of one type of key. until zero: no end is set.
type suite struct {
	name, algorithm string
	until           time.Time
	allowed         bool
}

// keyPolicy is the table of algorithms as it is for new keys, narrowed by the configuration.
// spec: TS119312 §9
func keyPolicy(cfg KeysConfig, table []validation.Limit, now time.Time) []suite {
	own := map[string]string{"EC_P256": cfg.ECP256Until, "RSA_3072": cfg.RSA3072Until}
	var out []suite
	for _, k := range keySuites {
		until, known := validation.ReliedOn(table, k.algorithm, k.bits)
		if day, err := time.Parse(time.DateOnly, own[k.name]); err == nil && (until.IsZero() || day.Before(until)) {
			until = day
		}
		out = append(out, suite{
			name: k.name, algorithm: fmt.Sprintf("%s-%d", k.algorithm, k.bits), until: until,
			allowed: known && (until.IsZero() || now.Add(certificateLife).Before(until)),
		})
	}
	return out
}

// keyAllowed says whether a key of this type may be made now. Error: Precondition KEY_TYPE_NOT_ALLOWED.
func (s *Service) keyAllowed(keyType string) error {
	for _, k := range keyPolicy(s.cfg.Keys, validation.DefaultPolicy(), s.now()) {
		if k.name == keyType && k.allowed {
			return nil
		}
		if k.name == keyType {
			return fault.Precondition("KEY_TYPE_NOT_ALLOWED", "key_type: %s is relied on until %s, which a new certificate would outlast: choose another",
				k.algorithm, k.until.Format(time.DateOnly)).WithField("credential.key_type", "KEY_TYPE_NOT_ALLOWED", "is not relied on long enough")
		}
	}
	return fault.Invalid("KEY_TYPE_NOT_ALLOWED", "key_type: %s is none that keys are made of", keyType)
}

// checkAlgorithms refuses a chain with a key that is not relied on today, or that was too short when it was certified.
// spec: TS119312 §8.4 (2026)
func checkAlgorithms(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain {
		name, bits := "", 0
		switch k := cert.PublicKey.(type) {
		case *rsa.PublicKey:
			name, bits = "RSA", k.N.BitLen()
		case *ecdsa.PublicKey:
			name, bits = "ECDSA", k.Params().BitSize
		default:
			name = "EdDSA"
		}
		until, known := validation.ReliedOn(validation.DefaultPolicy(), name, bits)
		if !known || !until.IsZero() && !now.Before(until) {
			return badCertificate("CERTIFICATE_ALGORITHM", "certificate %d has a key %s-%d, which is not relied on any more", i+1, name, bits)
		}
		// One that ends later than its key is relied on signs until then: what is refused is what should never have been issued.
		for _, w := range validation.Issued(validation.DefaultIssueLimits(), cert, time.Time{}) {
			if strings.HasPrefix(w, validation.WarnIssuedTooLate) {
				return badCertificate("CERTIFICATE_ALGORITHM", "certificate %d: %s", i+1, w)
			}
		}
	}
	return nil
}

// GetKeyPolicy shows which keys may be made.
func (s *Service) GetKeyPolicy(context.Context, *signv1.GetKeyPolicyRequest) (*signv1.KeyPolicy, error) {
	out := &signv1.KeyPolicy{}
	for _, k := range keyPolicy(s.cfg.Keys, validation.DefaultPolicy(), s.now()) {
		e := &signv1.KeyPolicyEntry{
			KeyType: signv1.KeyType(signv1.KeyType_value["KEY_TYPE_"+k.name]), Algorithm: k.algorithm, Allowed: k.allowed, Source: "ETSI TS 119 312 (2026), clauses 8.4 and 9",
		}
		if !k.until.IsZero() {
			e.ReliedOnUntil = timestamppb.New(k.until)
			if day := map[string]string{"EC_P256": s.cfg.Keys.ECP256Until, "RSA_3072": s.cfg.Keys.RSA3072Until}[k.name]; day == k.until.Format(time.DateOnly) {
				e.Source = "signer.keys"
			}
		}
		out.Entries = append(out.Entries, e)
	}
	return out, nil
}
