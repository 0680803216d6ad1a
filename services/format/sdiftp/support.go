package sdiftp

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
)

// Documento is one file inside a support.
type Documento struct {
	Tipo Tipo
	Name string
	Data []byte
}

// TipoOf says what a file inside a support is, by its name: FA for an invoice, a lot or an archive, the two
// letters of a message else. ok is false for names outside the patterns.
func TipoOf(name string) (tipo Tipo, ok bool) {
	m, err := sdi.ParseMessageName(name)
	if err == nil {
		return Tipo(m.Type), true
	}
	_, err = sdi.ParseFileName(name)
	return FA, err == nil
}

// Build makes the ZIP of a support: the documents and their counts, in a fixed order and under a fixed time,
// so that the same documents give the same bytes.
// Errors: no document or too many, a name outside the patterns, a name that is there twice whatever its case.
// spec: SDIFTP-4.3 §3.1
func Build(name Name, created time.Time, docs []Documento) ([]byte, error) {
	err := name.Validate()
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 || len(docs) > MaxDocuments {
		return nil, fmt.Errorf("%w: %d documents, 1 to %d go into a support", ErrTooLarge, len(docs), MaxDocuments)
	}
	docs = slices.Clone(docs)
	slices.SortFunc(docs, func(a, b Documento) int { return cmp.Compare(a.Name, b.Name) })
	seen, counts := map[string]bool{}, map[Tipo]int{}
	for i, d := range docs {
		tipo, ok := TipoOf(d.Name)
		if !ok {
			return nil, fmt.Errorf("%w %q: neither a file nor a message of SdI", ErrName, clip(d.Name, 60))
		}
		if seen[sdi.NameKey(d.Name)] {
			return nil, fmt.Errorf("%w %q: twice in one support", ErrName, d.Name)
		}
		seen[sdi.NameKey(d.Name)] = true
		docs[i].Tipo = tipo
		counts[tipo]++
	}
	q := Quadratura{Nodo: name.Node, Creazione: created, Supporto: name.Support()}
	for tipo, n := range counts {
		q.Numeri = append(q.Numeri, Conteggio{tipo, n})
	}
	count, err := q.Write()
	if err != nil {
		return nil, err
	}
	return pack(append([]Documento{{Name: name.Count(), Data: count}}, docs...), created)
}

func pack(files []Documento, created time.Time) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.Name, Method: zip.Deflate, Modified: created.UTC().Truncate(time.Second)})
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("sdiftp: %s: %w", f.Name, err)
		}
	}
	err := z.Close()
	if err != nil {
		return nil, fmt.Errorf("sdiftp: %w", err)
	}
	return out.Bytes(), nil
}

// Limits of Read. The zero value takes the defaults.
type Limits struct {
	Members int   // files in the ZIP; default 20,001
	Content int64 // bytes of all of them; default 1 GB
	Member  int64 // bytes of one of them; default 30 MB (an attestation carries its invoice)
}

func (l Limits) orDefaults() Limits {
	l.Members = cmp.Or(l.Members, MaxDocuments+1)
	l.Content = cmp.Or(l.Content, 1_000_000_000)
	l.Member = cmp.Or(l.Member, 30_000_000)
	return l
}

// Supporto is what was found in the ZIP of a support. A file that cannot be used is listed with its reason
// and spoils no other.
type Supporto struct {
	Quadratura *Quadratura // nil when there is none, or none that can be read
	Documenti  []Documento
	Scartati   []Scartato
}

// Scartato is a file of a support that was not taken, and why. Data is nil when it could not be had.
type Scartato struct {
	Name   string
	Reason string
	Data   []byte
}

// Read opens the ZIP of the support called name. Errors wrap ErrArchive (not a ZIP, damaged) or ErrTooLarge
// (too many files, or more bytes than the limits once unpacked, whatever the headers say): the support as a
// whole is then of no use.
func Read(name Name, raw []byte, lim Limits) (*Supporto, error) {
	lim = lim.orDefaults()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	if len(z.File) > lim.Members {
		return nil, fmt.Errorf("%w: %d files, at most %d", ErrTooLarge, len(z.File), lim.Members)
	}
	s, left, seen := &Supporto{}, lim.Content, map[string][]byte{}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") && f.UncompressedSize64 == 0 {
			continue
		}
		data, err := unpack(f, min(lim.Member, left))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", clip(f.Name, 60), err)
		}
		left -= int64(len(data))
		s.add(name, f.Name, data, seen)
	}
	return s, nil
}

// unpack reads one file of at most limit bytes; what its header says of its size is not believed.
func unpack(f *zip.File, limit int64) ([]byte, error) {
	rc, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return data, nil
}

func (s *Supporto) add(support Name, name string, data []byte, seen map[string][]byte) {
	refuse := func(format string, args ...any) {
		s.Scartati = append(s.Scartati, Scartato{Name: name, Reason: fmt.Sprintf(format, args...), Data: data})
	}
	key := sdi.NameKey(name)
	before, twice := seen[key]
	switch {
	case twice && bytes.Equal(before, data):
		return // the same file again says nothing new
	case twice:
		refuse("another file of this name is in the support")
		return
	}
	seen[key] = data
	if name == support.Count() {
		q, err := ParseQuadratura(data)
		if err != nil {
			refuse("%v", err)
			return
		}
		s.Quadratura = &q
		return
	}
	tipo, ok := TipoOf(name)
	if !ok {
		refuse("neither a file nor a message of SdI by its name")
		return
	}
	s.Documenti = append(s.Documenti, Documento{Tipo: tipo, Name: name, Data: data})
}

// Differenza is one type whose count is not what was found.
type Differenza struct {
	Tipo                Tipo
	Dichiarati, Trovati int
}

// Differenze compares the counts with the documents found; nil when they agree. Without counts every type
// found is a difference.
func (s *Supporto) Differenze() []Differenza {
	by := map[Tipo]*Differenza{}
	of := func(t Tipo) *Differenza {
		if by[t] == nil {
			by[t] = &Differenza{Tipo: t}
		}
		return by[t]
	}
	if s.Quadratura != nil {
		for _, c := range s.Quadratura.Numeri {
			of(c.Tipo).Dichiarati += c.Numero
		}
	}
	for _, d := range s.Documenti {
		of(d.Tipo).Trovati++
	}
	var out []Differenza
	for _, d := range by {
		if d.Dichiarati != d.Trovati {
			out = append(out, *d)
		}
	}
	slices.SortFunc(out, func(a, b Differenza) int { return strings.Compare(string(a.Tipo), string(b.Tipo)) })
	return out
}
