package cms

import (
	"fmt"
	"io"
)

// envelope is a SignedData around its content, each member already DER.
// spec: RFC5652 §3, §5.1, §5.2
type envelope struct {
	version byte
	digests []byte // SET OF AlgorithmIdentifier
	ctype   []byte // OBJECT IDENTIFIER
	certs   []byte // [0], may be empty
	crls    []byte // [1], may be empty
	signers []byte // SET OF SignerInfo
}

// head gives every byte before the content's first; size < 0 means detached.
func (e envelope) head(size int64) []byte {
	encap := int64(len(e.ctype))
	var octets, explicit int64
	if size >= 0 {
		octets = headerSize(size) + size
		explicit = headerSize(octets) + octets
		encap += explicit
	}
	tail := int64(len(e.certs) + len(e.crls) + len(e.signers))
	inner := 3 + int64(len(e.digests)) + headerSize(encap) + encap + tail
	wrapped := headerSize(inner) + inner
	outer := int64(len(derOIDSignedData)) + headerSize(wrapped) + wrapped

	dst := make([]byte, 0, 96+len(e.digests)+len(e.ctype))
	dst = appendHeader(dst, tagSequence, outer)
	dst = append(dst, derOIDSignedData...)
	dst = appendHeader(dst, tagContext0, wrapped)
	dst = appendHeader(dst, tagSequence, inner)
	dst = append(dst, tagInteger, 1, e.version)
	dst = append(dst, e.digests...)
	dst = appendHeader(dst, tagSequence, encap)
	dst = append(dst, e.ctype...)
	if size >= 0 {
		dst = appendHeader(dst, tagContext0, octets)
		dst = appendHeader(dst, tagOctets, size)
	}
	return dst
}

func (e envelope) appendTail(dst []byte) []byte {
	dst = append(dst, e.certs...)
	dst = append(dst, e.crls...)
	return append(dst, e.signers...)
}

func (e envelope) attached(content []byte) []byte {
	head := e.head(int64(len(content)))
	dst := make([]byte, 0, len(head)+len(content)+len(e.certs)+len(e.crls)+len(e.signers))
	dst = append(dst, head...)
	dst = append(dst, content...)
	return e.appendTail(dst)
}

func (e envelope) detached() []byte { return e.appendTail(e.head(-1)) }

func (e envelope) stream(w io.Writer, r io.Reader, size int64) error {
	if size < 0 {
		return fmt.Errorf("cms: content size %d is negative", size)
	}
	if _, err := w.Write(e.head(size)); err != nil {
		return fmt.Errorf("cms: write head: %w", err)
	}
	n, err := Copy(w, io.LimitReader(r, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("cms: write content: %d of %d bytes: %w", n, size, err)
	}
	if _, err := w.Write(e.appendTail(nil)); err != nil {
		return fmt.Errorf("cms: write signatures: %w", err)
	}
	return nil
}
