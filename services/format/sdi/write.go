package sdi

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// WriteMessage writes a message in the given schema, unsigned. The result has no blanks and no
// unused namespace, so that the bytes after the XML declaration are their own canonical form
// (exclusive or not): a signer may hash them as they are. All messages but MT and EC need a
// ds:Signature as the last child of the root before they validate.
//
// Errors wrap ErrIncomplete and name the field: a mandatory one missing, one too long for
// the schema, or a type that the schema does not have.
func WriteMessage(c Contenuto, s Schema) ([]byte, error) {
	root, ok := rootName(c.Tipo(), s)
	if !ok {
		return nil, fmt.Errorf("%w: the schema %s has no %s", ErrIncomplete, s, c.Tipo())
	}
	w := &messageWriter{schema: s, tipo: c.Tipo(), b: make([]byte, 0, 2048)}
	w.b = append(w.b, `<?xml version="1.0" encoding="UTF-8"?>`...)
	prefix := "types:"
	if s == SchemaPrivati {
		prefix = "ns3:"
	}
	w.b = append(w.b, '<')
	w.b = append(w.b, prefix...)
	w.b = append(w.b, root...)
	w.b = append(w.b, " xmlns:"...)
	w.b = append(w.b, prefix[:len(prefix)-1]...)
	w.b = append(w.b, '=', '"')
	w.b = append(w.b, s.Namespace()...)
	w.b = append(w.b, '"')
	w.rootAttributes(c)
	w.b = append(w.b, ` versione="1.0">`...)
	w.content(c)
	w.b = append(w.b, '<', '/')
	w.b = append(w.b, prefix...)
	w.b = append(w.b, root...)
	w.b = append(w.b, '>')
	if w.err != nil {
		return nil, w.err
	}
	return w.b, nil
}

func rootName(t MessageType, s Schema) (string, bool) {
	if s.Namespace() == "" {
		return "", false
	}
	if s == SchemaPrivati {
		switch t {
		case RC:
			return "RicevutaConsegna", true
		case NS:
			return "RicevutaScarto", true
		case MC:
			return "RicevutaImpossibilitaRecapito", true
		case MT:
			return "FileMetadati", true
		}
		return "", false
	}
	switch t {
	case RC:
		return "RicevutaConsegna", true
	case NS:
		return "NotificaScarto", true
	case MC:
		return "NotificaMancataConsegna", true
	case NE:
		return "NotificaEsito", true
	case DT:
		return "NotificaDecorrenzaTermini", true
	case AT:
		return "AttestazioneTrasmissioneFattura", true
	case MT:
		return "MetadatiInvioFile", true
	case EC:
		return "NotificaEsitoCommittente", true
	case SE:
		return "ScartoEsitoCommittente", true
	}
	return "", false
}

type messageWriter struct {
	schema Schema
	tipo   MessageType
	b      []byte
	err    error
}

func (w *messageWriter) private() bool { return w.schema == SchemaPrivati }

func (w *messageWriter) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %s: %s", ErrIncomplete, w.tipo, fmt.Sprintf(format, args...))
	}
}

// rootAttributes writes the optional attributes; their names sort before versione, as the
// canonical form wants.
func (w *messageWriter) rootAttributes(c Contenuto) {
	var double, simplified bool
	switch c := c.(type) {
	case *RicevutaConsegna:
		double, simplified = c.IntermediarioConDupliceRuolo && !w.private(), c.FlussoSemplificato && w.private()
	case *NotificaEsito:
		double = c.IntermediarioConDupliceRuolo
	case *NotificaDecorrenzaTermini:
		double = c.IntermediarioConDupliceRuolo
	}
	if simplified {
		w.b = appendAttr(w.b, "FlussoSemplificato", "Si")
	}
	if double {
		w.b = appendAttr(w.b, "IntermediarioConDupliceRuolo", "Si")
	}
}

// need writes a mandatory element of 1 to limit characters.
func (w *messageWriter) need(name, v string, limit int) {
	if v == "" {
		w.fail("%s is mandatory", name)
		return
	}
	w.opt(name, v, limit)
}

// opt writes an element unless it is empty: optional elements must be absent, never empty.
func (w *messageWriter) opt(name, v string, limit int) {
	if v == "" {
		return
	}
	if limit > 0 && len(v) > limit && utf8.RuneCountInString(v) > limit {
		w.fail("%s has more than %d characters", name, limit)
		return
	}
	w.b = appendElement(w.b, name, v)
}

