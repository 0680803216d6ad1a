package sdiftp

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Scarto is an ER file: SdI could not open a support.
type Scarto struct {
	Codice int    // 1: it could not be decrypted; 2: its signature does not hold; 0: the text does not say
	Testo  string // as it came, at most 1000 characters
}

// The two refusals. (Known from the field: the text of the specification gives no schema.)
const (
	ScartoCifratura = 1
	ScartoFirma     = 2
)

// ParseScarto reads an ER file. It is text in no fixed form: the first number that is 1 or 2 is the code.
// It fails only for what is no text at all.
func ParseScarto(raw []byte) (Scarto, error) {
	if len(raw) > maxXML {
		return Scarto{}, fmt.Errorf("%w: a refusal of %d bytes, at most %d", ErrTooLarge, len(raw), maxXML)
	}
	if !utf8.Valid(raw) || bytes.ContainsRune(raw, 0) {
		return Scarto{}, fmt.Errorf("%w: a refusal is text", ErrReport)
	}
	s := Scarto{Testo: strings.TrimSpace(string(raw))}
	if r := []rune(s.Testo); len(r) > 1000 {
		s.Testo = string(r[:1000])
	}
	words := strings.FieldsFunc(string(raw), func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '.'
	})
	for _, word := range words {
		n, err := strconv.Atoi(word)
		if err == nil && (n == ScartoCifratura || n == ScartoFirma) {
			s.Codice = n
			break
		}
	}
	return s, nil
}

// Write gives the text of a refusal.
func (s Scarto) Write() []byte {
	return []byte(strconv.Itoa(s.Codice) + " " + s.Testo + "\n")
}

// Riga is one support in a daily report.
type Riga struct {
	Supporto Name
	Campi    map[string]string // the other fields by the names of the header (column_2 and so on without one)
}

// Rendiconto is an ST file: the supports that SdI took (FI) or sent (FO) in the last days.
type Rendiconto struct {
	Colonne  []string
	Righe    []Riga
	Scartate []string // lines without the name of a support, the header apart
}

const (
	maxReport = 32 << 20
	maxLines  = 200_000
)

// ParseRendiconto reads an ST file. Its columns are nowhere specified, so it is read by what must be in it:
// each line names one support; fields are parted by semicolons, commas or tabs, whichever the first line
// has. Errors wrap ErrReport or ErrTooLarge.
func ParseRendiconto(raw []byte) (*Rendiconto, error) {
	if len(raw) > maxReport {
		return nil, fmt.Errorf("%w: a report of %d bytes, at most %d", ErrTooLarge, len(raw), maxReport)
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	first, _, _ := bytes.Cut(raw, []byte("\n"))
	r := csv.NewReader(bytes.NewReader(raw))
	r.FieldsPerRecord, r.LazyQuotes, r.ReuseRecord = -1, true, true
	r.Comma = ';'
	if !bytes.ContainsRune(first, ';') {
		r.Comma = ','
		if bytes.ContainsRune(first, '\t') {
			r.Comma = '\t'
		}
	}
	out := &Rendiconto{}
	for line := 0; ; line++ {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReport, err)
		}
		if line >= maxLines {
			return nil, fmt.Errorf("%w: more than %d lines", ErrTooLarge, maxLines)
		}
		out.add(line, record)
	}
}

func (r *Rendiconto) add(line int, record []string) {
	at, name := -1, Name{}
	for i, field := range record {
		n, err := ParseName(strings.TrimSpace(field))
		if err == nil && (n.Kind == FI || n.Kind == FO) {
			at, name = i, n
			break
		}
	}
	switch {
	case at < 0 && line == 0:
		for _, field := range record {
			r.Colonne = append(r.Colonne, strings.Clone(strings.TrimSpace(field)))
		}
		return
	case at < 0:
		if text := strings.TrimSpace(strings.Join(record, " ")); text != "" {
			r.Scartate = append(r.Scartate, clip(text, 200))
		}
		return
	}
	row := Riga{Supporto: name, Campi: map[string]string{}}
	for i, field := range record {
		column := fmt.Sprintf("column_%d", i+1)
		if i < len(r.Colonne) && r.Colonne[i] != "" {
			column = r.Colonne[i]
		}
		if i != at {
			row.Campi[column] = strings.Clone(strings.TrimSpace(field))
		}
	}
	r.Righe = append(r.Righe, row)
}

// Voce is one line of a report to be written.
type Voce struct {
	Supporto  Name
	At        time.Time
	Documenti int
	Esito     string
}

// WriteRendiconto gives the text of an ST file in this package's own columns; readers must not count on them.
func WriteRendiconto(rows []Voce) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	w.Comma, w.UseCRLF = ';', true
	records := [][]string{{"NomeSupporto", "DataOra", "NumeroFile", "Esito"}}
	for _, v := range rows {
		records = append(records, []string{v.Supporto.String(), stamp(v.At), strconv.Itoa(v.Documenti), v.Esito})
	}
	err := w.WriteAll(records)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	return out.Bytes(), nil
}
