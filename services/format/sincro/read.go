package sincro

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrIdC2010: the document is an index of the 2010 edition (root IdC, another namespace).
var ErrIdC2010 = errors.New("sincro: this is an IdC of UNI 11386:2010, not a PIndex of 2020")

// SyntaxError is an index that cannot be read, with the line where.
type SyntaxError struct {
	Line   int
	Reason string
	Err    error // of the XML reader, when it was its
}

func (e *SyntaxError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("sincro: line %d: %s: %v", e.Line, e.Reason, e.Err)
	}
	return fmt.Sprintf("sincro: line %d: %s", e.Line, e.Reason)
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// Read reads a PIndex of the 2020 edition, giving visit each file group in order. Memory holds one
// group at a time. The rules of the schema that Write obeys are checked here too.
//
// Errors: *SyntaxError (not XML, a DTD, an element out of place, text after the root), *FieldError
// (a rule broken), ErrIdC2010, an error of r or of visit.
func Read(r io.Reader, visit func(FileGroup) error) (Index, error) {
	d := &reader{Decoder: xml.NewDecoder(r)}
	var ix Index
	err := d.root(&ix)
	if err != nil {
		return Index{}, err
	}
	var self xmlSelf
	err = d.next("SelfDescription", &self)
	if err != nil {
		return Index{}, err
	}
	self.into(&ix)
	var volume xmlVolume
	err = d.next("PVolume", &volume)
	if err != nil {
		return Index{}, err
	}
	ix.Volume = volume.volume()
	err = d.groups(&ix, visit)
	if err != nil {
		return Index{}, err
	}
	err = d.finish()
	if err != nil {
		return Index{}, err
	}
	var c checker
	c.head(&ix)
	return ix, c.err
}

type reader struct{ *xml.Decoder }

func (d *reader) fail(err error, format string, a ...any) error {
	line, _ := d.InputPos()
	return &SyntaxError{Line: line, Reason: fmt.Sprintf(format, a...), Err: err}
}

// token gives the next start or end element. A DTD is refused: an index has no use for one, and
// entities are how XML is turned against its reader.
func (d *reader) token() (xml.Token, error) {
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil, d.fail(io.ErrUnexpectedEOF, "the document ends too soon")
		}
		if err != nil {
			return nil, d.fail(err, "not well formed")
		}
		switch t := tok.(type) {
		case xml.StartElement, xml.EndElement:
			return t, nil
		case xml.Directive:
			return nil, d.fail(nil, "a DTD is not accepted")
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return nil, d.fail(nil, "text where only elements may be")
			}
		}
	}
}

func (d *reader) root(ix *Index) error {
	tok, err := d.token()
	if err != nil {
		return err
	}
	start, ok := tok.(xml.StartElement)
	if !ok {
		return d.fail(nil, "no root element")
	}
	if start.Name.Local == "IdC" {
		return ErrIdC2010
	}
	if start.Name != (xml.Name{Space: Namespace, Local: "PIndex"}) {
		return d.fail(nil, "root is {%s}%s, not {%s}PIndex", start.Name.Space, start.Name.Local, Namespace)
	}
	attrs := map[string]string{}
	for _, a := range start.Attr {
		if a.Name.Space == Namespace {
			attrs[a.Name.Local] = a.Value
		}
	}
	ix.Language = attrs["language"]
	if attrs["uri"] != SchemaURI {
		return &FieldError{"PIndex@uri", fmt.Sprintf("is %q, the standard fixes %q", attrs["uri"], SchemaURI)}
	}
	if attrs["sincroVersion"] != Version {
		return &FieldError{"PIndex@sincroVersion", fmt.Sprintf("is %q, the standard fixes %q", attrs["sincroVersion"], Version)}
	}
	return nil
}

// next decodes the next element, which must be name.
func (d *reader) next(name string, into any) error {
	tok, err := d.token()
	if err != nil {
		return err
	}
	start, ok := tok.(xml.StartElement)
	if !ok || start.Name != (xml.Name{Space: Namespace, Local: name}) {
		return d.fail(nil, "%s is expected here", name)
	}
	return d.decode(&start, into)
}

func (d *reader) decode(start *xml.StartElement, into any) error {
	err := d.DecodeElement(into, start)
	if err != nil {
		return d.fail(err, "element %s", start.Name.Local)
	}
	return nil
}

// groups reads FileGroup+ and then Process.
func (d *reader) groups(ix *Index, visit func(FileGroup) error) error {
	for count := 0; ; count++ {
		tok, err := d.token()
		if err != nil {
			return err
		}
		start, ok := tok.(xml.StartElement)
		switch {
		case ok && start.Name == xml.Name{Space: Namespace, Local: "FileGroup"}:
			var raw xmlGroup
			err = d.decode(&start, &raw)
			if err != nil {
				return err
			}
			g := raw.group()
			var c checker
			c.group(&g)
			if c.err != nil {
				return c.err
			}
			err = visit(g)
			if err != nil {
				return err
			}
		case ok && count > 0 && start.Name == xml.Name{Space: Namespace, Local: "Process"}:
			var raw xmlProcess
			err = d.decode(&start, &raw)
			if err != nil {
				return err
			}
			ix.Process, err = raw.process()
			return err
		case count == 0:
			return d.fail(nil, "FileGroup is expected here")
		default:
			return d.fail(nil, "FileGroup or Process is expected here")
		}
	}
}

// finish wants the end of the root and then nothing.
func (d *reader) finish() error {
	tok, err := d.token()
	if err != nil {
		return err
	}
	if _, ok := tok.(xml.EndElement); !ok {
		return d.fail(nil, "the end of PIndex is expected here")
	}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return d.fail(err, "after the end of PIndex")
		}
		switch t := tok.(type) {
		case xml.Comment, xml.ProcInst:
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return d.fail(nil, "text after the end of PIndex")
			}
		default:
			return d.fail(nil, "something follows the end of PIndex")
		}
	}
}

// parseTime reads xs:dateTime; one without a zone is taken as UTC, as the schema allows it.
func parseTime(s string) (time.Time, error) {
	s = strings.TrimSpace(s)
	t, err := time.Parse(time.RFC3339Nano, s)
	if err == nil {
		return t.UTC(), nil
	}
	t, err = time.Parse("2006-01-02T15:04:05.999999999", s)
	if err != nil {
		return time.Time{}, &FieldError{"Process.TimeReference", fmt.Sprintf("%q is not a date and time", s)}
	}
	return t, nil
}
