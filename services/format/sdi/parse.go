package sdi

import (
	"archive/zip"
	"bytes"
	"io"
	"strconv"
	"strings"
	"time"
)

// Bounds of the archives that carry attestations.
const (
	maxMessage       = 4 << 20 // an NS with 200 errors and a signature is below 1 MiB
	maxMembers       = 16
	maxArchiveMember = 2 * MaxFileSize
)

// ParseMessage reads a message of any type, in either schema. The XML decides its type; name
// is only compared with it. raw may be the zip of an attestation. Reading is lenient: absent
// and empty elements, the old namespace and unknown elements become Warnings. The raw bytes
// are kept, not copied.
//
// Errors are *ParseError: ErrNotMessage (another root), ErrXML, ErrDTD, ErrTruncated,
// ErrEncoding, ErrArchive, ErrTooLarge, ErrField (no IdentificativoSdI at all).
func ParseMessage(name string, raw []byte) (*Message, error) {
	m := &Message{Name: name, Raw: raw, XML: raw}
	doc := "message " + clip(name, 60)
	if bytes.HasPrefix(raw, []byte("PK\x03\x04")) {
		err := m.openArchive(doc, raw)
		if err != nil {
			return nil, err
		}
	}
	if len(m.XML) > maxMessage {
		return nil, parseErr(doc, ErrTooLarge, "%d bytes, the limit is %d", len(m.XML), maxMessage)
	}
	r, err := newXMLReader(doc, m.XML)
	if err != nil {
		return nil, err
	}
	err = r.root()
	if err != nil {
		return nil, err
	}
	p := messageParser{r: r, m: m}
	err = p.message()
	if err != nil {
		return nil, err
	}
	err = r.end()
	if err != nil {
		return nil, err
	}
	p.compare()
	return m, nil
}

// openArchive finds the attestation in a zip and keeps the other member as Original.
func (m *Message) openArchive(doc string, raw []byte) error {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return parseErr(doc, ErrArchive, "%v", err)
	}
	if len(z.File) > maxMembers {
		return parseErr(doc, ErrArchive, "%d members, at most %d", len(z.File), maxMembers)
	}
	m.XML = nil
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		data, err := readMember(f)
		if err != nil {
			return parseErr(doc, ErrArchive, "member %q: %v", clip(f.Name, 60), err)
		}
		if m.XML == nil && isAttestation(f.Name, data) {
			m.XML = data
			continue
		}
		if m.Original == nil {
			m.Original = &ArchiveMember{Name: f.Name, Data: data}
		}
	}
	if m.XML == nil {
		return parseErr(doc, ErrNotMessage, "the archive holds no AttestazioneTrasmissioneFattura")
	}
	if m.Original == nil {
		m.warn("the archive does not hold the original file")
	}
	return nil
}

func readMember(f *zip.File) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, maxArchiveMember+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxArchiveMember {
		return nil, ErrTooLarge
	}
	return data, nil
}

func isAttestation(name string, data []byte) bool {
	mn, err := ParseMessageName(name)
	if err == nil {
		return mn.Type == AT
	}
	return bytes.Contains(data[:min(len(data), 2048)], []byte("AttestazioneTrasmissioneFattura"))
}

type messageParser struct {
	r *xmlReader
	m *Message
}

// message dispatches on the root element, which is open.
func (p *messageParser) message() error {
	r := p.r
	schema, ok := schemaOf(r.space)
	if !ok {
		return r.fail(ErrNotMessage, "root %s is in namespace %q", clip(string(r.local), 60), clip(r.space, 80))
	}
	p.m.Schema = schema
	if schema == SchemaPAOld {
		p.m.warn("namespace without \"gov\" (%s)", NamespacePAOld)
	}
	c, err := p.content()
	if err != nil {
		return err
	}
	p.m.Contenuto = c
	h := c.Testa()
	h.Versione, ok = r.attr("", "versione")
	if !ok {
		p.m.warn("the root has no attribute versione")
	}
	return p.fields(c)
}

