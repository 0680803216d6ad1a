package sdigateway

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/internal/run"
)

// FTPConfig of the SDIFTP channel. SdI's client connects to us.
type FTPConfig struct {
	// Listen is the address of the SFTP server, host:port; empty switches the channel off.
	Listen string `yaml:"listen"`
	// HostKeyFile is the server's own key, PEM (ssh-keygen -t ed25519).
	HostKeyFile string `yaml:"host_key_file"`
	// AuthorizedKeysFile holds the public keys of SdI's clients, one a line, as OpenSSH writes them.
	AuthorizedKeysFile string `yaml:"authorized_keys_file"`
	// User is the one user that may log in. Default sdi.
	User string `yaml:"user"`
	// Node is the fiscal identifier of the node; default that of the transmitter.
	Node string `yaml:"node"`
	// Test uses the directories and the numbers of SdI's test environment.
	Test bool `yaml:"test"`
	// SignCertFile and SignKeyFile sign supports, PEM.
	SignCertFile string `yaml:"sign_cert_file"`
	SignKeyFile  string `yaml:"sign_key_file"`
	// DecryptCertFile and DecryptKeyFile open supports that SdI encrypts for us, PEM, RSA.
	DecryptCertFile string `yaml:"decrypt_cert_file"`
	DecryptKeyFile  string `yaml:"decrypt_key_file"`
	// SdICertFile holds the certificates that supports are encrypted for, PEM.
	SdICertFile string `yaml:"sdi_cert_file"`
	// SdICAFile holds the authorities of the certificates that SdI signs with, PEM; default ca_file.
	SdICAFile string `yaml:"sdi_ca_file"`
	// SdISigners are the common names that may sign supports; any that the authority vouches for when empty.
	SdISigners []string `yaml:"sdi_signers"`
	// Receive says that SdI brings invoices for the tenants' companies in supports. Without it, and without inbound,
	// they are kept and their jobs are parked.
	Receive bool `yaml:"receive"`
	// GatherFor is how long documents are gathered into one support. Default 5m.
	GatherFor time.Duration `yaml:"gather_for"`
	// SupportSize is how many bytes of documents make a support at once. Default 14000000: SdI takes only one
	// support below 15 MB at each access.
	SupportSize int64 `yaml:"support_size"`
	// SupportFiles is how many documents make a support at once. Default 20000.
	SupportFiles int32 `yaml:"support_files"`
	// SilentAfter is how long SdI may stay away from a support shown to it before the channel counts as
	// unhealthy. Default 1h.
	SilentAfter time.Duration `yaml:"silent_after"`
	// RetryRefused is how long after a refused support the next one is tried. Default 1h.
	RetryRefused time.Duration `yaml:"retry_refused"`
}

func defaultFTP() FTPConfig {
	return FTPConfig{
		User: "sdi", GatherFor: 5 * time.Minute, SupportSize: 14_000_000, SupportFiles: sdiftp.MaxDocuments,
		SilentAfter: time.Hour, RetryRefused: time.Hour,
	}
}

// validateChannels says what cannot work about the choice of channels and about SDIFTP.
func (c *Config) validateChannels() (problems []error) {
	check := func(key string, list []string) {
		if len(list) == 0 {
			problems = append(problems, run.BadField(key, "is empty: name SDICOOP, SDIFTP or both"))
		}
		for i, name := range list {
			switch {
			case name != channelCoop && name != channelFTP:
				problems = append(problems, run.BadField(key, "%q is neither SDICOOP nor SDIFTP; certified mail is set for each company by ceralacca sdi pec set", name))
			case name == channelFTP && c.FTP.Listen == "":
				problems = append(problems, run.BadField(key, "SDIFTP needs ftp.listen"))
			case slices.Contains(list[:i], name):
				problems = append(problems, run.BadField(key, "%s is there twice", name))
			}
		}
	}
	check("channels", c.Channels)
	for _, key := range slices.Sorted(maps.Keys(c.ChannelsOf)) {
		check("channels_of."+key, c.ChannelsOf[key])
		parts := strings.Split(key, "/")
		if parts[0] != "tenants" || (len(parts) != 2 && (len(parts) != 4 || parts[2] != "companies")) {
			problems = append(problems, run.BadField("channels_of."+key, "is neither tenants/T nor tenants/T/companies/C"))
		}
	}
	if c.FTP.Listen == "" {
		return problems
	}
	return append(problems, c.validateFTP()...)
}

