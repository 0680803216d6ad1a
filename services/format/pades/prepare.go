package pades

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
)

// Options of one signature.
type Options struct {
	// SigningTime is required: it is M of the signature dictionary, with its offset. PAdES has no
	// signing-time attribute. spec: EN319142-1 §6.3
	SigningTime time.Time
	// Field is the signature field: an empty one of the file, or the name of a new one. Empty: a
	// new one called "Signature1" or with the next number.
	Field string
	// Name, Reason, Location and ContactInfo are stated, and prove nothing; empty ones are left out.
	Name, Reason, Location, ContactInfo string
	// Box makes the signature visible. In an existing field with a place of its own the box gives
	// the text only.
	Box *Box
	// Certify makes an author's signature that says what may come after it.
	Certify Certification
	// Timestamp, when set, makes PAdES B-T (Sign only).
	Timestamp cades.Stamp
	// StampRoom is how many bytes are kept free for a time-stamp, added now or later; 12 KiB by
	// default, none when negative.
	StampRoom int
	Limits    Limits
}

// defaultStampRoom holds a token with an RSA-3072 chain (about 6.5 kB) and its wrapping, twice over.
const defaultStampRoom = 12 << 10

// RoomError: the CMS is larger than the place that was laid out for it. Nothing was written.
type RoomError struct{ Need, Room int }

func (e *RoomError) Error() string {
	return fmt.Sprintf("pades: the signature has %d bytes and the place for it %d: give a larger StampRoom", e.Need, e.Room)
}

// Prepared is a signature about to be made: every byte of the finished file is fixed but those
// of the CMS. It is for callers that have digests signed elsewhere: Digest goes to the key, Check
// judges what comes back, Write makes the file.
type Prepared struct {
	src       io.ReaderAt
	size      int64
	tail      []byte // the increment, the place of the CMS filled with zeros
	gap, end  int    // of Contents in tail, delimiters included
	sum       [sha256.Size]byte
	signature *cms.Prepared
	field     string
}

// Prepare lays out the increment and hashes the file once. src is read only here and in Write.
// Errors: ErrEncrypted, *ForbiddenError, *LimitError, *SyntaxError, those of src and ctx.
// spec: ISO32000-1 §12.8.1; EN319142-1 §5, §6.3
func Prepare(ctx context.Context, src io.ReaderAt, size int64, s cades.Signer, o Options) (*Prepared, error) {
	p, opts, err := begin(src, size, s, o)
	if err != nil {
		return nil, err
	}
	if err := p.hash(ctx, io.Discard, opts); err != nil {
		return nil, err
	}
	return p, nil
}

// begin does all that needs no look at the whole file.
func begin(src io.ReaderAt, size int64, s cades.Signer, o Options) (*Prepared, cms.Options, error) {
	opts, err := attributes(s, o)
	if err != nil {
		return nil, opts, err
	}
	d, err := open(src, size, o.Limits)
	if err != nil {
		return nil, opts, err
	}
	if d.header != 0 {
		return nil, opts, syntax(d.header, "%%PDF- stands here and not at the start: readers count bytes in two ways then, take off what is before it")
	}
	room, err := reserveFor(opts, o)
	if err != nil {
		return nil, opts, err
	}
	l := &layout{d: d, o: o, room: room}
	if err := l.build(); err != nil {
		return nil, opts, err
	}
	return &Prepared{src: src, size: size, tail: l.u.b, gap: l.gap, end: l.end, field: l.name}, opts, nil
}

// hash reads the file, copies it to w on the way, and fixes the signed attributes.
func (p *Prepared) hash(ctx context.Context, w io.Writer, opts cms.Options) error {
	h := sha256.New()
	if err := p.copyFile(ctx, io.MultiWriter(h, w)); err != nil {
		return err
	}
	p.hashTail(h)
	h.Sum(p.sum[:0])
	var err error
	if p.signature, err = cms.Prepare(p.sum[:], opts); err != nil {
		return fmt.Errorf("pades: %w", err)
	}
	return nil
}

