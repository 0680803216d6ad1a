package fatturapa_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// paths that the table below uses often
const (
	hdr = "FatturaElettronicaHeader/"
	gen = "FatturaElettronicaBody/DatiGenerali/DatiGeneraliDocumento/"
	lin = "FatturaElettronicaBody/DatiBeniServizi/DettaglioLinee/"
	rie = "FatturaElettronicaBody/DatiBeniServizi/DatiRiepilogo/"
)

// edit is one change to a document.
type edit func(t *testing.T, root *tnode)

func set(path, text string) edit {
	return func(t *testing.T, root *tnode) {
		n := root.find(path)
		require.NotNil(t, n, path)
		n.set(text)
	}
}

// el builds an element: el("Natura", "N1") or el("A", el("B", "x")).
func el(name string, kids ...any) *tnode {
	n := &tnode{name: name}
	for _, k := range kids {
		switch k := k.(type) {
		case string:
			n.kids = append(n.kids, &tnode{text: k})
		case *tnode:
			n.kids = append(n.kids, k)
		}
	}
	return n
}

// after inserts elements behind the one at path.
func after(path string, add ...*tnode) edit {
	return func(t *testing.T, root *tnode) {
		target := root.find(path)
		require.NotNil(t, target, path)
		done := false
		root.all(nil, func(n, _ *tnode) {
			if i := slices.Index(n.kids, target); i >= 0 && !done {
				n.kids = slices.Insert(n.kids, i+1, add...)
				done = true
			}
		})
	}
}

func line(number, price, total, rate string, more ...*tnode) *tnode {
	l := el("DettaglioLinee", el("NumeroLinea", number), el("Descrizione", "prova"), el("PrezzoUnitario", price))
	rest := []*tnode{el("PrezzoTotale", total), el("AliquotaIVA", rate)}
	for _, m := range more {
		if m.name == "ScontoMaggiorazione" {
			l.kids = append(l.kids, m)
		} else {
			rest = append(rest, m)
		}
	}
	l.kids = append(l.kids, rest...)
	return l
}

func summary(rate, nature, taxable, tax string) *tnode {
	s := el("DatiRiepilogo", el("AliquotaIVA", rate))
	if nature != "" {
		s.kids = append(s.kids, el("Natura", nature))
	}
	s.kids = append(s.kids, el("ImponibileImporto", taxable), el("Imposta", tax))
	return s
}

// only replaces lines and summaries of an ordinary invoice.
func only(kids ...*tnode) edit {
	return func(t *testing.T, root *tnode) {
		root.find("FatturaElettronicaBody/DatiBeniServizi").kids = kids
	}
}

func fund(rate, amount string, more ...*tnode) edit {
	k := el("DatiCassaPrevidenziale", el("TipoCassa", "TC01"), el("AlCassa", "4.00"), el("ImportoContributoCassa", amount), el("AliquotaIVA", rate))
	k.kids = append(k.kids, more...)
	return after(gen+"Numero", k)
}

func withholding() edit {
	return after(gen+"Numero", el("DatiRitenuta", el("TipoRitenuta", "RT01"), el("ImportoRitenuta", "1.00"), el("AliquotaRitenuta", "20.00"), el("CausalePagamento", "A")))
}

func sc(kind string, kids ...*tnode) *tnode {
	n := el("ScontoMaggiorazione", el("Tipo", kind))
	n.kids = append(n.kids, kids...)
	return n
}

func selfBilled(tipo, country string) fatturapatest.Options {
	return fatturapatest.Options{TipoDocumento: tipo, Cedente: fatturapatest.Party{Paese: country, Codice: "129273398", Denominazione: "Siegelwerk"}}
}

var (
	us       = fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(5), Denominazione: "Noi"}
	usMember = fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(5), CodiceFiscale: fatturapatest.VATNumber(6), Denominazione: "Noi"}
	them     = fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(5), CodiceFiscale: fatturapatest.VATNumber(8), Denominazione: "Loro"}
	onlyCode = fatturapatest.Party{CodiceFiscale: fatturapatest.VATNumber(5), Denominazione: "Noi"}
	person   = fatturapatest.Party{CodiceFiscale: "BNCLRA80A41G224F", Denominazione: "Lara"}
	nobody   = fatturapatest.Party{Denominazione: "Nessuno"}
	german   = fatturapatest.Party{Paese: "DE", Codice: "129273398", Denominazione: "Siegelwerk"}
)

