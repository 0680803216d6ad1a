package sincro

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"time"
)

// Write streams a PIndex to w: UTF-8, one line, prefix "sincro", no insignificant white space. The
// bytes depend on the arguments alone. Groups come one at a time, so memory does not grow with the
// package. What has been written when an error is returned is to be thrown away.
//
// Errors: *FieldError for a field that the standard does not admit; an error of groups or of w.
func Write(w io.Writer, ix Index, groups iter.Seq2[FileGroup, error]) error {
	var c checker
	c.head(&ix)
	if c.err != nil {
		return c.err
	}
	x := &writer{w: bufio.NewWriterSize(w, 64<<10)}
	x.raw(`<?xml version="1.0" encoding="UTF-8"?>` + "\n")
	x.raw(`<sincro:PIndex xmlns:sincro="` + Namespace + `"`)
	x.attr("language", ix.Language)
	x.attr("uri", SchemaURI)
	x.attr("sincroVersion", Version)
	x.raw(">")
	x.selfDescription(&ix)
	x.volume(&ix.Volume)
	count := 0
	for g, err := range groups {
		if err != nil {
			return fmt.Errorf("sincro: file groups: %w", err)
		}
		err = x.group(&g)
		if err != nil {
			return err
		}
		count++
	}
	if count == 0 {
		return errNoGroup
	}
	x.process(&ix.Process)
	x.raw("</sincro:PIndex>\n")
	err := x.w.Flush()
	if err != nil {
		return fmt.Errorf("sincro: write: %w", err)
	}
	return nil
}

// writer relies on bufio.Writer keeping its first error until Flush.
type writer struct{ w *bufio.Writer }

func (x *writer) raw(s string) { _, _ = x.w.WriteString(s) }

func (x *writer) open(name string) {
	x.raw("<sincro:")
	x.raw(name)
	x.raw(">")
}

// begin leaves the tag open for attributes; the caller closes it with raw(">").
func (x *writer) begin(name string) {
	x.raw("<sincro:")
	x.raw(name)
}

func (x *writer) end(name string) {
	x.raw("</sincro:")
	x.raw(name)
	x.raw(">")
}

func (x *writer) attr(name, value string) {
	x.raw(" sincro:")
	x.raw(name)
	x.raw(`="`)
	x.escape(value)
	x.raw(`"`)
}

func (x *writer) optionalAttr(name, value string) {
	if value != "" {
		x.attr(name, value)
	}
}

func (x *writer) element(name, value string) {
	x.open(name)
	x.escape(value)
	x.end(name)
}

func (x *writer) optional(name, value string) {
	if value != "" {
		x.element(name, value)
	}
}

// escape writes character data that is safe in elements and in attributes. Tab, line feed and
// carriage return are written as references, because a parser would change them otherwise.
// spec: XML10 §2.11, §3.3.3
func (x *writer) escape(s string) {
	from := 0
	for i := range len(s) {
		var ref string
		switch s[i] {
		case '&':
			ref = "&amp;"
		case '<':
			ref = "&lt;"
		case '>':
			ref = "&gt;"
		case '"':
			ref = "&quot;"
		case '\t':
			ref = "&#9;"
		case '\n':
			ref = "&#10;"
		case '\r':
			ref = "&#13;"
		default:
			continue
		}
		x.raw(s[from:i])
		x.raw(ref)
		from = i + 1
	}
	x.raw(s[from:])
}

func (x *writer) id(name string, id ID) {
	x.begin(name)
	x.attr("scheme", id.Scheme)
	x.raw(">")
	x.escape(id.Value)
	x.end(name)
}

func (x *writer) selfDescription(ix *Index) {
	x.open("SelfDescription")
	x.id("ID", ix.ID)
	x.open("CreatingApplication")
	x.element("Name", ix.Application.Name)
	x.element("Version", ix.Application.Version)
	x.element("Producer", ix.Application.Producer)
	x.end("CreatingApplication")
	for _, s := range ix.Sources {
		x.begin("PIndexSource")
		x.attr("derivation", string(s.Derivation))
		x.raw(">")
		x.id("ID", s.ID)
		x.element("Path", s.Path)
		x.hash(s.Hash)
		x.end("PIndexSource")
	}
	x.end("SelfDescription")
}

func (x *writer) volume(v *Volume) {
	x.open("PVolume")
	x.id("ID", v.ID)
	x.optional("Label", v.Label)
	x.optional("Description", v.Description)
	for _, s := range v.Sources {
		x.open("PVolumeSource")
		x.id("ID", s.ID)
		x.id("PIndexID", s.PIndex)
		x.end("PVolumeSource")
	}
	if v.Group != nil {
		x.open("PVolumeGroup")
		x.id("ID", v.Group.ID)
		x.optional("Label", v.Group.Label)
		x.optional("Description", v.Group.Description)
		x.end("PVolumeGroup")
	}
	x.end("PVolume")
}

