package pades

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/tsp"
)

// Sign appends one signature to a PDF and writes the whole to w: PAdES B-B, or B-T with
// Options.Timestamp. The file is read once, and what is written is what was hashed; memory does
// not grow with it.
//
// *cades.TimestampError means that the file was written as B-B, whole and valid, but without its
// stamp: keep it and call AddTimestamp later. A file that cannot be signed is refused before
// anything is written; after any other error (of the key, of src, of w) the output is to be
// discarded. Errors: see Prepare; cms.ErrKeyMismatch, cms.ErrBadSignature, the key's own.
// spec: EN319142-1 §6
func Sign(ctx context.Context, w io.Writer, src io.ReaderAt, size int64, s cades.Signer, o Options) error {
	p, opts, err := begin(src, size, s, o)
	if err != nil {
		return err
	}
	if pub, ok := s.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || s.Key == nil || !pub.Equal(s.Key.Public()) {
		return fmt.Errorf("pades: %w", cms.ErrKeyMismatch)
	}
	if err := p.hash(ctx, w, opts); err != nil {
		return err
	}
	sig, err := p.Sign(ctx, s.Key)
	if err != nil {
		return err
	}
	der, err := p.assemble(sig, nil)
	if err != nil {
		return err
	}
	if o.Timestamp == nil {
		return p.writeTail(w, der)
	}
	stamped, stampErr := p.stamped(ctx, sig, o.Timestamp)
	if stampErr == nil {
		der = stamped
	}
	if err := p.writeTail(w, der); err != nil {
		return err
	}
	if stampErr != nil {
		return &cades.TimestampError{Err: stampErr}
	}
	return nil
}

func (p *Prepared) stamped(ctx context.Context, sig []byte, stamp cades.Stamp) ([]byte, error) {
	attr, err := StampAttribute(ctx, sig, stamp)
	if err != nil {
		return nil, err
	}
	return p.assemble(sig, []cms.Attribute{attr})
}

// StampAttribute gets a signature time-stamp over a signature value, as the unsigned attribute
// that Prepared.Write takes. A token over another value is refused.
// spec: EN319142-1 §6.3; EN319122-1 §5.3
func StampAttribute(ctx context.Context, sig []byte, stamp cades.Stamp) (cms.Attribute, error) {
	sum := sha256.Sum256(sig)
	raw, err := stamp(ctx, sum[:])
	if err != nil {
		return cms.Attribute{}, err
	}
	tok, err := tsp.ParseToken(raw)
	if err != nil {
		return cms.Attribute{}, err
	}
	if err := tok.Verify(tsp.VerifyOptions{Digest: sum[:]}); err != nil {
		return cms.Attribute{}, err
	}
	return cms.Attribute{Type: cms.OIDSignatureTimeStamp, Values: [][]byte{tok.Raw}}, nil
}

// ErrNothingToStamp: no signature of the file covers all of it and lacks a time-stamp.
var ErrNothingToStamp = errors.New("pades: the file has no last signature that lacks a time-stamp")

// AddTimestamp turns B-B into B-T: the signature that covers the whole file gets a stamp, in the
// place that was kept for it. Earlier signatures cannot be stamped any more, since later ones
// cover them. Errors: ErrNothingToStamp, *RoomError, the authority's own.
func AddTimestamp(ctx context.Context, w io.Writer, src io.ReaderAt, size int64, stamp cades.Stamp, lim Limits) error {
	d, err := open(src, size, lim)
	if err != nil {
		return err
	}
	found, err := d.signatures()
	if err != nil {
		return err
	}
	for _, s := range found {
		if s.rangeErr != "" || s.end() != size || s.kind != KindSignature {
			continue
		}
		sd, err := cms.Parse(s.contents)
		if err != nil {
			return fmt.Errorf("pades: %w", err)
		}
		if len(sd.Signers) != 1 || sd.Signers[0].Unsigned(cms.OIDSignatureTimeStamp) != nil {
			return ErrNothingToStamp
		}
		attr, err := StampAttribute(ctx, sd.Signers[0].Signature, stamp)
		if err != nil {
			return err
		}
		der, err := sd.AddUnsigned(0, attr)
		if err != nil {
			return fmt.Errorf("pades: %w", err)
		}
		return putContents(ctx, w, src, size, s, der)
	}
	return ErrNothingToStamp
}

// putContents copies the file with other bytes in the gap.
func putContents(ctx context.Context, w io.Writer, src io.ReaderAt, size int64, s *signed, der []byte) error {
	gap, end := s.byteRange[1], s.byteRange[2]
	room := int(end-gap-2) / 2
	if len(der) > room {
		return &RoomError{len(der), room}
	}
	if err := copyRange(ctx, w, src, 0, gap+1); err != nil {
		return err
	}
	hexed := make([]byte, 2*room)
	for i := range hexed {
		hexed[i] = '0'
	}
	copy(hexed, fmt.Appendf(nil, "%x", der))
	if _, err := w.Write(hexed); err != nil {
		return fmt.Errorf("pades: write: %w", err)
	}
	return copyRange(ctx, w, src, gap+1+int64(len(hexed)), size-gap-1-int64(len(hexed)))
}