func parties(tipo string, seller, buyer fatturapatest.Party) fatturapatest.Options {
	return fatturapatest.Options{TipoDocumento: tipo, Cedente: seller, Cessionario: buyer}
}

// ruleCase is a document and all that must be found in it: "code severity".
type ruleCase struct {
	name  string
	opts  fatturapatest.Options
	edits []edit
	check fatturapa.Options
	want  []string
}

// runRules also freezes what a finding says besides its code: the place in XML and
// JSON, the values and the clause, in testdata/rules.
func runRules(t *testing.T, cases []ruleCase) {
	var said strings.Builder
	defer func() { rulesGolden(t, said.String()) }()
	for _, c := range cases {
		fmt.Fprintf(&said, "%s\n", c.name)
		t.Run(c.name, func(t *testing.T) {
			root := readTree(t, fatturapatest.Invoice(c.opts))
			for _, e := range c.edits {
				e(t, root)
			}
			f, err := fatturapa.Parse(root.bytes())
			require.NoError(t, err)
			r := fatturapa.Check(f, c.check)
			got := []string{}
			for _, x := range r.Findings {
				got = append(got, x.Code+" "+string(x.Severity))
				fmt.Fprintf(&said, "  %s %s line %d\n    %s\n    %s\n    actual %q expected %q\n    trovato %q atteso %q\n    %s\n",
					x.Code, x.Severity, x.Line, x.XPath, x.JSONPath, x.Actual, x.Expected, x.ActualIn("it"), x.ExpectedIn("it"), x.Clause)
				oneLanguage(t, &x)
				require.NotEmpty(t, x.Message.IT)
				require.NotEmpty(t, x.Message.EN)
				require.NotEmpty(t, x.Hint.In("it"))
				require.NotEmpty(t, x.Hint.In("en"))
				require.NotEmpty(t, x.Clause)
				require.True(t, strings.HasPrefix(x.XPath, "/FatturaElettronica"), x.XPath)
				require.True(t, strings.HasPrefix(x.JSONPath, "$"), x.JSONPath)
				require.Positive(t, x.Line)
				require.Equal(t, x.Severity == fatturapa.SeverityWarning && strings.Contains(x.Clause, "disputed"), strings.Contains(x.Clause, "disputed"))
			}
			want := append([]string{}, c.want...)
			require.ElementsMatch(t, want, got, "%+v", r.Findings)
			require.Equal(t, !slices.ContainsFunc(want, func(s string) bool { return strings.HasSuffix(s, "error") }), r.Valid())
		})
	}
}

func rulesGolden(t *testing.T, got string) {
	path := "testdata/rules/" + t.Name() + ".golden"
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestFixturesPassEveryRule(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.xml")
	require.NoError(t, err)
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		f, err := fatturapa.Parse(raw)
		require.NoError(t, err)
		r := fatturapa.Check(f, fatturapa.Options{FileName: "IT01234567890_00001.xml"})
		require.Empty(t, r.Findings, p)
		require.Equal(t, "1.9.1", r.RulePack)
		require.NotEmpty(t, r.NeedsAuthority)
		require.True(t, r.Valid())
	}
}