// content makes the empty body for the root element, with its attributes.
func (p *messageParser) content() (Contenuto, error) {
	r := p.r
	private := p.m.Schema == SchemaPrivati
	doubleRole := func() bool { v, _ := r.attr("", "IntermediarioConDupliceRuolo"); return v == "Si" }
	switch string(r.local) {
	case "RicevutaConsegna":
		v, _ := r.attr("", "FlussoSemplificato")
		return &RicevutaConsegna{IntermediarioConDupliceRuolo: doubleRole(), FlussoSemplificato: v == "Si"}, nil
	case "RicevutaScarto", "NotificaScarto":
		p.expectRoot(private == (string(r.local) == "RicevutaScarto"))
		return &NotificaScarto{}, nil
	case "RicevutaImpossibilitaRecapito", "NotificaMancataConsegna":
		p.expectRoot(private == (string(r.local) == "RicevutaImpossibilitaRecapito"))
		return &NotificaMancataConsegna{}, nil
	case "FileMetadati", "MetadatiInvioFile":
		p.expectRoot(private == (string(r.local) == "FileMetadati"))
		return &MetadatiInvioFile{}, nil
	case "NotificaEsito":
		p.expectRoot(!private)
		return &NotificaEsito{IntermediarioConDupliceRuolo: doubleRole()}, nil
	case "NotificaDecorrenzaTermini":
		p.expectRoot(!private)
		return &NotificaDecorrenzaTermini{IntermediarioConDupliceRuolo: doubleRole()}, nil
	case "AttestazioneTrasmissioneFattura":
		p.expectRoot(!private)
		return &AttestazioneTrasmissioneFattura{}, nil
	case "NotificaEsitoCommittente":
		p.expectRoot(!private)
		return &NotificaEsitoCommittente{}, nil
	case "ScartoEsitoCommittente":
		p.expectRoot(!private)
		return &ScartoEsitoCommittente{}, nil
	}
	return nil, r.fail(ErrNotMessage, "root %s is none of the nine messages", clip(string(r.local), 60))
}

func (p *messageParser) expectRoot(ok bool) {
	if !ok {
		p.m.warn("root %s belongs to the other schema than its namespace", string(p.r.local))
	}
}

