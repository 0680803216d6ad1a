package xades

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"ceralacca.dev/services/format/tsp"
)

// encodingDER is of a token as RFC 3161 gives it. spec: TS101903 §7.1.4.1; EN319132-1 §5.1.4.3
const encodingDER = "http://uri.etsi.org/01903/v1.2.2#DER"

// maxStamps bounds the time-stamps of one signature, far above what is met.
const maxStamps = 16

// Stamp gets a time-stamp token over a SHA-256 (tsp.Client.StampToken is one).
type Stamp func(ctx context.Context, sha256Digest []byte) ([]byte, error)

// TimestampError: the signature is made, the stamp is not. The XAdES-BES is returned beside it; keep
// it and call AddTimestamp later, so that the one-time password is not spent twice.
type TimestampError struct{ Err error }

func (e *TimestampError) Error() string {
	return fmt.Sprintf("xades: signed, but not time-stamped: %v", e.Err)
}

func (e *TimestampError) Unwrap() error { return e.Err }

// StampReport is what is true of one signature time-stamp.
type StampReport struct {
	Time  time.Time `json:"time"`
	Check Check     `json:"check"`
	// Token is the time-stamp token, and Covered what it has to be over: the canonical
	// SignatureValue. Both are nil when the property cannot be read.
	Token   []byte `json:"-"`
	Covered []byte `json:"-"`
}

// stampValue has the canonical ds:SignatureValue of a signature stamped.
// spec: TS101903 §7.3; EN319132-1 §5.3 (the imprint of a SignatureTimeStamp)
func stampValue(ctx context.Context, sig *node, stamp Stamp) ([]byte, error) {
	canon, _ := byAlgorithm(algExcC14N, nil)
	h := sha256.New()
	if err := canon.write(h, sig.child(nsDSig, "SignatureValue")); err != nil {
		return nil, err
	}
	token, err := stamp(ctx, h.Sum(nil))
	if err != nil {
		return nil, &TimestampError{err}
	}
	return token, nil
}

// unsignedProperties writes the property around a token; declare repeats the namespaces, for places
// whose prefixes are not ours.
func unsignedProperties(token []byte, declare bool) (open, property, end string) {
	ns := ""
	if declare {
		ns = ` xmlns:xades="` + nsXAdES + `" xmlns:ds="` + nsDSig + `"`
	}
	property = `<xades:SignatureTimeStamp` + ns + `><ds:CanonicalizationMethod Algorithm="` + algExcC14N + `"/><xades:EncapsulatedTimeStamp Encoding="` +
		encodingDER + `">` + base64.StdEncoding.EncodeToString(token) + `</xades:EncapsulatedTimeStamp></xades:SignatureTimeStamp>`
	return `<xades:UnsignedProperties` + ns + `><xades:UnsignedSignatureProperties>`, property, `</xades:UnsignedSignatureProperties></xades:UnsignedProperties>`
}

// AddTimestamp turns XAdES-BES into XAdES-T: each signature of the document that has no time-stamp gets
// one; every other byte stays as it was. Errors: *SyntaxError, ErrUnsigned, the stamp's own, and that
// of a signature that would break by what is added (one that covers another's unsigned properties).
func AddTimestamp(ctx context.Context, doc []byte, stamp Stamp) ([]byte, error) {
	before, err := Verify(doc, VerifyOptions{})
	if err != nil {
		return nil, err
	}
	if len(before.Signatures) == 0 {
		return nil, ErrUnsigned
	}
	out := doc
	for i := range before.Signatures {
		if len(before.Signatures[i].Stamps) > 0 {
			continue
		}
		if out, err = addStamp(ctx, out, i, stamp); err != nil {
			return nil, err
		}
	}
	after, err := Verify(out, VerifyOptions{})
	if err != nil {
		return nil, err
	}
	for i := range before.Signatures {
		if before.Signatures[i].intact() && !after.Signatures[i].intact() {
			return nil, fmt.Errorf("xades: signature %d covers the unsigned properties too: a time-stamp would break it", i+1)
		}
	}
	return out, nil
}

func (r *SignatureReport) intact() bool {
	return r.Signature.Verdict == Passed && r.References.Verdict == Passed
}

