package cms

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
)

// AddUnsigned adds an unsigned attribute to signer (0 is the first) and gives the file anew in
// DER. The signed bytes stay as they are.
func (sd *SignedData) AddUnsigned(signer int, attr Attribute) ([]byte, error) {
	if signer < 0 || signer >= len(sd.Signers) {
		return nil, fmt.Errorf("cms: no signer %d: the file has %d", signer, len(sd.Signers))
	}
	if sd.body != nil {
		return nil, errors.New("cms: the content is not in memory: use Stamped, and Write")
	}
	si := sd.Signers[signer]
	list := append(append([]Attribute(nil), si.UnsignedAttributes...), attr)
	tail, err := unsignedAttributes(list)
	if err != nil {
		return nil, err
	}
	infos := append([][]byte(nil), sd.infos...)
	infos[signer] = tlv(tagSequence, si.fixed, tail)
	return sd.rebuild(sd.env, infos), nil
}

// AddSigner adds a parallel signature over the same content (digest for a detached file:
// contentSHA256; else it is computed and may be nil) and gives the file anew in DER.
func (sd *SignedData) AddSigner(ctx context.Context, contentSHA256 []byte, key crypto.Signer, o Options) ([]byte, error) {
	if sd.body != nil {
		return nil, errors.New("cms: the content is not in memory: sign its digest, and Join")
	}
	if !sd.Detached {
		sum := sha256.Sum256(sd.content)
		contentSHA256 = sum[:]
	}
	o.ContentType = sd.ContentType
	p, sig, err := signDigest(ctx, contentSHA256, key, o)
	if err != nil {
		return nil, err
	}
	si, err := p.signerInfo(sig, nil)
	if err != nil {
		return nil, err
	}
	env := sd.env
	if env.certs, err = mergeSets(tagContext0, sd.env.certs, p.certs); err != nil {
		return nil, err
	}
	if env.digests, err = mergeSets(tagSet, sd.env.digests, tlv(tagSet, derSHA256)); err != nil {
		return nil, err
	}
	return sd.rebuild(env, append(append([][]byte(nil), sd.infos...), si)), nil
}

// rebuild writes the file in DER. The SignerInfos are sorted, as DER wants of a SET OF: their
// numbers may change.
func (sd *SignedData) rebuild(env envelope, infos [][]byte) []byte {
	env.signers = setOf(tagSet, infos...)
	if sd.Detached {
		return env.detached()
	}
	return env.attached(sd.content)
}

// mergeSets joins two sets of DER elements, each element once.
func mergeSets(tag byte, sets ...[]byte) ([]byte, error) {
	var all [][]byte
	seen := map[string]bool{}
	for _, set := range sets {
		if len(set) == 0 {
			continue
		}
		var outer asn1.RawValue
		if _, err := asn1.Unmarshal(set, &outer); err != nil {
			return nil, fmt.Errorf("cms: set: %w", err)
		}
		for rest := outer.Bytes; len(rest) > 0; {
			var v asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &v); err != nil {
				return nil, fmt.Errorf("cms: member of a set: %w", err)
			}
			if !seen[string(v.FullBytes)] {
				seen[string(v.FullBytes)] = true
				all = append(all, v.FullBytes)
			}
		}
	}
	return setOf(tag, all...), nil
}

// Chain orders the embedded certificates from leaf upwards as far as they go.
func (sd *SignedData) Chain(leaf *x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for len(chain) <= len(sd.Certificates) {
		last := chain[len(chain)-1]
		if string(last.RawIssuer) == string(last.RawSubject) {
			break
		}
		var issuer *x509.Certificate
		for _, c := range sd.Certificates {
			if string(c.RawSubject) == string(last.RawIssuer) && last.CheckSignatureFrom(c) == nil {
				issuer = c
				break
			}
		}
		if issuer == nil {
			break
		}
		chain = append(chain, issuer)
	}
	return chain
}