func (x *writer) group(g *FileGroup) error {
	var c checker
	c.group(g)
	if c.err != nil {
		return c.err
	}
	x.open("FileGroup")
	x.id("ID", g.ID)
	x.optional("Label", g.Label)
	x.optional("Description", g.Description)
	for i := range g.Files {
		err := x.file(&g.Files[i])
		if err != nil {
			return err
		}
	}
	x.relations(g.Relations)
	err := x.metadata(g.Metadata)
	x.end("FileGroup")
	return err
}

func (x *writer) file(f *File) error {
	x.begin("File")
	x.attr("encoding", string(f.Encoding))
	x.optionalAttr("extension", f.Extension)
	x.attr("format", f.Format)
	x.raw(">")
	x.id("ID", f.ID)
	x.element("Path", f.Path)
	x.hash(f.Hash)
	if f.Previous != nil {
		x.begin("PreviousHash")
		x.attr("canonicalXML", boolText(f.Previous.Canonical))
		x.attr("hashFunction", f.Previous.Function)
		x.attr("relatedPIndex", f.Previous.Related)
		x.raw(">")
		x.escape(f.Previous.Value)
		x.end("PreviousHash")
	}
	x.relations(f.Relations)
	err := x.metadata(f.Metadata)
	x.end("File")
	return err
}

func (x *writer) hash(h Hash) {
	x.begin("Hash")
	x.attr("canonicalXML", boolText(h.Canonical))
	x.attr("hashFunction", h.Function)
	x.raw(">")
	x.escape(h.Value)
	x.end("Hash")
}

func boolText(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func (x *writer) relations(list []Relation) {
	for _, r := range list {
		x.open("Relation")
		x.element("Type", r.Type)
		for _, v := range r.Values {
			x.element("Value", v)
		}
		x.end("Relation")
	}
}

func (x *writer) metadata(m *Metadata) error {
	if m == nil {
		return nil
	}
	if m.Embedded {
		return ErrEmbedded
	}
	x.begin("MoreInfo")
	x.attr("xmlSchema", m.Schema)
	x.raw(">")
	x.begin("ExternalMetadata")
	x.attr("encoding", string(m.Encoding))
	x.optionalAttr("extension", m.Extension)
	x.attr("format", m.Format)
	x.raw(">")
	x.id("ID", m.ID)
	x.element("Path", m.Path)
	x.hash(m.Hash)
	x.end("ExternalMetadata")
	x.end("MoreInfo")
	return nil
}

func (x *writer) agent(a *Agent) {
	for _, id := range a.IDs {
		x.begin("AgentID")
		x.optionalAttr("expan", id.Expansion)
		x.optionalAttr("nameRegistrationAuthority", id.Authority)
		x.raw(">")
		x.escape(id.Value)
		x.end("AgentID")
	}
	x.open("AgentName")
	if a.FormalName != "" {
		x.element("FormalName", a.FormalName)
	} else {
		x.open("NameAndSurname")
		x.element("FirstName", a.FirstName)
		x.element("LastName", a.LastName)
		x.end("NameAndSurname")
	}
	x.end("AgentName")
	for _, d := range a.Documents {
		x.begin("RelevantDocument")
		x.optionalAttr("docHash", d.Hash)
		x.optionalAttr("hashFunction", d.HashFunction)
		x.optionalAttr("uriDoc", d.URI)
		x.raw(">")
		x.escape(d.Text)
		x.end("RelevantDocument")
	}
}

// timeForm is xs:dateTime with the zone; fractions are written only when there are any.
const timeForm = "2006-01-02T15:04:05.999999999Z07:00"

func (x *writer) process(p *Process) {
	x.open("Process")
	x.begin("Submitter")
	x.attr("agentType", string(p.Submitter.Type))
	x.raw(">")
	x.agent(&p.Submitter)
	x.end("Submitter")
	for i := range p.Holders {
		x.begin("Holder")
		x.attr("agentType", string(p.Holders[i].Type))
		x.attr("holderRole", string(p.Holders[i].Role))
		x.raw(">")
		x.agent(&p.Holders[i].Agent)
		x.end("Holder")
	}
	for i := range p.Signers {
		x.begin("AuthorizedSigner")
		x.attr("agentType", string(p.Signers[i].Type))
		x.optionalAttr("signerRole", p.Signers[i].Role)
		x.raw(">")
		x.agent(&p.Signers[i].Agent)
		x.end("AuthorizedSigner")
	}
	x.timeReference(p)
	x.optional("LawsAndRegulations", p.Laws)
	x.end("Process")
}

func (x *writer) timeReference(p *Process) {
	at := p.Time.In(time.UTC).Format(timeForm)
	x.open("TimeReference")
	if p.TimeStampURI != "" {
		x.begin("TimeStamp")
		x.attr("encoding", string(p.TimeStampEncoding))
		x.attr("format", p.TimeStampFormat)
		x.attr("normal", at)
		x.raw(">")
		x.escape(p.TimeStampURI)
		x.end("TimeStamp")
	} else {
		x.begin("TimeInfo")
		x.attr("attachedTimeStamp", boolText(p.AttachedTimeStamp))
		x.raw(">")
		x.raw(at)
		x.end("TimeInfo")
	}
	x.end("TimeReference")
}