func (w *messageWriter) dataOra(name string, t time.Time) {
	if t.IsZero() {
		w.fail("%s is mandatory", name)
		return
	}
	w.b = appendElement(w.b, name, FormatDataOra(t))
}

func (w *messageWriter) id(name, v string) {
	if w.private() {
		w.need(name, v, 36)
		return
	}
	if !validID(v) {
		w.fail("%s must be 1 to 12 digits, is %q", name, clip(v, 40))
		return
	}
	w.b = appendElement(w.b, name, v)
}

func (w *messageWriter) messageID(h *Intestazione) {
	limit := 14
	if w.private() {
		limit = 36
	}
	w.need("MessageId", h.MessageID, limit)
	w.opt("PecMessageId", h.PecMessageID, 0)
	w.opt("Note", h.Note, 0)
}

func (w *messageWriter) hash(h *Intestazione) {
	if w.private() {
		w.need("Hash", h.Hash, 0)
	}
}

func (w *messageWriter) archivio(h *Intestazione) {
	if h.RiferimentoArchivio == nil {
		return
	}
	w.b = append(w.b, "<RiferimentoArchivio>"...)
	w.id("IdentificativoSdI", h.RiferimentoArchivio.IdentificativoSdI)
	w.need("NomeFile", h.RiferimentoArchivio.NomeFile, 50)
	w.b = append(w.b, "</RiferimentoArchivio>"...)
}

func (w *messageWriter) destinatario(d Destinatario) {
	w.b = append(w.b, "<Destinatario>"...)
	w.need("Codice", d.Codice, 7)
	if w.private() {
		w.opt("Descrizione", d.Descrizione, 0)
	} else {
		w.b = appendElement(w.b, "Descrizione", d.Descrizione)
	}
	w.b = append(w.b, "</Destinatario>"...)
}

func (w *messageWriter) riferimento(rf *RiferimentoFattura) {
	if rf == nil {
		return
	}
	w.b = append(w.b, "<RiferimentoFattura>"...)
	w.need("NumeroFattura", rf.NumeroFattura, 20)
	w.need("AnnoFattura", rf.AnnoFattura, 0)
	if rf.PosizioneFattura > 0 {
		w.b = appendElement(w.b, "PosizioneFattura", strconv.Itoa(rf.PosizioneFattura))
	}
	w.b = append(w.b, "</RiferimentoFattura>"...)
}

// descrizioneLimit is 255 characters in the PA schema and 1000 in the private one.
func (w *messageWriter) descrizioneLimit() int {
	if w.private() {
		return 1000
	}
	return 255
}

// content writes the children of the root in the order of the schema's sequences.
func (w *messageWriter) content(c Contenuto) {
	h := c.Testa()
	w.id("IdentificativoSdI", h.IdentificativoSdI)
	switch c := c.(type) {
	case *RicevutaConsegna:
		w.need("NomeFile", h.NomeFile, 50)
		w.hash(h)
		w.dataOra("DataOraRicezione", h.DataOraRicezione)
		w.dataOra("DataOraConsegna", c.DataOraConsegna)
		w.destinatario(c.Destinatario)
		w.archivio(h)
		w.messageID(h)
	case *NotificaScarto:
		w.need("NomeFile", h.NomeFile, 50)
		w.hash(h)
		w.dataOra("DataOraRicezione", h.DataOraRicezione)
		w.archivio(h)
		w.listaErrori(c.ListaErrori)
		w.messageID(h)
	case *NotificaMancataConsegna:
		w.need("NomeFile", h.NomeFile, 50)
		w.hash(h)
		w.dataOra("DataOraRicezione", h.DataOraRicezione)
		w.messaADisposizione(c)
		w.archivio(h)
		w.opt("Descrizione", c.Descrizione, w.descrizioneLimit())
		w.messageID(h)
	case *NotificaEsito:
		w.need("NomeFile", h.NomeFile, 50)
		w.b = append(w.b, `<EsitoCommittente versione="1.0">`...)
		w.id("IdentificativoSdI", c.EsitoCommittente.IdentificativoSdI)
		w.esito(&c.EsitoCommittente)
		w.b = append(w.b, `</EsitoCommittente>`...)
		w.messageID(h)
	case *NotificaDecorrenzaTermini:
		w.riferimento(c.RiferimentoFattura)
		w.need("NomeFile", h.NomeFile, 50)
		w.opt("Descrizione", c.Descrizione, w.descrizioneLimit())
		w.messageID(h)
	case *AttestazioneTrasmissioneFattura:
		w.need("NomeFile", h.NomeFile, 50)
		w.dataOra("DataOraRicezione", h.DataOraRicezione)
		w.archivio(h)
		w.destinatario(c.Destinatario)
		w.messageID(h)
		w.need("HashFileOriginale", c.HashFileOriginale, 0)
	case *MetadatiInvioFile:
		w.metadati(c)
	case *NotificaEsitoCommittente:
		w.esito(c)
	case *ScartoEsitoCommittente:
		w.scarto(c)
	}
}

