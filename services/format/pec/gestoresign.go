package pec

import (
	"bytes"
	"context"
	"crypto/sha1" // providers sign over it, and the sandbox plays providers
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"ceralacca.dev/services/format/cms"
)

// signed writes the multipart/signed: the content goes out and into the digest at once, the
// signature follows. spec: RFC8551 §3.5.3, RFC1847
func (g *Gestore) signed(ctx context.Context, w io.Writer, a *Atto) error {
	id, err := token(g.random(), 16)
	if err != nil {
		return err
	}
	boundary := "----" + id
	protocol := "application/pkcs7-signature"
	if g.Profile.XProtocol {
		protocol = "application/x-pkcs7-signature"
	}
	micalg := orDefault(g.Profile.Micalg, "sha-256")
	_, err = fmt.Fprintf(w, "Content-Type: multipart/signed; protocol=\"%s\";\r\n\tmicalg=%s; boundary=\"%s\"\r\n\r\nThis is an S/MIME signed message\r\n\r\n--%s\r\n",
		protocol, micalg, boundary, boundary)
	if err != nil {
		return err
	}
	var h hash.Hash
	if g.Profile.SHA1 {
		h = sha1.New() // see above
	} else {
		h = sha256.New()
	}
	if err := g.mixed(io.MultiWriter(w, h), a); err != nil {
		return err
	}
	p7s, err := g.sign(ctx, h.Sum(nil), a)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n", boundary, protocol)
	lines := &base64Lines{w: &b, width: 48}
	if _, err := lines.Write(p7s); err != nil {
		return err
	}
	if err := lines.Close(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	_, err = w.Write(b.Bytes())
	return err
}

func (g *Gestore) sign(ctx context.Context, digest []byte, a *Atto) ([]byte, error) {
	o := cms.Options{Certificate: g.Certificate, Chain: g.Chain, SigningTime: a.Istante}
	var der []byte
	var err error
	if g.Profile.SHA1 {
		der, err = signSHA1(digest, g.Key, o)
	} else {
		der, err = cms.SignDetached(ctx, digest, g.Key, o)
	}
	if err != nil {
		return nil, fmt.Errorf("pec: sign %s: %w", a.Tipo, err)
	}
	if g.Profile.BER {
		return indefinite(der, 3), nil
	}
	return der, nil
}

// mixed writes the content that is signed, without a line end after it: that belongs to the
// delimiter. spec: RFC6109 §4.3
func (g *Gestore) mixed(w io.Writer, a *Atto) error {
	id, err := token(g.random(), 12)
	if err != nil {
		return err
	}
	boundary := "----------=_" + id
	c := &composer{w: w, random: g.random()}
	if err := c.put("Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\r\nContent-Transfer-Encoding: binary\r\nMIME-Version: 1.0\r\n"); err != nil {
		return err
	}
	parts := []func(*composer, *Atto) error{g.words}
	daticert, original := g.daticert, g.original
	switch {
	case a.Tipo == BustaAnomalia: // no certification data. spec: RFC6109 §3.2.2
		parts = append(parts, original)
	case a.Original == nil:
		parts = append(parts, daticert)
	case g.Profile.OriginalFirst:
		parts = append(parts, original, daticert)
	default:
		parts = append(parts, daticert, original)
	}
	for _, part := range parts {
		if err := c.put("\r\n--" + boundary + "\r\n"); err != nil {
			return err
		}
		if err := part(c, a); err != nil {
			return err
		}
	}
	return c.put("\r\n--" + boundary + "--\r\n")
}

func (g *Gestore) daticert(c *composer, a *Atto) error {
	disposition, encoding := "inline", "base64"
	if g.Profile.AttachedDaticert {
		disposition = "attachment"
	}
	if g.Profile.QuotedDaticert {
		encoding = "quoted-printable"
	}
	err := c.put("Content-Type: application/xml; name=\"daticert.xml\"\r\nContent-Disposition: " + disposition +
		"; filename=\"daticert.xml\"\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n")
	if err != nil {
		return err
	}
	if g.Profile.QuotedDaticert {
		return writeQP(c.w, string(a.Dati.XML()))
	}
	lines := &base64Lines{w: c.w, width: 57}
	if _, err := lines.Write(a.Dati.XML()); err != nil {
		return err
	}
	return lines.Close()
}

// original writes postacert.eml as it is: line ends become CRLF, which is how it will travel.
func (g *Gestore) original(c *composer, a *Atto) error {
	err := c.put("Content-Type: message/rfc822; name=\"postacert.eml\"\r\nContent-Disposition: inline; filename=\"postacert.eml\"\r\nContent-Transfer-Encoding: binary\r\n\r\n")
	if err != nil {
		return err
	}
	out := &crlfWriter{w: c.w}
	if err := a.Original(out); err != nil {
		return fmt.Errorf("pec: write the original: %w", err)
	}
	return out.Close()
}