// attributes: no signing-time attribute, and the signing certificate named.
// spec: EN319142-1 §6.3
func attributes(s cades.Signer, o Options) (cms.Options, error) {
	if len(s.Chain) == 0 || s.Chain[0] == nil {
		return cms.Options{}, errors.New("pades: the signer has no certificate")
	}
	if o.SigningTime.IsZero() {
		return cms.Options{}, errors.New("pades: signing time is required")
	}
	leaf := s.Chain[0]
	if t := o.SigningTime; t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
		return cms.Options{}, fmt.Errorf("pades: the certificate is valid from %s to %s, not at the signing time %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339))
	}
	if o.Certify < NotCertified || o.Certify > AnnotationsAsWell {
		return cms.Options{}, fmt.Errorf("pades: certification %d: 1, 2 or 3 is expected", o.Certify)
	}
	ess, err := cms.SigningCertificateV2(leaf)
	if err != nil {
		return cms.Options{}, fmt.Errorf("pades: %w", err)
	}
	return cms.Options{Certificate: leaf, Chain: s.Chain[1:], Signed: []cms.Attribute{ess}}, nil
}

// reserveFor computes how many bytes the CMS may have: all but the value and the stamp are known.
func reserveFor(opts cms.Options, o Options) (int, error) {
	var zero [sha256.Size]byte
	trial, err := cms.Prepare(zero[:], opts)
	if err != nil {
		return 0, fmt.Errorf("pades: %w", err)
	}
	der, err := trial.AssembleDetached(make([]byte, valueSize(opts.Certificate)))
	if err != nil {
		return 0, fmt.Errorf("pades: %w", err)
	}
	room := len(der)
	switch {
	case o.StampRoom == 0:
		room += defaultStampRoom
	case o.StampRoom > 0:
		room += o.StampRoom
	}
	const lengths = 16 // length octets of the elements around may grow
	return room + lengths, nil
}

// valueSize is the most that the signature value may have: an ECDSA one in ASN.1 is at most
// twice the field and 9 bytes more.
func valueSize(cert *x509.Certificate) int {
	if pub, ok := cert.PublicKey.(*rsa.PublicKey); ok {
		return pub.Size()
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		return 2*((pub.Curve.Params().BitSize+7)/8) + 9
	}
	return 160 // P-521, the largest there is
}

// Digest is the SHA-256 that the key has to sign (the DTBS/R of a remote signature).
func (p *Prepared) Digest() [sha256.Size]byte { return p.signature.Digest() }

// ContentDigest is the SHA-256 of the signed byte range, for a provider that makes the whole CMS.
func (p *Prepared) ContentDigest() [sha256.Size]byte { return p.sum }

// Field is the full name of the signature field.
func (p *Prepared) Field() string { return p.field }

// Room is how many bytes a CMS may have.
func (p *Prepared) Room() int { return (p.end - p.gap - 2) / 2 }

// Size is that of the finished file.
func (p *Prepared) Size() int64 { return p.size + int64(len(p.tail)) }

// Check says whether sig is the certificate's signature over Digest; else cms.ErrBadSignature.
func (p *Prepared) Check(sig []byte) error { return p.signature.Check(sig) }

// Sign asks the key for the signature value and checks it, see cms.Prepared.Sign.
func (p *Prepared) Sign(ctx context.Context, key crypto.Signer) ([]byte, error) {
	sig, err := p.signature.Sign(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("pades: %w", err)
	}
	return sig, nil
}

// Write makes the finished file: the CMS around sig goes into its place, with the unsigned
// attributes given (see StampAttribute). Errors: *RoomError and a wrong signature before anything
// is written; a source that changed since Prepare after that: discard the output.
func (p *Prepared) Write(ctx context.Context, w io.Writer, sig []byte, unsigned ...cms.Attribute) error {
	der, err := p.assemble(sig, unsigned)
	if err != nil {
		return err
	}
	return p.write(ctx, w, der)
}

