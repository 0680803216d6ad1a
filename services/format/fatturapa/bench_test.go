package fatturapa_test

import (
	"fmt"
	"testing"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// tenKB gives distinct invoices of about 10 kB.
func tenKB(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fatturapatest.Invoice(fatturapatest.Options{Size: 10_000, Numero: fmt.Sprint(i + 1), Progressivo: fmt.Sprintf("%05d", i)})
	}
	return out
}

func BenchmarkParse(b *testing.B) {
	docs := tenKB(64)
	b.SetBytes(int64(len(docs[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := fatturapa.Parse(docs[i%len(docs)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStructure(b *testing.B) {
	f, err := fatturapa.Parse(tenKB(1)[0])
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(f.Size()))
	b.ReportAllocs()
	for b.Loop() {
		if r, err := fatturapa.CheckStructure(f, fatturapa.StructureOptions{}); err != nil || !r.Valid() {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAndCheck(b *testing.B) {
	docs := tenKB(64)
	b.SetBytes(int64(len(docs[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		f, err := fatturapa.Parse(docs[i%len(docs)])
		if err != nil {
			b.Fatal(err)
		}
		if r := fatturapa.Check(f, fatturapa.Options{}); len(r.Findings) != 0 {
			b.Fatal(r.Findings)
		}
	}
}

func BenchmarkTenThousandLines(b *testing.B) {
	doc := fatturapatest.Invoice(fatturapatest.Options{Lines: 10_000})
	b.SetBytes(int64(len(doc)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := fatturapa.Parse(doc)
		if err != nil {
			b.Fatal(err)
		}
		if r := fatturapa.Check(f, fatturapa.Options{}); len(r.Findings) != 0 {
			b.Fatal(r.Findings)
		}
	}
}
