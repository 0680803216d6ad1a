package pec

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cms"
	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
)

// sign makes a message; how spoils it.
func (w *World) sign(g *gestore, a rfc.Atto, how string) ([]byte, error) {
	w.mu.Lock()
	s := g.signer
	w.mu.Unlock()
	if err := w.changeSigner(g, &s, a.Istante, how); err != nil {
		return nil, fmt.Errorf("sandbox pec: %w", err)
	}
	var b writer
	if _, err := s.Write(w.ctx, &b, a); err != nil {
		return nil, fmt.Errorf("sandbox pec: %w", err)
	}
	out, err := w.spoil(s, b.data, a.Istante, how)
	if err != nil {
		return nil, fmt.Errorf("sandbox pec: %w", err)
	}
	return out, nil
}

type writer struct{ data []byte }

func (b *writer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	return len(p), nil
}

// changeSigner gives a message to somebody else to sign, or to the same provider with a certificate of another time.
func (w *World) changeSigner(g *gestore, s *rfc.Gestore, at time.Time, how string) error {
	const day = 24 * time.Hour
	var other *ca.Issued
	var err error
	switch how {
	case client.FaultPECWrongSigner:
		other, err = g.person()
	case client.FaultPECExpiredSigner:
		other, err = g.ca.IssueMailSignerValid(s.Name, s.Address, at.Add(-365*day), at.Add(-day))
	case client.FaultPECEarlySigner:
		other, err = g.ca.IssueMailSignerValid(s.Name, s.Address, at.Add(day), at.Add(365*day))
	case client.FaultPECOtherProvider:
		next := w.gestori[(slices.Index(w.gestori, g)+1)%len(w.gestori)]
		w.mu.Lock()
		*s = next.signer
		w.mu.Unlock()
		return nil
	}
	if err == nil && other != nil {
		s.Certificate, s.Chain, s.Key = other.Chain[0], other.Chain[1:], other.Key
	}
	return err
}

// spoil plays what can be done to a finished message, and what a provider does wrong and signs.
func (w *World) spoil(s rfc.Gestore, raw []byte, at time.Time, how string) ([]byte, error) {
	switch how {
	case client.FaultPECBrokenMIME:
		return raw[:len(raw)*3/5], nil
	case client.FaultPECBareLF:
		return bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), nil
	case client.FaultPECBadSignature, client.FaultPECUnsigned, client.FaultPECNoSigner, client.FaultPECList, client.FaultPECTwoDaticert:
	default:
		if daticertFaults[how] == nil {
			return raw, nil
		}
	}
	r, err := rfc.ReadBytes(raw)
	if err != nil {
		return nil, err
	}
	if r.Signed == nil || r.P7S == nil {
		return nil, fmt.Errorf("nothing is signed")
	}
	switch how {
	case client.FaultPECBadSignature:
		return alterText(raw, r)
	case client.FaultPECUnsigned:
		return stripped(r)
	case client.FaultPECNoSigner:
		return slices.Concat(raw[:(r.P7S.BodyStart+r.P7S.End)/2], []byte("\r\n"), raw[r.P7S.End:]), nil
	case client.FaultPECList:
		return passedOn(raw, r), nil
	}
	return w.signAnew(s, r, at, how)
}

// alterText changes one letter of the text that was signed.
func alterText(raw []byte, r *rfc.Reading) ([]byte, error) {
	text := r.Signed.TextParts()
	if len(text) == 0 {
		return nil, fmt.Errorf("no text to alter")
	}
	out := slices.Clone(raw)
	out[text[0].BodyStart+1] ^= 1 // a letter stays printable
	return out, nil
}

// headerWithout is the header of a message without what describes its content.
func headerWithout(r *rfc.Reading, more ...string) []byte {
	var b bytes.Buffer
	for _, f := range r.Root.Header {
		left := slices.ContainsFunc(append(more, "Content-Type", "MIME-Version"), func(n string) bool { return strings.EqualFold(n, f.Name) })
		if !left {
			b.WriteString(f.Name + ": " + f.Value + "\r\n")
		}
	}
	return b.Bytes()
}

// stripped takes the signature off.
func stripped(r *rfc.Reading) ([]byte, error) {
	b := writer{data: headerWithout(r)}
	if _, err := io.Copy(&b, r.Signed.Raw()); err != nil {
		return nil, err
	}
	return append(b.data, "\r\n"...), nil
}

// passedOn is what a mailing list makes of a message: the whole of it in a part, and a footer.
func passedOn(raw []byte, r *rfc.Reading) []byte {
	var b bytes.Buffer
	b.Write(headerWithout(r))
	b.WriteString("List-Id: <lista.sandbox.invalid>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_sandbox_list\"\r\n\r\n--=_sandbox_list\r\n")
	content, _ := r.Root.Header.Lookup("Content-Type")
	b.WriteString("Content-Type: " + content + "\r\n\r\n")
	b.Write(raw[r.Root.BodyStart:])
	b.WriteString("\r\n--=_sandbox_list\r\nContent-Type: text/plain\r\n\r\n_____\r\nuna lista (SANDBOX)\r\n--=_sandbox_list--\r\n")
	return b.Bytes()
}

