package pec

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

// Reading is everything that one message says, before any of it is proven.
type Reading struct {
	*Message
	Claim Claim

	// Signed is the entity that the signature is over and P7S the signature; nil when unsigned.
	// Nested says that the signature is not the outermost part: somebody rewrote the message on
	// its way, and it proves nothing.
	Signed *Part
	P7S    *Part
	Nested bool

	// Daticert is the one daticert.xml that is a direct child of the signed multipart/mixed; nil
	// when there is none, or when there are two. DaticertXML is the file as decoded, DaticertPart
	// the part that it was decoded from.
	Daticert     *Daticert
	DaticertXML  []byte
	DaticertPart *Part
	// Original is postacert.eml of certified mail, or the message in an anomaly envelope.
	Original *Part

	Findings Findings // of structure and coherence, those of Message included
}

// Read parses a message and reads what kind it is, its certification data and where its parts
// are. Nothing is verified: see Verify. Errors are Parse's.
func Read(src io.ReaderAt, size int64, lim Limits) (*Reading, error) {
	m, err := Parse(src, size, lim)
	if err != nil {
		return nil, err
	}
	r := &Reading{Message: m, Findings: slices.Clone(m.Findings)}
	claim, fs := Classify(m)
	r.Claim = claim
	r.Findings = append(r.Findings, fs...)
	r.findSignature()
	if err := r.findParts(); err != nil {
		return nil, err
	}
	r.judgeShape()
	r.judgeCoherence()
	return r, nil
}

// ReadBytes is Read over bytes under the default limits.
func ReadBytes(raw []byte) (*Reading, error) {
	return Read(bytes.NewReader(raw), int64(len(raw)), Limits{})
}

// findSignature looks for the multipart/signed: at the top, or, for mail that a list or a
// gateway rewrote, further in but never inside an attached message.
func (r *Reading) findSignature() {
	outer := r.Root
	if outer.MediaType != "multipart/signed" {
		outer = nil
		r.Root.Walk(func(p *Part) bool {
			if p != r.Root && p.MediaType == "multipart/signed" && !p.insideMessage(r.Root) {
				outer = p
			}
			return outer == nil
		})
		if outer == nil {
			return
		}
		r.Nested = true
		r.Findings.add(CodeNested, Doubt, outer.Start, "the signed part is inside another: the message was rewritten on its way")
	}
	r.Signed, r.P7S = signedParts(outer, &r.Findings)
}

// signedParts gives the two parts of a multipart/signed. spec: RFC1847 §2.1
func signedParts(outer *Part, fs *Findings) (signed, p7s *Part) {
	if len(outer.Parts) != 2 {
		fs.add(CodeShape, Ambiguous, outer.Start, "multipart/signed has %d parts, not 2", len(outer.Parts))
		return nil, nil
	}
	switch outer.Parts[1].MediaType {
	case "application/pkcs7-signature", "application/x-pkcs7-signature":
		return outer.Parts[0], outer.Parts[1]
	}
	fs.add(CodeShape, Doubt, outer.Parts[1].Start, "the second part of multipart/signed is %s, no S/MIME signature", outer.Parts[1].MediaType)
	return nil, nil
}

// container is the multipart/mixed with the parts of certified mail.
func (r *Reading) container() *Part {
	switch {
	case r.Signed != nil:
		return r.Signed
	case r.Root.MediaType == "multipart/mixed":
		return r.Root // unsigned: read for display, never proven
	case r.Root.MediaType == "multipart/signed" && len(r.Root.Parts) > 0:
		return r.Root.Parts[0] // the signature went missing: the same
	}
	return nil
}

// findParts reads daticert.xml and finds the original among the direct children of the signed
// part: a forwarded message brings files of the same names further in.
func (r *Reading) findParts() error {
	box := r.container()
	if r.Claim.Tipo == TipoREM && box != nil {
		r.Original = sectionOriginal(box)
		return nil
	}
	if box == nil || r.Claim.Tipo != TipoIgnoto && !r.Claim.Tipo.Certified() {
		return nil
	}
	var files []*Part
	for _, p := range box.Parts {
		name := strings.ToLower(p.FileName())
		switch {
		case p.MediaType == "message/rfc822":
			if r.Original == nil || name == "postacert.eml" {
				r.Original = p
			}
		case name == "daticert.xml":
			files = append(files, p)
		}
	}
	switch len(files) {
	case 0:
		return nil
	case 1:
		return r.readDaticert(files[0])
	}
	r.Findings.add(CodeSeveralDaticert, Ambiguous, files[1].Start, "%d files daticert.xml stand side by side: none is read", len(files))
	return nil
}

func (r *Reading) readDaticert(p *Part) error {
	raw, err := p.Bytes(daticertMax)
	if err != nil {
		if isLimit(err) {
			r.Findings.add(CodeBadDaticert, Doubt, p.Start, "%v", err)
			return nil
		}
		return err
	}
	r.DaticertXML, r.DaticertPart = raw, p
	d, fs, err := parseDaticert(raw, r.lim.Daticert)
	if err != nil {
		r.Findings.add(CodeBadDaticert, Doubt, p.Start, "%v", err)
		return nil
	}
	r.Daticert = d
	for _, f := range fs {
		f.Offset = p.BodyStart
		r.Findings = append(r.Findings, f)
	}
	return nil
}

func isLimit(err error) bool {
	var limit *LimitError
	return errors.As(err, &limit)
}

