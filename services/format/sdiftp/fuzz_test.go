package sdiftp_test

import (
	"testing"

	"ceralacca.dev/services/format/sdiftp"
)

// FuzzParseName: what is read is written the same.
func FuzzParseName(f *testing.F) {
	for _, s := range []string{"FI.01234567897.2026326.0905.007.zip", "FO.01234567897.2026001.0000.001.zip.p7m.enc", "EO.01234567897.2026013.1006.984.xml.run", "ER.01234567897.2026013.1006.984.run", "ST.01234567897.FI.2026013.0700.csv.run"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := sdiftp.ParseName(s)
		if err == nil && n.String() != s {
			t.Fatalf("%q reads as %q", s, n.String())
		}
	})
}

// FuzzParseEsito and the next: what is read can be written and reads the same again.
func FuzzParseEsito(f *testing.F) {
	raw, err := sdiftp.Esito{Nodo: node, Ricezione: moment, DataEsito: moment, Supporto: support.Support(), Esito: sdiftp.ET01}.Write()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := sdiftp.ParseEsito(raw)
		if err != nil || e.Nodo != node {
			return
		}
		out, err := e.Write()
		if err != nil {
			t.Fatal(err)
		}
		again, err := sdiftp.ParseEsito(out)
		if err != nil || again.Esito != e.Esito || again.Supporto != e.Supporto {
			t.Fatalf("%+v reads as %+v: %v", e, again, err)
		}
	})
}

func FuzzParseQuadratura(f *testing.F) {
	raw, err := sdiftp.Quadratura{Nodo: node, Creazione: moment, Supporto: support.Support(), Numeri: []sdiftp.Conteggio{{Tipo: sdiftp.FA, Numero: 1}}}.Write()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := sdiftp.ParseQuadratura(raw)
		if err != nil {
			return
		}
		for _, c := range q.Numeri {
			if len(c.Tipo) != 2 || c.Numero < 0 {
				t.Fatalf("count %+v", c)
			}
		}
	})
}

// FuzzRead: no archive gives more than the limits, and every document has a name of the patterns.
func FuzzRead(f *testing.F) {
	raw, err := sdiftp.Build(support, moment, documents(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(zipped(f, [2]string{"../x", "y"}, [2]string{support.Count(), "<a/>"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := sdiftp.Read(support, raw, sdiftp.Limits{Members: 10, Content: 10_000, Member: 5_000})
		if err != nil {
			return
		}
		total := 0
		for _, d := range s.Documenti {
			if _, ok := sdiftp.TipoOf(d.Name); !ok {
				t.Fatalf("document %q", d.Name)
			}
			total += len(d.Data)
		}
		if len(s.Documenti) > 10 || total > 10_000 {
			t.Fatalf("%d documents of %d bytes", len(s.Documenti), total)
		}
	})
}

// FuzzParseReports: text of any kind gives rows that name supports, or an error.
func FuzzParseReports(f *testing.F) {
	raw, err := sdiftp.WriteRendiconto([]sdiftp.Voce{{Supporto: support, At: moment, Documenti: 2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("1 errore di decifratura"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := sdiftp.ParseRendiconto(raw)
		if err == nil {
			for _, row := range r.Righe {
				if row.Supporto.Validate() != nil {
					t.Fatalf("row of %v", row.Supporto)
				}
			}
		}
		s, err := sdiftp.ParseScarto(raw)
		if err == nil && (s.Codice < 0 || s.Codice > 2) {
			t.Fatalf("code %d", s.Codice)
		}
	})
}
