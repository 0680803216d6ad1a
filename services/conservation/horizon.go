package conservation

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"time"

	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/run"
)

// RenewalConfig says when evidence is renewed, and by which dated policy of algorithms.
type RenewalConfig struct {
	// Ahead is how long before the end of a stamp's certificate or algorithm its evidence is renewed.
	Ahead time.Duration `yaml:"ahead"`
	// Hash of new hash trees, once the one in use comes to its end: SHA-256, SHA-384 or SHA-512.
	Hash string `yaml:"hash"`
	// Packages share one time stamp, at most so many.
	Packages int `yaml:"packages"`
	// Algorithms have an end. One that is not named has none: the list is reviewed once a year, by the catalogue of the
	// European bodies (ETSI TS 119 312).
	Algorithms []AlgorithmConfig `yaml:"algorithms"`
	// FormerRootsFile holds roots (PEM) of authorities that are no longer in tsa, and stamped what is kept.
	FormerRootsFile string `yaml:"former_roots_file"`
}

// AlgorithmConfig is one algorithm with its end.
type AlgorithmConfig struct {
	// Name is SHA-256, SHA-384, SHA-512, RSA-2048 (by the bits of the key), P-256, P-384 or Ed25519.
	Name string `yaml:"name"`
	// Until is the last day on which it is trusted, for example 2035-12-31.
	Until string `yaml:"until"`
}

func defaultRenewal() RenewalConfig {
	return RenewalConfig{Ahead: 365 * aDay, Hash: "SHA-512", Packages: 500, Algorithms: []AlgorithmConfig{
		{"RSA-2048", "2028-12-31"}, {"SHA-256", "2035-12-31"}, {"RSA-3072", "2035-12-31"}, {"P-256", "2035-12-31"},
	}}
}

var treeHashes = map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

func (c RenewalConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Ahead < aDay, "renewal.ahead", "must be at least 24h")
	bad(treeHashes[c.Hash] == 0, "renewal.hash", "%q is not SHA-256, SHA-384 or SHA-512", c.Hash)
	bad(c.Packages < 1 || c.Packages > 10_000, "renewal.packages", "must be between 1 and 10000")
	for _, a := range c.Algorithms {
		_, err := time.Parse(time.DateOnly, a.Until)
		bad(a.Name == "", "renewal.algorithms.name", "is missing")
		bad(err != nil, "renewal.algorithms.until", "%q of %s is no date such as 2035-12-31", a.Until, a.Name)
	}
}

// end is when an algorithm's last day is over; false when it has no end.
func (c RenewalConfig) end(name string) (time.Time, bool) {
	at := slices.IndexFunc(c.Algorithms, func(a AlgorithmConfig) bool { return a.Name == name })
	if at < 0 {
		return time.Time{}, false
	}
	day, err := time.Parse(time.DateOnly, c.Algorithms[at].Until)
	return day.AddDate(0, 0, 1), err == nil
}

// horizon is the policy as evidence records are judged by it.
func (c RenewalConfig) horizon() map[crypto.Hash]time.Time {
	ends := map[crypto.Hash]time.Time{}
	for name, h := range treeHashes {
		if end, ok := c.end(name); ok {
			ends[h] = end
		}
	}
	return ends
}

// lasts is until when a time stamp can be verified: the end of its authority's certificate, of the certificate's
// key, or of the hash, whichever comes first.
func (c RenewalConfig) lasts(token *tsp.Token, hash crypto.Hash) (time.Time, error) {
	cert := token.Certificate()
	if cert == nil {
		return time.Time{}, fmt.Errorf("the time stamp does not carry its authority's certificate")
	}
	until := cert.NotAfter
	for _, name := range []string{hash.String(), token.Info.Hash.String(), keyName(cert)} {
		if end, ok := c.end(name); ok && end.Before(until) {
			until = end
		}
	}
	return until, nil
}

// keyName is an algorithm of signatures as the policy names it.
func keyName(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return cert.PublicKeyAlgorithm.String()
}

// trusted are the roots of all authorities, those of today and the former ones: one record holds stamps of several.
func trusted(cfg Config) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	files := []string{}
	for _, t := range cfg.TSA {
		files = append(files, t.CAFile)
	}
	if cfg.Renewal.FormerRootsFile != "" {
		files = append(files, cfg.Renewal.FormerRootsFile)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, run.BadField("renewal.former_roots_file", "%v", err)
		}
		if !pool.AppendCertsFromPEM(raw) {
			return nil, run.BadField("renewal.former_roots_file", "%s holds no PEM certificate", file)
		}
	}
	return pool, nil
}