// Tipo is the type with the certification data taken into account: header and daticert have to
// agree, else the type is unknown.
func (r *Reading) Tipo() Tipo {
	if r.Daticert != nil && r.Claim.Tipo.Certified() && r.Daticert.Kind() != r.Claim.Tipo {
		return TipoIgnoto
	}
	return r.Claim.Tipo
}

// Ricevuta is the kind of delivery receipt: of a receipt, the one it is; of an envelope, the one
// that was asked for. completa when nobody says. spec: RFC6109 §3.3.2
func (r *Reading) Ricevuta() TipoRicevuta {
	if r.Daticert != nil && r.Daticert.Ricevuta != "" {
		return r.Daticert.Ricevuta
	}
	return orDefault(r.Claim.TipoRicevuta, Completa)
}

// OriginalMessage is the message inside postacert.eml or the anomaly envelope; nil when there is
// none, or one, against the rules encoded, that is empty or too large to be decoded. An error is
// the source's.
func (r *Reading) OriginalMessage() (*Part, error) {
	if r.Original == nil {
		return nil, nil
	}
	p, err := r.Original.Message()
	if errors.Is(err, ErrEmpty) || isLimit(err) {
		return nil, nil
	}
	return p, err
}

// judgeShape compares the structure with the one that RFC 6109 prescribes.
// spec: RFC6109 §2.1, §3, §4.3
func (r *Reading) judgeShape() {
	t := r.Claim.Tipo
	if !t.Certified() {
		return
	}
	if t.BetweenProviders() {
		r.Findings.add(CodeMisrouted, Doubt, 0, "%s is for providers, no user gets one", t)
	}
	if box := r.container(); box != nil && box.MediaType != "multipart/mixed" {
		r.Findings.add(CodeShape, Doubt, box.Start, "the signed part is %s, not multipart/mixed", box.MediaType)
	}
	if t == BustaAnomalia {
		if r.Original == nil {
			r.Findings.add(CodeOriginal, Doubt, 0, "an anomaly envelope without the message that it is about")
		}
		return
	}
	if r.Daticert == nil && !r.Findings.Has(CodeBadDaticert) && !r.Findings.Has(CodeSeveralDaticert) {
		r.Findings.add(CodeNoDaticert, Doubt, 0, "%s without daticert.xml beside its text", t)
	}
	r.judgeOriginal(t)
}

// judgeOriginal: which types carry the original. spec: RFC6109 §3.1 to §3.3
func (r *Reading) judgeOriginal(t Tipo) {
	has := r.Original != nil
	switch t {
	case BustaTrasporto:
		if !has {
			r.Findings.add(CodeOriginal, Doubt, 0, "a transport envelope without postacert.eml")
		}
	case AvvenutaConsegna:
		if want := r.Ricevuta() != Sintetica; want != has {
			r.Findings.add(CodeOriginal, Notice, 0, "a delivery receipt of type %s: postacert.eml %s", r.Ricevuta(), map[bool]string{true: "is there", false: "is missing"}[has])
		}
	case NonAccettazione, PreavvisoErrore, RilevazioneVirus:
		if has {
			r.Findings.add(CodeOriginal, Notice, 0, "%s may not carry the original", t)
		}
	}
}

// judgeCoherence compares header, daticert and original with one another.
// spec: RFC6109 §3.1.5, §4.4
func (r *Reading) judgeCoherence() {
	d, c := r.Daticert, r.Claim
	if d == nil || !c.Tipo.Certified() {
		return
	}
	if d.Kind() != c.Tipo {
		r.Findings.add(CodeTipo, Doubt, 0, "the header says %q, daticert %q", c.Value, d.Tipo)
	}
	if c.Tipo != BustaAnomalia && TrimID(d.MsgID) != c.Riferimento {
		r.Findings.add(CodeMsgID, Doubt, 0, "%s is %q, daticert has msgid %q", HeaderRiferimento, c.Riferimento, d.MsgID)
	}
	if c.Virus != (d.Errore == VirusTrovato) && c.Tipo != RilevazioneVirus {
		r.Findings.add(CodeTipo, Notice, 0, "%s and errore=%q do not agree", HeaderSicurezza, d.Errore)
	}
	if c.Tipo == BustaTrasporto {
		r.judgeIdentifier()
	}
	if c.Tipo.PerRecipient() {
		switch _, known := d.Destinatario(d.Consegna); {
		case d.Consegna == "" && c.Tipo != RilevazioneVirus && c.Tipo != PreavvisoErrore:
			r.Findings.add(CodeNoConsegna, Doubt, 0, "%s names no recipient", c.Tipo)
		case d.Consegna != "" && !known:
			r.Findings.add(CodeConsegna, Doubt, 0, "it is about %q, who is not among the recipients", d.Consegna)
		}
	}
}

// judgeIdentifier: an envelope, its daticert and its original share one identifier.
func (r *Reading) judgeIdentifier() {
	id := TrimID(r.Daticert.Identificativo)
	if id != r.Claim.MessageID {
		r.Findings.add(CodeIdentificativo, Doubt, 0, "Message-ID is %q, daticert has %q", r.Claim.MessageID, id)
	}
	if r.Original != nil && len(r.Original.Parts) == 1 {
		if inner := r.Original.Parts[0].Header.MessageID("Message-ID"); inner != id {
			r.Findings.add(CodeIdentificativo, Doubt, r.Original.Start, "postacert.eml has Message-ID %q, daticert %q", inner, id)
		}
	}
}