func (c *Config) validateFTP() (problems []error) {
	f := &c.FTP
	if name, err := c.sender(); err == nil && f.Node == "" {
		f.Node = name.ID
	}
	if f.SdICAFile == "" {
		f.SdICAFile = c.CAFile
	}
	_, _, err := net.SplitHostPort(f.Listen)
	if err != nil {
		problems = append(problems, run.BadField("ftp.listen", "%q is not host:port: %v", f.Listen, err))
	}
	err = sdiftp.NewName(sdiftp.FI, f.Node, time.Unix(1e9, 0), 1).Validate()
	if err != nil {
		problems = append(problems, run.BadField("ftp.node", "%v", err))
	}
	if f.User == "" {
		problems = append(problems, run.BadField("ftp.user", "is empty"))
	}
	if f.SupportSize < 1 || f.SupportSize > 100_000_000 {
		problems = append(problems, run.BadField("ftp.support_size", "%d is not between 1 and 100000000", f.SupportSize))
	}
	if f.SupportFiles < 1 || f.SupportFiles > sdiftp.MaxDocuments {
		problems = append(problems, run.BadField("ftp.support_files", "%d is not between 1 and %d", f.SupportFiles, sdiftp.MaxDocuments))
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"ftp.silent_after", f.SilentAfter}, {"ftp.retry_refused", f.RetryRefused}} {
		if d.value < time.Second {
			problems = append(problems, run.BadField(d.key, "%s is less than 1s", d.value))
		}
	}
	if f.GatherFor < 0 {
		problems = append(problems, run.BadField("ftp.gather_for", "%s is negative", f.GatherFor))
	}
	return problems
}

// ftpKeys is what the channel signs, opens and proves itself with.
type ftpKeys struct {
	host       ssh.Signer
	clients    map[string]string // marshalled public key -> comment
	signer     sdiftp.Signer
	opener     sdiftp.Opener
	recipients []*x509.Certificate
}

func (f *FTPConfig) load() (*ftpKeys, error) {
	k := &ftpKeys{clients: map[string]string{}}
	raw, err := os.ReadFile(f.HostKeyFile)
	if err == nil {
		k.host, err = ssh.ParsePrivateKey(raw)
	}
	if err != nil {
		return nil, run.BadField("ftp.host_key_file", "cannot be used: %v", err)
	}
	err = k.loadClients(f.AuthorizedKeysFile)
	if err != nil {
		return nil, run.BadField("ftp.authorized_keys_file", "cannot be used: %v", err)
	}
	k.signer.Certificate, k.signer.Chain, k.signer.Key, err = loadPair(f.SignCertFile, f.SignKeyFile)
	if err != nil {
		return nil, run.BadField("ftp.sign_cert_file", "with sign_key_file cannot be used: %v", err)
	}
	cert, _, key, err := loadPair(f.DecryptCertFile, f.DecryptKeyFile)
	if err != nil {
		return nil, run.BadField("ftp.decrypt_cert_file", "with decrypt_key_file cannot be used: %v", err)
	}
	opens, ok := key.(crypto.Decrypter)
	if !ok {
		return nil, run.BadField("ftp.decrypt_key_file", "holds a key of type %T, which opens nothing: use RSA", key)
	}
	k.opener = sdiftp.Opener{Certificate: cert, Key: opens, Signers: f.SdISigners}
	k.opener.Roots, err = loadRoots("ftp.sdi_ca_file", f.SdICAFile)
	if err != nil {
		return nil, err
	}
	k.recipients, err = loadCertificates(f.SdICertFile)
	if err != nil {
		return nil, run.BadField("ftp.sdi_cert_file", "cannot be used: %v", err)
	}
	return k, nil
}

func (k *ftpKeys) loadClients(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for len(bytes.TrimSpace(raw)) > 0 {
		key, comment, _, rest, err := ssh.ParseAuthorizedKey(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		k.clients[string(key.Marshal())] = comment
		raw = rest
	}
	if len(k.clients) == 0 {
		return fmt.Errorf("%s holds no public key: nobody could log in", file)
	}
	return nil
}

func loadPair(certFile, keyFile string) (*x509.Certificate, []*x509.Certificate, crypto.Signer, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, nil, nil, err
	}
	var chain []*x509.Certificate
	for _, der := range pair.Certificate[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, nil, err
		}
		chain = append(chain, c)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, nil, fmt.Errorf("%s: a key of type %T signs nothing", keyFile, pair.PrivateKey)
	}
	return pair.Leaf, chain, key, nil
}

func loadCertificates(file string) (out []*x509.Certificate, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !cert.IsCA { // a file with the chain in it
			out = append(out, cert)
		}
	}
	if len(out) == 0 {
		return nil, errors.New(file + " holds no PEM certificate that is not an authority's")
	}
	return out, nil
}