func TestRulesOfTheFile(t *testing.T) {
	name := func(s string) fatturapa.Options { return fatturapa.Options{FileName: s} }
	used := fatturapa.Options{FileName: "IT01234567890_00001.xml", Ledger: fatturapa.Ledger{FileNameUsed: func(s string) bool { return s == "IT01234567890_00001.xml" }}}
	pa := fatturapatest.Options{Formato: "FPA12"}
	foreign := fatturapatest.Options{CodiceDestinatario: "XXXXXXX", Cessionario: german}
	runRules(t, []ruleCase{
		{name: "00001 ok p7m", check: name("IT01234567890_a1B2c.xml.p7m")},
		{name: "00001 ok foreign", check: name("DE12_1.zip")},
		{name: "00001 no progressive", check: name("IT01234567890.xml"), want: []string{"00001 error"}},
		{name: "00001 long progressive", check: name("IT01234567890_000001.xml"), want: []string{"00001 error"}},
		{name: "00001 short id", check: name("IT0123456789_00001.xml"), want: []string{"00001 error"}},
		{name: "00001 extension", check: name("IT01234567890_00001.pdf"), want: []string{"00001 error"}},
		{name: "00001 character", check: name("IT01234567890_00-01.xml"), want: []string{"00001 error"}},
		{name: "00001 country", check: name("it01234567890_00001.xml"), want: []string{"00001 error"}},
		{name: "00002 used", check: used, want: []string{"00002 error"}},
		{name: "00002 new", check: fatturapa.Options{FileName: "IT01234567890_00002.xml", Ledger: used.Ledger}},
		{name: "00427 FPA12 with 7", opts: pa, edits: []edit{set(hdr+"DatiTrasmissione/CodiceDestinatario", "0000000")}, want: []string{"00427 error"}},
		{name: "00427 FPR12 with 6", edits: []edit{set(hdr+"DatiTrasmissione/CodiceDestinatario", "UFABC1")}, want: []string{"00427 error"}},
		{name: "00428", opts: pa, edits: []edit{func(_ *testing.T, r *tnode) { r.attrs[0].Value = "FPR12" }}, want: []string{"00428 error"}},
		{name: "00313 ok", opts: foreign},
		{name: "00313 italian buyer", opts: fatturapatest.Options{CodiceDestinatario: "XXXXXXX"}, want: []string{"00313 error"}},
		{name: "00313 no VAT number", opts: fatturapatest.Options{CodiceDestinatario: "XXXXXXX", Cessionario: person}, want: []string{"00313 error"}},
		{name: "00330", opts: fatturapatest.Options{PECDestinatario: "sdi05@pec.fatturapa.it"}, want: []string{"00330 error"}},
		{name: "00330 capitals", opts: fatturapatest.Options{PECDestinatario: "SDI48@PEC.fatturapa.it"}, want: []string{"00330 error"}},
		{name: "00330 other box", opts: fatturapatest.Options{PECDestinatario: "sdi.rossi@pec.fatturapa.it"}},
		{name: "00330 other domain", opts: fatturapatest.Options{PECDestinatario: "sdi05@pec.example.it"}},
	})
}

func TestRulesOfTheParties(t *testing.T) {
	cases := []ruleCase{
		{name: "00417", opts: parties("", us, nobody), want: []string{"00417 error"}},
		{name: "00417 only code", opts: parties("", us, person)},
		{name: "00417 simplified", opts: fatturapatest.Options{Formato: "FSM10", Cessionario: nobody}, want: []string{"00417 error"}},
		{name: "00471 TD20 same", opts: parties("TD20", us, us), want: []string{"00471 error"}},
		{name: "00471 TD01 same", opts: parties("TD01", us, us), want: []string{"00471 warning"}},
		{name: "00471 TD24 same", opts: parties("TD24", us, us), want: []string{"00471 warning"}},
		{name: "00471 TD01 code of the seller", opts: parties("TD01", us, onlyCode), want: []string{"00471 warning"}},
		{name: "00471 group members", opts: parties("TD01", usMember, them), want: []string{"00471 warning"}},
		{name: "00471 TD04 same is allowed", opts: parties("TD04", us, us)},
		{name: "00471 TD26 same is allowed", opts: parties("TD26", us, us)},
		{name: "00471 TD29 different", opts: parties("TD29", us, fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(9), Denominazione: "x"})},
		{name: "00471 TD07 same", opts: fatturapatest.Options{Formato: "FSM10", Cedente: us, Cessionario: us}, want: []string{"00471 error"}},
		{name: "00472 TD21 same", opts: parties("TD21", us, us)},
		{name: "00472 TD21 different", opts: parties("TD21", us, german), want: []string{"00472 error"}},
		{name: "00472 TD27 different", opts: parties("TD27", us, german), want: []string{"00472 warning"}},
		{name: "00472 TD27 same", opts: parties("TD27", us, us)},
		{name: "00472 TD21 only a code", opts: parties("TD21", us, person), want: []string{"00472 warning"}},
		{name: "00473 TD29 abroad", opts: selfBilled("TD29", "DE"), want: []string{"00473 error"}},
		{name: "00476", opts: parties("TD01", german, german), want: []string{"00476 error", "00471 warning"}},
		{name: "00476 no VAT number of the buyer", opts: parties("TD01", german, person)},
		{name: "00476 simplified", opts: fatturapatest.Options{Formato: "FSM10", Cedente: german, Cessionario: fatturapatest.Party{Paese: "FR", Codice: "12345678901", Denominazione: "x"}}, want: []string{"00476 error"}},
	}
	for _, tipo := range []string{"TD17", "TD18", "TD19", "TD28"} {
		cases = append(cases, ruleCase{name: "00473 " + tipo + " IT", opts: fatturapatest.Options{TipoDocumento: tipo}, want: []string{"00473 error"}},
			ruleCase{name: "00473 " + tipo + " OO", opts: selfBilled(tipo, "OO")})
	}
	for _, tipo := range []string{"TD16", "TD17", "TD18", "TD19", "TD20", "TD22", "TD23", "TD28", "TD29"} {
		o := selfBilled(tipo, "DE")
		if tipo == "TD29" {
			o.Cedente = us
		}
		o.Cessionario = person
		cases = append(cases, ruleCase{name: "00475 " + tipo, opts: o, want: []string{"00475 error"}})
	}
	runRules(t, cases)
}

