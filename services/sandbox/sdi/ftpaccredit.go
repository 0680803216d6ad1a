package sdi

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
)

// AccreditFTP enables a node, or replaces it, and issues what both sides need.
// spec: AllA-1.9 §1.5.3; SDIFTP-4.3 §6
func (e *Exchange) AccreditFTP(r client.FTPAccreditationRequest) (client.FTPAccreditation, error) {
	var none client.FTPAccreditation
	hostKey, _, _, _, err := ssh.ParseAuthorizedKey([]byte(r.HostKey))
	if err != nil {
		return none, fmt.Errorf("host_key must be the public key of the server as OpenSSH writes it: %w", err)
	}
	tx, err := e.newTransmitter(client.AccreditationRequest{FiscalID: r.FiscalID})
	if err != nil {
		return none, err
	}
	n := &ftpNode{e: e, tx: tx, address: r.Address, test: r.Test, taken: map[string]bool{}}
	n.towards, n.from = sdiftp.DirTowards, sdiftp.DirFrom
	if r.Test {
		n.towards, n.from = sdiftp.DirTowardsTest, sdiftp.DirFromTest
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return none, err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return none, err
	}
	for _, code := range r.RecipientCodes {
		if len(code) != 6 && len(code) != 7 {
			return none, fmt.Errorf("recipient_codes: %q has neither six nor seven characters", code)
		}
	}
	user := r.User
	if user == "" {
		user = "sdi"
	}
	n.login = &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(hostKey), Timeout: 10 * time.Second}
	answer, err := n.issue(r.FiscalID)
	if err != nil {
		return none, err
	}
	answer.ClientKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))) + " SANDBOX"
	e.mu.Lock()
	old := e.transmitters[tx.fiscalID]
	if old != nil { // the same transmitter may use both channels
		tx.callback, tx.client, tx.encoding = old.callback, old.client, old.encoding
	}
	if old != nil && len(r.RecipientCodes) == 0 {
		tx.reception, tx.receiver, tx.codes = old.reception, old.receiver, old.codes
	}
	if len(r.RecipientCodes) > 0 {
		tx.codes, tx.node = slices.Clone(r.RecipientCodes), n
	}
	e.enlist(tx)
	e.transmitters[tx.fiscalID] = tx
	e.nodes[tx.fiscalID] = n
	e.mu.Unlock()
	if r.VisitMS > 0 {
		go n.visitEvery(e.base, time.Duration(r.VisitMS)*time.Millisecond)
	}
	return answer, nil
}

// issue makes the certificates: each side signs with one and is written to with another.
func (n *ftpNode) issue(id string) (a client.FTPAccreditation, err error) {
	authority := n.e.cfg.CA
	var issued [4]*ca.Issued
	for i, issue := range []func() (*ca.Issued, error){
		func() (*ca.Issued, error) { return authority.IssueClient("SDIFTP-SANDBOX firma") },
		func() (*ca.Issued, error) { return authority.IssueEncryption("SDIFTP-SANDBOX cifra") },
		func() (*ca.Issued, error) { return authority.IssueClient("SDIFTP-" + id + " firma") },
		func() (*ca.Issued, error) { return authority.IssueEncryption("SDIFTP-" + id + " cifra") },
	} {
		issued[i], err = issue()
		if err != nil {
			return a, err
		}
	}
	opens, ok := issued[1].Key.(*rsa.PrivateKey)
	if !ok {
		return a, errors.New("the key for encryption is not RSA")
	}
	n.signer = sdiftp.Signer{Certificate: issued[0].Certificate(), Key: issued[0].Key}
	n.opener = sdiftp.Opener{Certificate: issued[1].Certificate(), Key: opens, Roots: n.e.caPool, Signers: []string{"SDIFTP-" + id + " firma"}}
	n.readable = issued[3].Certificate()
	a = client.FTPAccreditation{
		FiscalID: id, SdICertPEM: leaf(issued[1]), SdISigner: "SDIFTP-SANDBOX firma",
		SignCertPEM: leaf(issued[2]), DecryptCertPEM: leaf(issued[3]), CAPEM: string(authority.CertPEM()),
	}
	for i, into := range map[int]*string{2: &a.SignKeyPEM, 3: &a.DecryptKeyPEM} {
		pem, err := issued[i].KeyPEM()
		if err != nil {
			return a, err
		}
		*into = string(pem)
	}
	return a, nil
}

// leaf is the certificate alone, without its authority.
func leaf(i *ca.Issued) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
}