func (w *messageWriter) messaADisposizione(c *NotificaMancataConsegna) {
	if !w.private() {
		return
	}
	if c.DataMessaADisposizione.IsZero() {
		w.fail("DataMessaADisposizione is mandatory")
		return
	}
	w.b = appendElement(w.b, "DataMessaADisposizione", FormatData(c.DataMessaADisposizione))
}

func (w *messageWriter) listaErrori(errs []Errore) {
	if len(errs) < 1 || len(errs) > 200 {
		w.fail("ListaErrori must have 1 to 200 errors, has %d", len(errs))
		return
	}
	w.b = append(w.b, "<ListaErrori>"...)
	for _, e := range errs {
		w.b = append(w.b, "<Errore>"...)
		if len(e.Codice) != 5 {
			w.fail("Codice must have 5 characters, is %q", clip(e.Codice, 20))
		}
		w.need("Codice", e.Codice, 5)
		w.need("Descrizione", e.Descrizione, w.descrizioneLimit())
		if w.private() {
			w.need("Suggerimento", e.Suggerimento, 2000)
		}
		w.b = append(w.b, "</Errore>"...)
	}
	w.b = append(w.b, "</ListaErrori>"...)
}

func (w *messageWriter) metadati(c *MetadatiInvioFile) {
	w.need("NomeFile", c.NomeFile, 50)
	w.hash(&c.Intestazione)
	w.need("CodiceDestinatario", c.CodiceDestinatario, 7)
	w.need("Formato", c.Formato, 5)
	w.b = appendElement(w.b, "TentativiInvio", strconv.Itoa(c.TentativiInvio))
	limit := 14
	if w.private() {
		limit = 36
	}
	w.need("MessageId", c.MessageID, limit)
	w.opt("Note", c.Note, 0)
}

func (w *messageWriter) esito(c *NotificaEsitoCommittente) {
	w.riferimento(c.RiferimentoFattura)
	if c.Esito != EC01 && c.Esito != EC02 {
		w.fail("Esito must be EC01 or EC02, is %q", clip(string(c.Esito), 20))
	}
	w.need("Esito", string(c.Esito), 4)
	w.opt("Descrizione", c.Descrizione, 255)
	w.opt("MessageIdCommittente", c.MessageIDCommittente, 14)
}

func (w *messageWriter) scarto(c *ScartoEsitoCommittente) {
	w.riferimento(c.RiferimentoFattura)
	if c.Scarto != EN00 && c.Scarto != EN01 {
		w.fail("Scarto must be EN00 or EN01, is %q", clip(string(c.Scarto), 20))
	}
	w.need("Scarto", string(c.Scarto), 4)
	w.need("MessageId", c.MessageID, 14)
	w.opt("MessageIdCommittente", c.MessageIDCommittente, 14)
	w.opt("PecMessageId", c.PecMessageID, 0)
	w.opt("Note", c.Note, 0)
}

// ZipAttestazione packs an attestation as SdI sends it: the original file and the XML.
// modified stamps the members.
// The texts at hand do not describe the zip; its shape is known from GovWay's samples.
func ZipAttestazione(original ArchiveMember, xmlName string, xml []byte, modified time.Time) ([]byte, error) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, m := range []ArchiveMember{original, {Name: xmlName, Data: xml}} {
		f, err := z.CreateHeader(&zip.FileHeader{Name: m.Name, Method: zip.Deflate, Modified: modified})
		if err != nil {
			return nil, fmt.Errorf("sdi: zip %s: %w", m.Name, err)
		}
		_, err = f.Write(m.Data)
		if err != nil {
			return nil, fmt.Errorf("sdi: zip %s: %w", m.Name, err)
		}
	}
	err := z.Close()
	if err != nil {
		return nil, fmt.Errorf("sdi: zip: %w", err)
	}
	return buf.Bytes(), nil
}
