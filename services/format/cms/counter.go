package cms

import (
	"crypto"
	"fmt"
)

// Bounds of counter-signatures, far above what is met: of one signature, and inside each other.
const (
	maxCounters     = 16
	maxCounterDepth = 4
)

// CounterSigners reads the counter-signatures of a signature: each is a signature over its value, made
// by somebody who was not asked by the first signer, since the attribute is unsigned.
// Error: one that cannot be read. spec: RFC5652 §11.4
func (si *SignerInfo) CounterSigners() ([]*SignerInfo, error) {
	var out []*SignerInfo
	for _, raw := range si.Unsigned(OIDCounterSignature) {
		if len(out) == maxCounters {
			return out, fmt.Errorf("cms: more than %d counter-signatures of one signature", maxCounters)
		}
		t, err := scan(raw, Limits{})
		if err != nil {
			return out, err
		}
		c, err := readSigner(t, 0)
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

// verifyCounters judges the counter-signatures of a signature into its report.
func (sd *SignedData) verifyCounters(si *SignerInfo, r *SignerReport, o VerifyOptions, depth int) {
	list, err := si.CounterSigners()
	if err == nil && len(list) > 0 && depth == maxCounterDepth {
		err = fmt.Errorf("cms: counter-signatures inside each other, more than %d", maxCounterDepth)
		list = nil
	}
	if err != nil {
		r.Warnings = append(r.Warnings, "a counter-signature cannot be read: "+err.Error())
	}
	for _, c := range list {
		_, own := c.algorithms()
		digests := map[crypto.Hash][]byte{}
		for _, h := range []crypto.Hash{hashByOID(c.DigestAlgorithm), own} {
			if h != 0 {
				digests[h] = sum(h, si.Signature)
			}
		}
		one := sd.verifySigner(c, o, digests, nil)
		one.ContentType = pass("") // there is no content, and so no type of it
		if len(c.Signed(OIDContentType)) > 0 {
			one.Warnings = append(one.Warnings, "a counter-signature states a content type, which it should not")
		}
		sd.verifyCounters(c, &one, o, depth+1)
		r.Counter = append(r.Counter, one)
	}
}