func TestRulesOfTheDocument(t *testing.T) {
	at := func(s string) fatturapa.Options {
		v, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return fatturapa.Options{At: v}
	}
	linked := func(tipo, date string) fatturapatest.Options {
		return fatturapatest.Options{TipoDocumento: tipo, Data: "2026-03-16", Collegata: date}
	}
	linkedFSM := func(tipo, date string) fatturapatest.Options {
		o := linked(tipo, date)
		o.Formato = "FSM10"
		return o
	}
	fsm := func(regime string, amounts ...string) ruleCase {
		o := fatturapatest.Options{Formato: "FSM10", Lines: len(amounts), Cedente: fatturapatest.Party{Paese: "IT", Codice: us.Codice, Denominazione: "x", RegimeFiscale: regime}}
		c := ruleCase{name: "00460 " + regime + " " + strings.Join(amounts, "+"), opts: o}
		for i, a := range amounts {
			c.edits = append(c.edits, set(fmt.Sprintf("FatturaElettronicaBody/DatiBeniServizi[%d]/Importo", i+1), a))
		}
		return c
	}
	over := fsm("RF01", "400.00", "0.01")
	over.want = []string{"00460 error"}
	old := fsm("RF19", "400.01")
	old.name, old.want, old.check = "00460 RF19 before 1.9", []string{"00460 error"}, at("2025-03-31T10:00:00Z")
	old.opts.Data = "2025-03-30"
	correction := over
	correction.name, correction.want = "00460 correction", nil
	correction.opts.Collegata = "2026-01-01"
	runRules(t, []ruleCase{
		{name: "00403 tomorrow", check: at("2026-03-15T12:00:00Z"), want: []string{"00403 error"}},
		{name: "00403 today", check: at("2026-03-16T12:00:00Z")},
		{name: "00403 it is already tomorrow in Rome", check: at("2026-03-15T23:30:00Z")},
		{name: "00403 no clock"},
		{name: "00411", edits: []edit{after(lin+"AliquotaIVA", el("Ritenuta", "SI"))}, want: []string{"00411 error"}},
		{name: "00411 ok", edits: []edit{withholding(), after(lin+"AliquotaIVA", el("Ritenuta", "SI"))}},
		{name: "00413", edits: []edit{fund("0.00", "4.00"), after("FatturaElettronicaBody/DatiBeniServizi/DatiRiepilogo", summary("0.00", "N4", "4.00", "0.00"))},
			want: []string{"00413 error", "00444 warning"}},
		{name: "00413 ok", edits: []edit{fund("0.00", "4.00", el("Natura", "N4")), after("FatturaElettronicaBody/DatiBeniServizi/DatiRiepilogo", summary("0.00", "N4", "4.00", "0.00"))}},
		{name: "00414", opts: fatturapatest.Options{TipoDocumento: "TD16"}, edits: []edit{fund("22.00", "0.00", el("Natura", "N4"))}, want: []string{"00414 error", "00444 error"}},
		{name: "00415", edits: []edit{fund("22.00", "0.00", el("Ritenuta", "SI"))}, want: []string{"00415 error"}},
		{name: "00415 ok", edits: []edit{fund("22.00", "0.00", el("Ritenuta", "SI")), withholding()}},
		{name: "00418 TD04", opts: linked("TD04", "2026-03-17"), want: []string{"00418 error"}},
		{name: "00418 TD04 same day", opts: linked("TD04", "2026-03-16")},
		{name: "00418 TD01", opts: linked("TD01", "2026-03-17"), want: []string{"00418 warning"}},
		{name: "00418 TD08", opts: linkedFSM("TD08", "2026-03-17"), want: []string{"00418 error"}},
		{name: "00418 TD08 same day", opts: linkedFSM("TD08", "2026-03-16")},
		{name: "00418 TD09", opts: linkedFSM("TD09", "2026-03-17"), want: []string{"00418 warning"}},
		{name: "00425", opts: fatturapatest.Options{Numero: "UNO/A"}, want: []string{"00425 error"}},
		{name: "00425 simplified", opts: fatturapatest.Options{Formato: "FSM10", Numero: "UNO"}, want: []string{"00425 error"}},
		{name: "00437", edits: []edit{after(gen+"Numero", sc("SC"))}, want: []string{"00437 error"}},
		{name: "00437 ok", edits: []edit{after(gen+"Numero", sc("SC", el("Importo", "1.00")), sc("MG", el("Percentuale", "1.00")))}},
		fsm("RF01", "400.00"), fsm("RF01", "399.99", "0.01"), over, fsm("RF19", "400.01"), fsm("RF20", "900.00"), old, correction,
	})
}

