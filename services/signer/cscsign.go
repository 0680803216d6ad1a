package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/signer/internal/db"
)

// cscRaw is how a challenge says that its digests themselves were signed.
const cscRaw = "RAW"

// synchronous refuses the other mode, which info does not offer, and what only matters in it.
func synchronous(mode string) error {
	if mode == "A" {
		return csc.InvalidParameter("operationMode")
	}
	return nil
}

// algorithm says whether the key of a credential signs with an algorithm. spec: CSC-2.0.0.2 §11.10
func (c *cscCall) algorithm(row offered, signAlgo, hashAlgo string, params []byte) error {
	leaf, err := x509.ParseCertificate(row.Credential.Chain[0])
	if err != nil {
		return fmt.Errorf("signer: certificate of %s: %w", nameOfCredential(row.Credential), err)
	}
	switch {
	case !slices.Contains(keyOf(leaf).Algo, signAlgo):
		return csc.InvalidParameter("signAlgo")
	case hashAlgo != csc.SHA256:
		return csc.InvalidParameter("hashAlgorithmOID")
	case len(params) > 0: // none of the algorithms has any but the NULL of RSA, which says nothing
		return csc.InvalidParameter("signAlgoParams")
	}
	return nil
}

// use gives the SAD to this call, for exactly these digests and this output. What it gives is the
// challenge, which is SIGNED already when the same call came before.
func (c *cscCall) use(ctx context.Context, row offered, sad string, hashes [][]byte, output string) (db.Challenge, error) {
	s := c.service
	id, authorization, err := parseSAD(sad)
	if err != nil {
		return db.Challenge{}, err
	}
	sorted, err := sortedHashes(hashes)
	if err != nil {
		return db.Challenge{}, err
	}
	var ch db.Challenge
	err = s.db.Tx(ctx, c.caller.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		cred, err := personal(ctx, q, credentialName{c.caller.Tenant, row.Credential.CompanyID, row.Credential.ID})
		if err != nil {
			return err
		}
		if err := c.usable(cred); err != nil {
			return err
		}
		ch, err = ownChallenge(ctx, q, row.Credential.ID.String(), credentialName{id: cred.ID}, id)
		if err != nil {
			return err
		}
		if err := covers(ch, authorization, sorted); err != nil {
			return err
		}
		ch, err = s.useAuthorization(ctx, tx, cred, ch, c.repeat, output)
		return err
	})
	return ch, err
}

// signHash signs digests as they are. spec: CSC-2.0.0.2 §11.10
func (c *cscCall) signHash(ctx context.Context, req *csc2.SignHashRequest) (*csc2.SignHashResponse, error) {
	if err := synchronous(req.OperationMode); err != nil {
		return nil, err
	}
	row, err := c.one(ctx, req.CredentialID)
	if err != nil {
		return nil, err
	}
	if err := c.algorithm(row, req.SignAlgo, req.HashAlgorithm, req.SignAlgoParams); err != nil {
		return nil, err
	}
	ch, err := c.use(ctx, row, req.SAD, req.Hashes, cscRaw)
	if err != nil {
		return nil, err
	}
	d := &documents{made: map[[sha256.Size]byte][]byte{}}
	if ch.State != "SIGNED" {
		ch, err = c.service.signChallenge(ctx, row.Credential, ch, req.SAD, func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
			return d.keep(signRaw(ctx, hash, by, at))
		})
		if err != nil {
			return nil, err
		}
	}
	files, err := c.service.release(ctx, row.Credential, ch, req.Hashes, d)
	if err != nil {
		return nil, err
	}
	resp := &csc2.SignHashResponse{}
	for _, one := range files.GetSignatures() {
		resp.Signatures = append(resp.Signatures, one.GetCms())
	}
	return resp, nil
}

// signRaw signs a digest as it is (PKCS #1 v1.5, or ECDSA in ASN.1) and verifies what came back with the
// certificate's key.
func signRaw(ctx context.Context, hash []byte, by *readyCredential, _ time.Time) ([]byte, error) {
	key, ok := by.signer.Key.(cms.ContextSigner)
	if !ok {
		return nil, fault.Internal("KEY_UNKNOWN", "the key of %s signs no digests", by.name)
	}
	sig, err := key.SignContext(ctx, hash, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	switch public := by.signer.Chain[0].PublicKey.(type) {
	case *rsa.PublicKey:
		ok = rsa.VerifyPKCS1v15(public, crypto.SHA256, hash, sig) == nil
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(public, hash, sig)
	default:
		ok = false
	}
	if !ok {
		return nil, fault.Internal("SIGNATURE_NOT_VERIFIED", "the signature just made does not verify and is thrown away")
	}
	return sig, nil
}

// timestamp stamps a digest. spec: CSC-2.0.0.2 §11.13
func (c *cscCall) timestamp(ctx context.Context, req *csc2.TimestampRequest) (*csc2.TimestampResponse, error) {
	if req.HashAlgo != csc.SHA256 {
		return nil, csc.InvalidParameter("hashAlgo")
	}
	var nonce *big.Int
	if req.Nonce != "" {
		nonce, _ = new(big.Int).SetString(req.Nonce, 16) // the digits were looked at
		if nonce == nil || nonce.Sign() == 0 {
			return nil, csc.InvalidParameter("nonce")
		}
	}
	token, _, err := c.service.stampWith(ctx, c.caller.Tenant, req.Hash, nonce)
	if err != nil {
		return nil, err
	}
	return &csc2.TimestampResponse{Timestamp: token.Raw}, nil
}

// proves says whether this is the authorization of the challenge.
func proves(ch db.Challenge, authorization string) error {
	secret, err := base64.RawURLEncoding.DecodeString(authorization)
	if err != nil || !matches(ch, secret) {
		return fault.Denied("AUTHORIZATION_INVALID", "this is not the authorization of the challenge")
	}
	return nil
}