// addStamp stamps signature number which (from 0) of a document.
func addStamp(ctx context.Context, doc []byte, which int, stamp Stamp) ([]byte, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, err
	}
	var found []*node
	tree.root.descendants(nsDSig, "Signature", func(n *node) { found = append(found, n) })
	sig := found[which]
	props := qualifying(sig)
	if props == nil {
		return nil, fmt.Errorf("xades: signature %d has no QualifyingProperties: it is no XAdES signature and takes no time-stamp", which+1)
	}
	closes, err := closings(bytes.TrimPrefix(doc, utf8BOM))
	if err != nil {
		return nil, err
	}
	token, err := stampValue(ctx, sig, stamp)
	if err != nil {
		return nil, err
	}
	open, property, end := unsignedProperties(token, true)
	into, text := props, open+property+end
	if unsigned := props.child(nsXAdES, "UnsignedProperties"); unsigned != nil {
		into, text = unsigned, `<xades:UnsignedSignatureProperties xmlns:xades="`+nsXAdES+`">`+property+`</xades:UnsignedSignatureProperties>`
		if inner := unsigned.child(nsXAdES, "UnsignedSignatureProperties"); inner != nil {
			into, text = inner, property
		}
	}
	at := closes[tree.position(into)]
	if at < 0 {
		return nil, errors.New("xades: the properties are an empty tag: there is no place for a time-stamp")
	}
	return splice(doc, at+len(doc)-len(bytes.TrimPrefix(doc, utf8BOM)), text), nil
}

// qualifying finds the QualifyingProperties of a signature.
func qualifying(sig *node) *node {
	for _, object := range sig.all(nsDSig, "Object") {
		if q := object.child(nsXAdES, "QualifyingProperties"); q != nil {
			return q
		}
	}
	return nil
}

// position counts the elements that begin before n.
func (d *document) position(n *node) int {
	count, at := 0, -1
	var walk func(*node)
	walk = func(e *node) {
		if e == n {
			at = count
		}
		count++
		for _, c := range e.children {
			if c.kind == kindElement {
				walk(c)
			}
		}
	}
	walk(d.root)
	return at
}

// judgeStamps reads the signature time-stamps. They are unsigned, as they have to be: each proves itself.
func (d *document) judgeStamps(r *SignatureReport, sig *node, o VerifyOptions) {
	list := qualifying(sig).child(nsXAdES, "UnsignedProperties").child(nsXAdES, "UnsignedSignatureProperties").all(nsXAdES, "SignatureTimeStamp")
	for _, el := range list[:min(len(list), maxStamps)] {
		for _, st := range readStamps(sig, el) {
			if st.Check.Verdict == "" {
				st.judge(o)
			}
			if st.Check.Verdict == Passed && r.Level == LevelBES {
				r.Level = LevelT
			}
			r.Stamps = append(r.Stamps, st)
		}
	}
}

// readStamps takes one SignatureTimeStamp apart. spec: TS101903 §7.1.4.3; EN319132-1 §5.1.4.3 (without a
// CanonicalizationMethod the form is that of XMLDSIG: Canonical XML 1.0)
func readStamps(sig, el *node) []StampReport {
	refuse := func(format string, args ...any) []StampReport {
		return []StampReport{{Check: unjudged(format, args...)}}
	}
	if el.child(nsXAdES, "Include") != nil || el.child(nsXAdES, "XMLTimeStamp") != nil {
		return refuse("a time-stamp with Include or XMLTimeStamp is not supported")
	}
	alg := algC14N10
	method := el.child(nsDSig, "CanonicalizationMethod")
	if method != nil {
		alg, _ = method.attr("Algorithm")
	}
	canon, ok := byAlgorithm(alg, method)
	if !ok {
		return refuse("canonicalisation %q of a time-stamp is not supported", alg)
	}
	var covered bytes.Buffer
	if err := canon.write(&covered, sig.child(nsDSig, "SignatureValue")); err != nil {
		return refuse("%v", err)
	}
	var out []StampReport
	for _, t := range el.all(nsXAdES, "EncapsulatedTimeStamp") {
		if e, given := t.attr("Encoding"); given && e != encodingDER {
			out = append(out, StampReport{Check: unjudged("a time-stamp in the encoding %q is not supported", e)})
			continue
		}
		token, err := decode64(t.value())
		if err != nil {
			out = append(out, StampReport{Check: fail("time-stamp: %v", err)})
			continue
		}
		out = append(out, StampReport{Token: token, Covered: covered.Bytes()})
		if len(out) == maxStamps {
			break
		}
	}
	if len(out) == 0 {
		return refuse("a SignatureTimeStamp holds no time-stamp")
	}
	return out
}

// judge checks a token over what it has to cover.
func (st *StampReport) judge(o VerifyOptions) {
	tok, err := tsp.ParseToken(st.Token)
	if err != nil {
		st.Check = fail("%v", err)
		return
	}
	st.Time = tok.Info.Time
	h := tok.Info.Hash.New()
	h.Write(st.Covered)
	err = tok.Verify(tsp.VerifyOptions{Digest: h.Sum(nil), Roots: o.TSARoots, Intermediates: o.Intermediates})
	switch {
	case err != nil:
		st.Check = fail("%v", err)
	case !o.At.IsZero() && st.Time.After(o.At.Add(time.Minute)):
		st.Check = fail("stamped at %s, after the time of judgement", st.Time.Format(time.RFC3339))
	default:
		st.Check = pass("")
	}
}
