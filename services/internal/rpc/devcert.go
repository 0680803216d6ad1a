package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// devLifetime is how long certificates for development live; they are renewed
// when less than a third is left.
const devLifetime = 90 * 24 * time.Hour

// DevCertificates makes a CA and one certificate per service in dir, for
// development and tests, and returns the files with {target} in them. What is
// there and still good is kept. Every certificate is valid for the service's
// name, localhost and the loopback addresses, as server and as client.
//
// It is no way to make certificates for production: the key of the CA lies
// beside them.
func DevCertificates(dir string, names ...string) (Files, error) {
	files := Files{
		Cert: filepath.Join(dir, "{target}.crt"),
		Key:  filepath.Join(dir, "{target}.key"),
		CA:   filepath.Join(dir, "ca.crt"),
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Files{}, fmt.Errorf("rpc: development certificates: %w", err)
	}
	ca, caKey, err := devCA(dir)
	if err != nil {
		return Files{}, fmt.Errorf("rpc: development CA in %s: %w", dir, err)
	}
	for _, name := range names {
		if err := devLeaf(files.For(name), name, ca, caKey); err != nil {
			return Files{}, fmt.Errorf("rpc: development certificate of %s in %s: %w", name, dir, err)
		}
	}
	return files, nil
}

// devCA loads the CA or makes a new one; a new CA invalidates all leaves, which
// devLeaf notices by their signature.
func devCA(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPath, keyPath := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	cert, err := readCert(certPath)
	if err == nil && fresh(cert) {
		key, err := readKey(keyPath)
		if err == nil && key.PublicKey.Equal(cert.PublicKey) {
			return cert, key, nil
		}
	}
	template, err := devTemplate("Ceralacca development CA - NOT FOR PRODUCTION")
	if err != nil {
		return nil, nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	if err := writePair(certPath, keyPath, der, key); err != nil {
		return nil, nil, err
	}
	cert, err = x509.ParseCertificate(der)
	return cert, key, err
}

func devLeaf(files Files, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	if cert, err := readCert(files.Cert); err == nil && fresh(cert) && cert.CheckSignatureFrom(ca) == nil {
		if key, err := readKey(files.Key); err == nil && key.PublicKey.Equal(cert.PublicKey) {
			return nil
		}
	}
	template, err := devTemplate(name)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{name, "localhost"}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	return writePair(files.Cert, files.Key, der, key)
}

func devTemplate(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now() // TLS compares with the real clock, so this is the real clock
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Ceralacca development"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(devLifetime),
	}, nil
}

func fresh(cert *x509.Certificate) bool {
	return time.Until(cert.NotAfter) > devLifetime/3
}

func readCert(path string) (*x509.Certificate, error) {
	block, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(block)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	block, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return ec, nil
}

func readPEM(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM block", path)
	}
	return block.Bytes, nil
}

// writePair writes the key first: a certificate whose key is missing would be
// taken up by a running process.
func writePair(certPath, keyPath string, der []byte, key *ecdsa.PrivateKey) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyPath, "PRIVATE KEY", pkcs8, 0o600); err != nil {
		return err
	}
	return writePEM(certPath, "CERTIFICATE", der, 0o644)
}

func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
