package tsp

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"ceralacca.dev/services/format/cms"
)

// Authority is the answering side. All fields but Chain, Accuracy and Amend are required.
type Authority struct {
	Certificate *x509.Certificate // extended key usage timeStamping, alone and critical
	Chain       []*x509.Certificate
	Key         crypto.Signer
	Policy      asn1.ObjectIdentifier
	Accuracy    time.Duration // stated in the token when not zero; whole milliseconds
	Now         func() time.Time
	Serial      func() *big.Int // a new positive number at each call
	// Amend, when set, may change what the token is going to state (a simulator's faults).
	Amend func(*Info)
}

// Respond answers one request. A bad request gives a refusal, not an error; errors mean that
// the authority itself cannot work (key gone), and the caller answers with Refuse.
func (a *Authority) Respond(ctx context.Context, requestDER []byte) ([]byte, error) {
	req, err := ParseRequest(requestDER)
	switch {
	case errors.Is(err, ErrHash):
		return Refuse(FailBadAlg, err.Error())
	case errors.Is(err, ErrExtensions):
		return Refuse(FailUnacceptedExtension, err.Error())
	case err != nil:
		return Refuse(FailBadDataFormat, err.Error())
	case req.Policy != nil && !req.Policy.Equal(a.Policy):
		return Refuse(FailUnacceptedPolicy, fmt.Sprintf("policy %v is not offered, only %v", req.Policy, a.Policy))
	}
	token, err := a.token(ctx, req)
	if err != nil {
		return nil, err
	}
	return (&Response{Status: Granted, Token: token}).Marshal()
}

// Refuse gives the DER of a rejection.
func Refuse(why Failure, text string) ([]byte, error) {
	return (&Response{Status: Rejection, Text: []string{text}, Failures: []Failure{why}}).Marshal()
}

// token states and signs. spec: RFC3161 §2.4.2; RFC5816 §2.2.1
func (a *Authority) token(ctx context.Context, req *Request) ([]byte, error) {
	info := Info{
		Policy: a.Policy, Hash: req.Hash, Digest: req.Digest, Serial: a.Serial(),
		Time: a.Now().UTC().Truncate(time.Second), Accuracy: a.Accuracy, Nonce: req.Nonce,
	}
	if a.Amend != nil {
		a.Amend(&info)
	}
	content, err := info.marshal()
	if err != nil {
		return nil, err
	}
	ess, err := cms.SigningCertificateV2(a.Certificate)
	if err != nil {
		return nil, fmt.Errorf("tsp: %w", err)
	}
	sum := sha256.Sum256(content)
	prepared, err := cms.Prepare(sum[:], cms.Options{
		Certificate: a.Certificate, Chain: a.Chain, ContentType: cms.OIDTSTInfo,
		SigningTime: info.Time, Signed: []cms.Attribute{ess}, BareSigner: !req.CertReq,
	})
	if err != nil {
		return nil, fmt.Errorf("tsp: %w", err)
	}
	sig, err := prepared.Sign(ctx, a.Key)
	if err != nil {
		return nil, fmt.Errorf("tsp: %w", err)
	}
	return prepared.Assemble(content, sig)
}

func (i *Info) marshal() ([]byte, error) {
	imprint, err := imprintOf(i.Hash, i.Digest)
	if err != nil {
		return nil, err
	}
	raw := tstInfo{
		Version: 1, Policy: i.Policy, Imprint: imprint, Serial: i.Serial,
		GenTime: i.Time, Ordering: i.Ordering, Nonce: i.Nonce,
		Accuracy: accuracy{Seconds: int(i.Accuracy / time.Second), Millis: int(i.Accuracy % time.Second / time.Millisecond)},
	}
	der, err := asn1.Marshal(raw)
	if err != nil {
		return nil, fmt.Errorf("tsp: encode TSTInfo: %w", err)
	}
	return der, nil
}