func (p *Prepared) assemble(sig []byte, unsigned []cms.Attribute) ([]byte, error) {
	if err := p.Check(sig); err != nil {
		return nil, fmt.Errorf("pades: %w", err)
	}
	der, err := p.signature.AssembleDetached(sig, unsigned...)
	if err != nil {
		return nil, fmt.Errorf("pades: %w", err)
	}
	if len(der) > p.Room() {
		return nil, &RoomError{len(der), p.Room()}
	}
	return der, nil
}

// WriteCMS makes the finished file with a detached CMS that was made elsewhere over
// ContentDigest. It has to be one signature and intact; who signed is for Verify to say.
func (p *Prepared) WriteCMS(ctx context.Context, w io.Writer, der []byte) error {
	sd, err := cms.Parse(der)
	if err != nil {
		return fmt.Errorf("pades: %w", err)
	}
	if !sd.Detached || sd.Trailing != 0 || sd.Armour != cms.ArmourNone || len(sd.Signers) != 1 {
		return errors.New("pades: one detached CMS signature in binary form is expected")
	}
	if len(der) > p.Room() {
		return &RoomError{len(der), p.Room()}
	}
	r := sd.Verify(cms.VerifyOptions{Content: p.content()})
	if err := r.Err(); err != nil {
		return fmt.Errorf("pades: %w", err)
	}
	return p.write(ctx, w, der)
}

// content reads what is signed.
func (p *Prepared) content() io.Reader {
	return io.MultiReader(io.NewSectionReader(p.src, 0, p.size), bytes.NewReader(p.tail[:p.gap]), bytes.NewReader(p.tail[p.end:]))
}

func (p *Prepared) hashTail(h hash.Hash) {
	h.Write(p.tail[:p.gap])
	h.Write(p.tail[p.end:])
}

// write hashes what it copies: a file that changed in between must not go out as signed.
func (p *Prepared) write(ctx context.Context, w io.Writer, der []byte) error {
	again := sha256.New()
	if err := p.copyFile(ctx, io.MultiWriter(w, again)); err != nil {
		return err
	}
	p.hashTail(again)
	if [sha256.Size]byte(again.Sum(nil)) != p.sum {
		return errors.New("pades: the file changed while it was being signed: discard the output")
	}
	return p.writeTail(w, der)
}

// writeTail writes the increment with the CMS in its place.
func (p *Prepared) writeTail(w io.Writer, der []byte) error {
	hexed := hex.AppendEncode(nil, der)
	for _, part := range [][]byte{p.tail[:p.gap+1], hexed, p.tail[p.gap+1+len(hexed):]} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("pades: write: %w", err)
		}
	}
	return nil
}

// copyFile copies the original in pieces, so that a caller who gave up is heard.
func (p *Prepared) copyFile(ctx context.Context, w io.Writer) error {
	return copyRange(ctx, w, p.src, 0, p.size)
}

func copyRange(ctx context.Context, w io.Writer, src io.ReaderAt, off, n int64) error {
	buf := make([]byte, min(n, 256<<10))
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("pades: %w", err)
		}
		piece := buf[:min(int64(len(buf)), end-off)]
		if k, err := src.ReadAt(piece, off); k < len(piece) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("pades: read at byte %d: %w", off, err)
		}
		if _, err := w.Write(piece); err != nil {
			return fmt.Errorf("pades: write: %w", err)
		}
		off += int64(len(piece))
	}
	return nil
}

// pdfDate: spec: ISO32000-1 §7.9.4
func pdfDate(t time.Time) text {
	s := t.Format("D:20060102150405-07'00'")
	if _, offset := t.Zone(); offset%3600 != 0 {
		z := t.Format("-07:00")
		s = t.Format("D:20060102150405") + strings.Replace(z, ":", "'", 1) + "'"
	}
	return text{val: []byte(s)}
}