func TestRulesOfTheLines(t *testing.T) {
	n1 := el("Natura", "N1")
	zero := func(lines ...*tnode) edit { return only(append(lines, summary("0.00", "N1", "10.00", "0.00"))...) }
	intent := func(text string) edit {
		return only(line("1", "10.00", "10.00", "0.00", el("Natura", "N3.5"), el("AltriDatiGestionali", el("TipoDato", "INTENTO"), el("RiferimentoTesto", text))),
			summary("0.00", "N3.5", "10.00", "0.00"))
	}
	old := fatturapatest.Options{Data: "2020-12-31"}
	td16 := selfBilled("TD16", "DE")
	fsmRate := func(kids ...*tnode) edit {
		return func(_ *testing.T, r *tnode) { r.find("FatturaElettronicaBody/DatiBeniServizi/DatiIVA").kids = kids }
	}
	fsm := fatturapatest.Options{Formato: "FSM10"}
	runRules(t, []ruleCase{
		{name: "00400", edits: []edit{zero(line("1", "10.00", "10.00", "0.00"))}, want: []string{"00400 error", "00444 warning"}},
		{name: "00400 ok", edits: []edit{zero(line("1", "10.00", "10.00", "0.00", n1))}},
		{name: "00400 simplified", opts: fsm, edits: []edit{fsmRate(el("Aliquota", "0.00"))}, want: []string{"00400 error"}},
		{name: "00400 simplified, only tax", opts: fsm, edits: []edit{fsmRate(el("Imposta", "3.00"))}},
		{name: "00401", edits: []edit{only(line("1", "10.00", "10.00", "22.00", n1), summary("22.00", "", "10.00", "2.20"), summary("0.00", "N1", "0.00", "0.00"))},
			want: []string{"00401 error", "00443 warning"}},
		{name: "00401 TD16", opts: td16, edits: []edit{only(line("1", "10.00", "10.00", "22.00", el("Natura", "N6.3")), summary("22.00", "N6.3", "10.00", "2.20"))},
			want: []string{"00401 warning", "00430 warning"}},
		{name: "00401 simplified", opts: fsm, edits: []edit{after("FatturaElettronicaBody/DatiBeniServizi/DatiIVA", n1)}, want: []string{"00401 error"}},
		{name: "00424 line", edits: []edit{only(line("1", "10.00", "10.00", "0.22"), summary("0.22", "", "10.00", "0.02"))}, want: []string{"00424 error", "00424 error"}},
		{name: "00424 at 1.00", edits: []edit{only(line("1", "10.00", "10.00", "1.00"), summary("1.00", "", "10.00", "0.10"))}},
		{name: "00424 at 0.99", edits: []edit{only(line("1", "10.00", "10.00", "0.99"), summary("0.99", "", "10.00", "0.10"))}, want: []string{"00424 error", "00424 error"}},
		{name: "00424 fund", edits: []edit{only(line("1", "10.00", "10.00", "0.00", n1), summary("0.00", "N1", "10.00", "0.00"), summary("4.00", "", "0.00", "0.00")), fund("0.04", "0.00")},
			want: []string{"00424 error", "00443 error", "00443 warning", "00419 warning"}},
		{name: "00424 simplified", opts: fsm, edits: []edit{fsmRate(el("Aliquota", "0.22"))}, want: []string{"00424 error"}},
		{name: "00438", edits: []edit{only(line("1", "10.00", "10.00", "22.00", sc("SC")), summary("22.00", "", "10.00", "2.20"))}, want: []string{"00438 error"}},
		{name: "00445 line and summary", edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N2")), summary("0.00", "N2", "10.00", "0.00"))}, want: []string{"00445 error", "00445 error"}},
		{name: "00445 before 2021", opts: old, edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N6")), summary("0.00", "N6", "10.00", "0.00"))}},
		{name: "00445 before 2021, rules of then", opts: old, check: fatturapa.Options{At: time.Date(2020, 12, 31, 12, 0, 0, 0, time.UTC)},
			edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N3")), summary("0.00", "N3", "10.00", "0.00"))}},
		{name: "00445 simplified", opts: fsm, edits: []edit{fsmRate(el("Aliquota", "0.00")), after("FatturaElettronicaBody/DatiBeniServizi/DatiIVA", el("Natura", "N3"))}, want: []string{"00445 error"}},
		{name: "00474", opts: parties("TD21", us, us), edits: []edit{zero(line("1", "10.00", "10.00", "0.00", n1))}, want: []string{"00474 error"}},
		{name: "00477 form", edits: []edit{intent("08060120341234567-00001")}, want: []string{"00477 warning"}},
		{name: "00477 ok dash", edits: []edit{intent("08060120341234567-000001")}},
		{name: "00477 ok slash", edits: []edit{intent("08060120341234567/000001")}},
	})
}

func TestRulesOfTheSummaries(t *testing.T) {
	two := func(summaries ...*tnode) edit {
		return only(append([]*tnode{line("1", "100.00", "100.00", "22.00"), line("2", "50.00", "50.00", "10.00")}, summaries...)...)
	}
	both := []*tnode{summary("22.00", "", "100.00", "22.00"), summary("10.00", "", "50.00", "5.00")}
	tax := func(taxable, imposta string) edit {
		return only(line("1", taxable, taxable, "22.00"), summary("22.00", "", taxable, imposta))
	}
	base := func(sum string) edit {
		return only(line("1", "100.00", "100.00", "22.00"), summary("22.00", "", sum, taxOf(sum)))
	}
	n6 := summary("0.00", "N6.1", "10.00", "0.00")
	n6.kids = append(n6.kids, el("EsigibilitaIVA", "S"))
	round := summary("22.00", "", "100.50", "22.11")
	round.kids = slices.Insert(round.kids, 1, el("Arrotondamento", "0.50"))
	runRules(t, []ruleCase{
		{name: "two rates", edits: []edit{two(both...)}},
		{name: "00419 fewer blocks", edits: []edit{two(summary("22.00", "", "100.00", "22.00"))}, want: []string{"00419 error", "00422 error", "00443 error"}},
		{name: "00419 enough blocks, rate missing", edits: []edit{two(summary("22.00", "", "50.00", "11.00"), summary("22.00", "", "50.00", "11.00"))},
			want: []string{"00419 warning", "00422 error", "00443 error"}},
		{name: "00420", edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N6.1")), n6)}, want: []string{"00420 error"}},
		{name: "00421 exact", edits: []edit{tax("100.00", "22.00")}},
		{name: "00421 half up", edits: []edit{tax("6820.25", "1500.46")}}, // 1500.455
		{name: "00421 one cent up", edits: []edit{tax("100.00", "22.01")}, want: []string{"00421 warning"}},
		{name: "00421 one cent down", edits: []edit{tax("100.00", "21.99")}, want: []string{"00421 warning"}},
		{name: "00421 two cents", edits: []edit{tax("100.00", "22.02")}, want: []string{"00421 error"}},
		{name: "00421 negative", edits: []edit{tax("-100.00", "-22.00")}},
		{name: "00421 wrong sign", edits: []edit{tax("-100.00", "22.00")}, want: []string{"00421 error"}},
		{name: "00422 within", edits: []edit{base("100.99")}},
		{name: "00422 one euro", edits: []edit{base("101.00")}, want: []string{"00422 warning"}},
		{name: "00422 one euro down", edits: []edit{base("99.00")}, want: []string{"00422 warning"}},
		{name: "00422 above", edits: []edit{base("101.01")}, want: []string{"00422 error"}},
		{name: "00422 rounding counts", edits: []edit{only(line("1", "100.00", "100.00", "22.00"), round)}},
		{name: "00422 fund counts", edits: []edit{only(line("1", "100.00", "100.00", "22.00"), summary("22.00", "", "104.00", "22.88")), fund("22.00", "4.00")}},
		{name: "00422 by rate, not by Natura", edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N1")), line("2", "20.00", "20.00", "0.00", el("Natura", "N4")),
			summary("0.00", "N1", "20.00", "0.00"), summary("0.00", "N4", "10.00", "0.00"))}},
		{name: "00429", edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N1")), summary("0.00", "N1", "5.00", "0.00"), summary("0.00", "", "5.00", "0.00"))}, want: []string{"00429 error"}},
		{name: "00430", edits: []edit{only(line("1", "10.00", "10.00", "22.00"), summary("22.00", "N1", "10.00", "2.20"))}, want: []string{"00430 error", "00444 warning"}},
		{name: "00443 reverse", edits: []edit{two(append(both, summary("4.00", "", "0.00", "0.00"))...)}, want: []string{"00443 warning"}},
		{name: "00443 same number written otherwise", edits: []edit{only(line("1", "10.00", "10.00", "4.00"), summary("04.00", "", "10.00", "0.40"))}},
		{name: "00444", edits: []edit{only(line("1", "10.00", "10.00", "0.00", el("Natura", "N1")), summary("0.00", "N4", "10.00", "0.00"))}, want: []string{"00444 error", "00444 warning"}},
	})
}

// taxOf is 22 % of an amount in whole cents, for the tests above.
func taxOf(s string) string {
	d, _ := fatturapa.ParseDecimal(s)
	rate, _ := fatturapa.ParseDecimal("0.22")
	p, _ := d.Mul(rate)
	return p.Round(2).String()
}

func TestRulesOfTheLot(t *testing.T) {
	lot := fatturapatest.Options{Bodies: 2, Numero: "7"}
	td := func(tipo string) fatturapatest.Options {
		return fatturapatest.Options{Bodies: 2, Numero: "7", TipoDocumento: tipo}
	}
	second := "FatturaElettronicaBody[2]/DatiGenerali/DatiGeneraliDocumento/"
	twice := set(second+"Numero", "7")
	art73 := after(gen+"Causale", el("Art73", "SI"))
	issued := func(keys ...fatturapa.DocumentKey) fatturapa.Options {
		return fatturapa.Options{Ledger: fatturapa.Ledger{Issued: func(k fatturapa.DocumentKey) (string, bool) {
			return "invoice 12", slices.Contains(keys, k)
		}}}
	}
	key := fatturapa.DocumentKey{Party: "IT" + fatturapatest.VATNumber(101), Numero: "1", Year: 2026}
	buyerKey := fatturapa.DocumentKey{Party: "IT" + fatturapatest.VATNumber(202), Numero: "1", Year: 2026}
	credit, dated := key, key
	credit.CreditNote = true
	dated.Data = "2026-03-16"
	self := selfBilled("TD17", "DE")
	runRules(t, []ruleCase{
		{name: "00409 different numbers", opts: lot},
		{name: "00409", opts: lot, edits: []edit{twice}, want: []string{"00409 error"}},
		{name: "00409 simplified", opts: fatturapatest.Options{Formato: "FSM10", Bodies: 2, Numero: "7"}, edits: []edit{twice}, want: []string{"00409 error"}},
		{name: "00409 another year", opts: lot, edits: []edit{twice, set(second+"Data", "2025-12-31")}},
		{name: "00409 note and invoice", opts: lot, edits: []edit{twice, set(second+"TipoDocumento", "TD04")}},
		{name: "00409 two notes", opts: td("TD04"), edits: []edit{twice}, want: []string{"00409 warning"}},
		{name: "00409 Art73, other day", opts: lot, edits: []edit{twice, art73, set(second+"Data", "2026-03-15")}},
		{name: "00409 Art73, same day", opts: lot, edits: []edit{twice, art73}, want: []string{"00409 error"}},
		{name: "00404 new", check: issued()},
		{name: "00404 known", check: issued(key), want: []string{"00404 error"}},
		{name: "00404 a note is known", check: issued(credit)},
		{name: "00404 note", opts: fatturapatest.Options{TipoDocumento: "TD04"}, check: issued(credit), want: []string{"00404 error"}},
		{name: "00404 note against invoice", opts: fatturapatest.Options{TipoDocumento: "TD04"}, check: issued(key)},
		{name: "00404 Art73", edits: []edit{art73}, check: issued(dated), want: []string{"00404 error"}},
		{name: "00404 Art73 other day", edits: []edit{art73}, check: issued(key)},
		{name: "00404 self-billed, key of Allegato A", opts: self, check: issued(buyerKey), want: []string{"00404 warning"}},
		{name: "00404 self-billed, both keys", opts: self, check: issued(buyerKey, fatturapa.DocumentKey{Party: "DE129273398", Numero: "1", Year: 2026}), want: []string{"00404 error"}},
	})
}

func TestCheckDigitRules(t *testing.T) {
	wrong := []edit{set(hdr+"CedentePrestatore/DatiAnagrafici/IdFiscaleIVA/IdCodice", "01234567890"),
		set(hdr+"CessionarioCommittente/DatiAnagrafici/IdFiscaleIVA/IdCodice", "00000000000"),
		set(hdr+"DatiTrasmissione/IdTrasmittente/IdCodice", "BNCLRA80A41G224X"),
		after(hdr+"CedentePrestatore/DatiAnagrafici/IdFiscaleIVA", el("CodiceFiscale", "01234567890")),
		after(hdr+"CessionarioCommittente/DatiAnagrafici/IdFiscaleIVA", el("CodiceFiscale", "BNCLRA80A41G224A")),
		after(hdr+"CedentePrestatore", el("RappresentanteFiscale", el("DatiAnagrafici", el("IdFiscaleIVA", el("IdPaese", "IT"), el("IdCodice", "12345678901")),
			el("CodiceFiscale", "12345678901"), el("Anagrafica", el("Denominazione", "x"))))),
	}
	codes := func(s string) (out []string) {
		for _, c := range []string{"00300", "00301", "00302", "00303", "00304", "00305", "00306"} {
			out = append(out, c+" "+s)
		}
		return out
	}
	runRules(t, []ruleCase{
		{name: "warn", edits: wrong, want: codes("warning")},
		{name: "error", edits: wrong, want: codes("error"), check: fatturapa.Options{CheckDigits: fatturapa.CheckDigitsError}},
		{name: "off", edits: wrong, check: fatturapa.Options{CheckDigits: fatturapa.CheckDigitsOff}},
		{name: "foreign numbers are not judged", opts: parties("TD01", german, us)},
	})
}

func TestTooManyFormatErrorsEndTheCheck(t *testing.T) {
	raw := strings.ReplaceAll(string(fatturapatest.Invoice(fatturapatest.Options{Lines: 60, Numero: "NO"})), "<UnitaMisura>PZ<", "<UnitaMisura><")
	f, err := fatturapa.Parse([]byte(raw))
	require.NoError(t, err)
	r := fatturapa.Check(f, fatturapa.Options{})
	require.Len(t, r.Findings, 51)
	require.Equal(t, "00201", r.Findings[50].Code)
	require.Equal(t, 10, r.Omitted)
	raw = strings.ReplaceAll(raw, "<UnitaMisura><", "<UnitaMisura>PZ<")
	f, err = fatturapa.Parse([]byte(strings.Replace(raw, "<CAP>35122", "<CAP>35", 1)))
	require.NoError(t, err)
	r = fatturapa.Check(f, fatturapa.Options{})
	require.Len(t, r.Findings, 2) // one fault of form does not hide 00425
}

func TestFindingsAreCapped(t *testing.T) {
	raw := strings.ReplaceAll(string(fatturapatest.Invoice(fatturapatest.Options{Lines: 300})), "<PrezzoTotale>", "<PrezzoTotale>9")
	f, err := fatturapa.Parse([]byte(raw))
	require.NoError(t, err)
	r := fatturapa.Check(f, fatturapa.Options{})
	require.Len(t, r.Findings, 200)
	require.Equal(t, 101, r.Omitted)
	require.Len(t, r.Errors(), 200)
	require.Empty(t, r.Warnings())
}
