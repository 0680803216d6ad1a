package cms

import (
	"errors"
	"fmt"
	"io"
)

// With gives a detached file with its content, to be written with Write. Whether it is the content
// that was signed, Verify says.
func (sd *SignedData) With(content Source) (*SignedData, error) {
	if !sd.Detached {
		return nil, errors.New("cms: the file has a content of its own")
	}
	out := *sd
	out.Detached, out.content = false, nil
	out.body = &spans{src: content}
	return &out, out.body.add(0, content.Size(), 1)
}

// Join gives a file with the signatures of another beside its own. The other is detached, and both are
// over the same content; whether they are, Verify says.
func (sd *SignedData) Join(other *SignedData) (*SignedData, error) {
	switch {
	case !other.Detached:
		return nil, errors.New("cms: only a detached file can be joined to another")
	case !other.ContentType.Equal(sd.ContentType):
		return nil, fmt.Errorf("cms: one is a signature over content of type %v, the other of type %v", sd.ContentType, other.ContentType)
	}
	out := *sd
	out.Signers = append(append([]*SignerInfo(nil), sd.Signers...), other.Signers...)
	out.infos = append(append([][]byte(nil), sd.infos...), other.infos...)
	out.Certificates = append(out.Certificates[:len(out.Certificates):len(out.Certificates)], other.Certificates...)
	out.env.version = max(sd.env.version, other.env.version)
	var err error
	if len(sd.env.certs)+len(other.env.certs) > 0 {
		if out.env.certs, err = mergeSets(tagContext0, sd.env.certs, other.env.certs); err != nil {
			return nil, err
		}
	}
	if out.env.digests, err = mergeSets(tagSet, sd.env.digests, other.env.digests); err != nil {
		return nil, err
	}
	return &out, nil
}

// Stamped gives a file with an unsigned attribute more on one signature (0 is the first).
func (sd *SignedData) Stamped(signer int, attr Attribute) (*SignedData, error) {
	if signer < 0 || signer >= len(sd.Signers) {
		return nil, fmt.Errorf("cms: no signer %d: the file has %d", signer, len(sd.Signers))
	}
	si := *sd.Signers[signer]
	si.UnsignedAttributes = append(append([]Attribute(nil), si.UnsignedAttributes...), attr)
	tail, err := unsignedAttributes(si.UnsignedAttributes)
	if err != nil {
		return nil, err
	}
	out := *sd
	out.Signers = append([]*SignerInfo(nil), sd.Signers...)
	out.infos = append([][]byte(nil), sd.infos...)
	out.Signers[signer], out.infos[signer] = &si, tlv(tagSequence, si.fixed, tail)
	return &out, nil
}

// Write writes the file in DER; the content is copied, not held.
func (sd *SignedData) Write(w io.Writer) error {
	env := sd.env
	env.signers = setOf(tagSet, append([][]byte(nil), sd.infos...)...)
	if sd.Detached {
		if _, err := w.Write(env.detached()); err != nil {
			return fmt.Errorf("cms: write: %w", err)
		}
		return nil
	}
	body := sd.Body()
	return env.stream(w, reader(body), body.Size())
}
