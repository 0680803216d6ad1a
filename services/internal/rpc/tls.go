package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Files names the certificate, the key and the CA of one or several services.
// The paths may contain {target}, which stands for the name of a service: one
// setting then covers a process that hosts many, each with its own identity.
type Files struct {
	Cert string // PEM, leaf first
	Key  string // PEM, PKCS #8
	CA   string // PEM; who may sign the certificates of this platform's services
}

// For returns the files of one service.
func (f Files) For(target string) Files {
	fill := func(path string) string { return strings.ReplaceAll(path, "{target}", target) }
	return Files{Cert: fill(f.Cert), Key: fill(f.Key), CA: fill(f.CA)}
}

// ServerTLS serves with the certificate of the target that the client asks for
// by server name (the first target for any other name) and accepts, without
// demanding, client certificates signed by our CA: API callers have none.
// Certificates are read again when their files change.
func ServerTLS(files Files, targets ...string) (*tls.Config, error) {
	if len(targets) == 0 {
		return nil, errors.New("rpc: TLS for no target")
	}
	pool, err := caPool(files.For(targets[0]).CA)
	if err != nil {
		return nil, err
	}
	pairs := map[string]*keyPair{}
	for _, target := range targets {
		if pairs[target], err = loadPair(files.For(target)); err != nil {
			return nil, err
		}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs:  pool,
		NextProtos: []string{"h2"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			pair, ok := pairs[hello.ServerName]
			if !ok {
				pair = pairs[targets[0]]
			}
			return pair.get()
		},
	}, nil
}

// ClientTLS connects to the service serverName and shows the certificate of
// the target self. An empty self shows none (a client with an API key).
func ClientTLS(files Files, self, serverName string) (*tls.Config, error) {
	pool, err := caPool(files.For(self).CA)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: serverName, NextProtos: []string{"h2"}}
	if self == "" {
		return cfg, nil
	}
	pair, err := loadPair(files.For(self))
	if err != nil {
		return nil, err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get() }
	return cfg, nil
}

func caPool(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("rpc: CA certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("rpc: CA certificate %s holds no PEM certificate", path)
	}
	return pool, nil
}

// keyPair is a certificate and its key, followed on disk: cert-manager and the
// like replace the files long before the old certificate ends.
type keyPair struct {
	files Files

	mu      sync.Mutex
	cert    *tls.Certificate
	changed time.Time // modification time of the loaded certificate file
	checked time.Time // when the file was last looked at
}

// recheck is how often a file is looked at.
const recheck = 5 * time.Second

func loadPair(files Files) (*keyPair, error) {
	p := &keyPair{files: files}
	_, err := p.get()
	return p, err
}

// get returns the current certificate. A replacement that cannot be read (half
// written, key not there yet) leaves the old one in use.
func (p *keyPair) get() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cert != nil && time.Since(p.checked) < recheck {
		return p.cert, nil
	}
	p.checked = time.Now()
	info, err := os.Stat(p.files.Cert)
	if err == nil && p.cert != nil && info.ModTime().Equal(p.changed) {
		return p.cert, nil
	}
	var cert tls.Certificate
	if err == nil {
		cert, err = tls.LoadX509KeyPair(p.files.Cert, p.files.Key)
	}
	if err != nil {
		if p.cert != nil {
			return p.cert, nil
		}
		return nil, fmt.Errorf("rpc: service certificate %s with key %s: %w", p.files.Cert, p.files.Key, err)
	}
	p.cert, p.changed = &cert, info.ModTime()
	return p.cert, nil
}

// Ready reports whether the files of a target can be read and fit together,
// for `config check`.
func (f Files) Ready(target string) error {
	files := f.For(target)
	_, caErr := caPool(files.CA)
	_, pairErr := loadPair(files)
	return errors.Join(caErr, pairErr)
}