// fields reads the children of the open message element into c.
func (p *messageParser) fields(c Contenuto) error {
	r, h := p.r, c.Testa()
	err := r.each(func() error {
		local := string(r.local)
		switch local {
		case "Signature":
			p.m.Signed = p.m.Signed || r.space == nsDSig
			return r.skip()
		case "RiferimentoArchivio":
			h.RiferimentoArchivio = &RiferimentoArchivio{}
			return p.pairs(map[string]*string{
				"IdentificativoSdI": &h.RiferimentoArchivio.IdentificativoSdI,
				"NomeFile":          &h.RiferimentoArchivio.NomeFile,
			})
		case "Destinatario":
			return p.destinatario(c)
		case "RiferimentoFattura":
			return p.riferimentoFattura(c)
		case "ListaErrori":
			if ns, ok := c.(*NotificaScarto); ok {
				return p.listaErrori(ns)
			}
		case "EsitoCommittente":
			if ne, ok := c.(*NotificaEsito); ok {
				ne.EsitoCommittente.Versione, _ = r.attr("", "versione")
				return p.fields(&ne.EsitoCommittente)
			}
		}
		v, err := r.value()
		if err != nil {
			return err
		}
		if !p.common(h, local, v) && !p.own(c, local, v) {
			p.m.warn("unknown element %s in %s", clip(local, 40), c.Tipo())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if h.IdentificativoSdI != "" {
		return nil
	}
	if c != p.m.Contenuto {
		p.m.warn("%s has no IdentificativoSdI", c.Tipo())
		return nil
	}
	return r.fail(ErrField, "%s has no IdentificativoSdI", c.Tipo())
}

// common takes the elements that most messages share; it reports whether it knew the name.
func (p *messageParser) common(h *Intestazione, local, v string) bool {
	switch local {
	case "IdentificativoSdI":
		h.IdentificativoSdI = v
	case "NomeFile":
		h.NomeFile = v
	case "Hash":
		h.Hash = strings.ToLower(v)
	case "DataOraRicezione":
		h.DataOraRicezione = p.time(local, v)
	case "MessageId":
		h.MessageID = v
	case "PecMessageId":
		h.PecMessageID = v
	case "Note":
		h.Note = v
	default:
		return false
	}
	return true
}

// own takes the elements of one message type.
func (p *messageParser) own(c Contenuto, local, v string) bool {
	switch c := c.(type) {
	case *RicevutaConsegna:
		if local == "DataOraConsegna" {
			c.DataOraConsegna = p.time(local, v)
			return true
		}
	case *NotificaMancataConsegna:
		switch local {
		case "DataMessaADisposizione":
			c.DataMessaADisposizione = p.time(local, v)
			return true
		case "Descrizione":
			c.Descrizione = v
			return true
		}
	case *NotificaDecorrenzaTermini:
		if local == "Descrizione" {
			c.Descrizione = v
			return true
		}
	case *AttestazioneTrasmissioneFattura:
		if local == "HashFileOriginale" {
			c.HashFileOriginale = strings.ToLower(v)
			return true
		}
	case *MetadatiInvioFile:
		return p.metadati(c, local, v)
	case *NotificaEsitoCommittente:
		switch local {
		case "Esito":
			c.Esito = EsitoCommittente(v)
			if c.Esito != EC01 && c.Esito != EC02 {
				p.m.warn("Esito %q is neither EC01 nor EC02", clip(v, 20))
			}
			return true
		case "Descrizione":
			c.Descrizione = v
			return true
		case "MessageIdCommittente":
			c.MessageIDCommittente = v
			return true
		}
	case *ScartoEsitoCommittente:
		switch local {
		case "Scarto":
			c.Scarto = Scarto(v)
			return true
		case "MessageIdCommittente":
			c.MessageIDCommittente = v
			return true
		}
	}
	return false
}

func (p *messageParser) metadati(c *MetadatiInvioFile, local, v string) bool {
	switch local {
	case "CodiceDestinatario":
		c.CodiceDestinatario = v
	case "Formato":
		c.Formato = v
	case "TentativiInvio":
		n, err := strconv.Atoi(v)
		if err != nil {
			p.m.warn("TentativiInvio %q is not a number", clip(v, 20))
		}
		c.TentativiInvio = n
	default:
		return false
	}
	return true
}

func (p *messageParser) destinatario(c Contenuto) error {
	var d Destinatario
	err := p.pairs(map[string]*string{"Codice": &d.Codice, "Descrizione": &d.Descrizione})
	if err != nil {
		return err
	}
	if d.Codice == "" {
		p.m.warn("Destinatario has no Codice")
	}
	switch c := c.(type) {
	case *RicevutaConsegna:
		c.Destinatario = d
	case *AttestazioneTrasmissioneFattura:
		c.Destinatario = d
	default:
		p.m.warn("unknown element Destinatario in %s", c.Tipo())
	}
	return nil
}

func (p *messageParser) riferimentoFattura(c Contenuto) error {
	var rf RiferimentoFattura
	var pos string
	err := p.pairs(map[string]*string{"NumeroFattura": &rf.NumeroFattura, "AnnoFattura": &rf.AnnoFattura, "PosizioneFattura": &pos})
	if err != nil {
		return err
	}
	if pos != "" {
		rf.PosizioneFattura, err = strconv.Atoi(pos)
		if err != nil {
			p.m.warn("PosizioneFattura %q is not a number", clip(pos, 20))
		}
	}
	switch c := c.(type) {
	case *NotificaEsitoCommittente:
		c.RiferimentoFattura = &rf
	case *NotificaDecorrenzaTermini:
		c.RiferimentoFattura = &rf
	case *ScartoEsitoCommittente:
		c.RiferimentoFattura = &rf
	default:
		p.m.warn("unknown element RiferimentoFattura in %s", c.Tipo())
	}
	return nil
}

func (p *messageParser) listaErrori(ns *NotificaScarto) error {
	r := p.r
	err := r.each(func() error {
		if string(r.local) != "Errore" {
			p.m.warn("unknown element %s in ListaErrori", clip(string(r.local), 40))
			return r.skip()
		}
		var e Errore
		err := p.pairs(map[string]*string{"Codice": &e.Codice, "Descrizione": &e.Descrizione, "Suggerimento": &e.Suggerimento})
		if err != nil {
			return err
		}
		ns.ListaErrori = append(ns.ListaErrori, e)
		if e.Suggerimento == "" && p.m.Schema == SchemaPrivati {
			p.m.warn("Errore %s has no Suggerimento", clip(e.Codice, 10))
		}
		return nil
	})
	if err == nil && len(ns.ListaErrori) == 0 {
		p.m.warn("ListaErrori is empty")
	}
	return err
}

// pairs reads an element whose children are plain text.
func (p *messageParser) pairs(into map[string]*string) error {
	return p.r.each(func() error {
		dst, ok := into[string(p.r.local)]
		if !ok {
			p.m.warn("unknown element %s", clip(string(p.r.local), 40))
			return p.r.skip()
		}
		v, err := p.r.value()
		*dst = v
		return err
	})
}

func (p *messageParser) time(field, v string) time.Time {
	t, err := ParseDataOra(v)
	if err != nil {
		p.m.warn("%s: %v", field, err)
	}
	return t
}

// compare warns where the name of the message, its content and its schema disagree.
func (p *messageParser) compare() {
	m := p.m
	mn, err := ParseMessageName(m.Name)
	switch {
	case m.Name == "":
	case err != nil:
		m.warn("the name is not that of a message: %v", err)
	case mn.Type != m.Type():
		m.warn("the name says %s, the content is %s", mn.Type, m.Type())
	}
	if !m.Signed && m.Type() != MT && m.Type() != EC {
		m.warn("not signed")
	}
	if m.Schema == SchemaPrivati && m.Head().Hash == "" {
		m.warn("no Hash")
	}
	if rc, ok := m.Contenuto.(*RicevutaConsegna); ok && rc.DataOraConsegna.IsZero() {
		m.warn("no DataOraConsegna")
	}
}