var (
	zonaAttr  = regexp.MustCompile(` zona="([+-]\d\d)(\d\d)"`)
	msgidElem = regexp.MustCompile(`(?s)\s*<msgid>.*?</msgid>`)
	consegna  = regexp.MustCompile(`(?s)<consegna>.*?</consegna>`)
	tipoAttr  = regexp.MustCompile(`<postacert tipo="[^"]*"`)
)

// daticertFaults are what a provider writes wrong into daticert.xml before it signs.
var daticertFaults = map[string]func(xml string) string{
	client.FaultPECWrongZone: func(x string) string {
		return zonaAttr.ReplaceAllStringFunc(x, func(a string) string {
			m := zonaAttr.FindStringSubmatch(a)
			t, err := time.Parse("-07", m[1])
			if err != nil {
				return a
			}
			_, offset := t.Zone()
			return fmt.Sprintf(` zona="%+03d%s"`, offset/3600+3, m[2])
		})
	},
	client.FaultPECNoZone:  func(x string) string { return zonaAttr.ReplaceAllString(x, "") },
	client.FaultPECNoMsgID: func(x string) string { return msgidElem.ReplaceAllString(x, "") },
	client.FaultPECOtherMsgID: func(x string) string {
		return msgidElem.ReplaceAllString(x, "<msgid>&lt;altro@sandbox.invalid&gt;</msgid>")
	},
	client.FaultPECOtherTipo:   func(x string) string { return tipoAttr.ReplaceAllString(x, `<postacert tipo="presa-in-carico"`) },
	client.FaultPECUnknownTipo: func(x string) string { return tipoAttr.ReplaceAllString(x, `<postacert tipo="avvenuta-lettura"`) },
	client.FaultPECOtherRecipient: func(x string) string {
		return consegna.ReplaceAllString(x, "<consegna>nessuno@altrove.invalid</consegna>")
	},
	client.FaultPECDoctype: func(x string) string {
		at := strings.Index(x, "<postacert")
		return x[:max(at, 0)] + "<!DOCTYPE postacert SYSTEM \"https://sandbox.invalid/dtd/postacert.dtd\">\n" + x[max(at, 0):]
	},
}

// signAnew changes daticert.xml, or has it twice, and signs the whole as the provider does.
func (w *World) signAnew(s rfc.Gestore, r *rfc.Reading, at time.Time, how string) ([]byte, error) {
	n := slices.IndexFunc(r.Signed.Parts, func(p *rfc.Part) bool { return p.FileName() == "daticert.xml" })
	if n < 0 {
		return nil, fmt.Errorf("there is no daticert.xml to change")
	}
	p := r.Signed.Parts[n]
	whole, err := io.ReadAll(r.Signed.Raw())
	if err != nil {
		return nil, err
	}
	before, after := whole[:p.Start-r.Signed.Start], whole[p.End-r.Signed.Start:]
	var part []byte
	if how == client.FaultPECTwoDaticert {
		one := whole[p.Start-r.Signed.Start : p.End-r.Signed.Start]
		part = slices.Concat(one, []byte("\r\n--"+r.Signed.Params["boundary"]+"\r\n"), one)
	} else {
		part = daticertPart(daticertFaults[how](string(r.DaticertXML)))
	}
	without := []string{}
	if how == client.FaultPECNoMsgID {
		without = append(without, rfc.HeaderRiferimento) // a provider that has none repeats none
	}
	return w.sealed(s, headerWithout(r, without...), slices.Concat(before, part, after), at)
}

func daticertPart(xml string) []byte {
	var b bytes.Buffer
	b.WriteString("Content-Type: application/xml; name=\"daticert.xml\"\r\nContent-Disposition: inline; filename=\"daticert.xml\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	text := base64.StdEncoding.EncodeToString([]byte(xml))
	for line := range slices.Chunk([]byte(text), 76) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\r\n"))
}

// sealed is content under a provider's signature. spec: RFC8551 §3.5.3
func (w *World) sealed(s rfc.Gestore, header, content []byte, at time.Time) ([]byte, error) {
	sum := sha256.Sum256(content)
	p7s, err := cms.SignDetached(w.ctx, sum[:], s.Key, cms.Options{Certificate: s.Certificate, Chain: s.Chain, SigningTime: at})
	if err != nil {
		return nil, err
	}
	const mark = "----=_sandbox_signed"
	var b bytes.Buffer
	b.Write(header)
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=\"" + mark + "\"\r\n\r\n--" + mark + "\r\n")
	b.Write(content)
	b.WriteString("\r\n--" + mark + "\r\nContent-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(p7s)), 64) {
		b.Write(line)
		b.WriteString("\r\n")
	}
	b.WriteString("--" + mark + "--\r\n")
	return b.Bytes(), nil
}
