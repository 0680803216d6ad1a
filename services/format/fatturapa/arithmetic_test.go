package fatturapa_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// lineCase is one line total: discounts are "SC 10.00%" or "MG 1.50".
type lineCase struct {
	price, quantity, discounts, total string
	want                              string // "", "00423 error" or "00423 warning"
}

func (c lineCase) findings(t *testing.T) []string {
	t.Helper()
	pad := func(s string) string {
		if !strings.Contains(s, ".") {
			return s + ".00"
		}
		if strings.Index(s, ".") == len(s)-2 {
			return s + "0"
		}
		return s
	}
	l := el("DettaglioLinee", el("NumeroLinea", "1"), el("Descrizione", "x"))
	if c.quantity != "" {
		l.kids = append(l.kids, el("Quantita", pad(c.quantity)))
	}
	l.kids = append(l.kids, el("PrezzoUnitario", pad(c.price)))
	for _, d := range strings.Split(c.discounts, ",") {
		if kind, amount, ok := strings.Cut(strings.TrimSpace(d), " "); ok {
			if percent, isPercent := strings.CutSuffix(amount, "%"); isPercent {
				l.kids = append(l.kids, sc(kind, el("Percentuale", pad(percent))))
			} else {
				l.kids = append(l.kids, sc(kind, el("Importo", pad(amount))))
			}
		}
	}
	l.kids = append(l.kids, el("PrezzoTotale", pad(c.total)), el("AliquotaIVA", "22.00"))
	root := readTree(t, fatturapatest.Invoice(fatturapatest.Options{}))
	root.find("FatturaElettronicaBody/DatiBeniServizi").kids = []*tnode{l, summary("22.00", "", "0.00", "0.00")}
	f, err := fatturapa.Parse(root.bytes())
	require.NoError(t, err)
	var got []string
	for _, x := range fatturapa.Check(f, fatturapa.Options{}).Findings {
		if x.Code == "00423" {
			got = append(got, x.Code+" "+string(x.Severity))
		}
	}
	return got
}

// The first three are the worked cases of the official text, the next the limits
// reported from the field; then boundaries of our own.
func TestLineTotals(t *testing.T) {
	cases := []lineCase{
		{"500", "100", "SC 10.05, SC 5.25, SC 4.70", "48000.00", ""},
		{"500", "100", "SC 8.50%, SC 5.15%, SC 3.00%", "42092.05", ""},
		{"500", "100", "SC 8.50%, SC 5.15%, SC 3.00%", "42092.06", ""},
		{"500", "100", "SC 8.50%, SC 5.15%, SC 3.00%", "42092.04", "00423 error"},
		{"500", "100", "SC 8.50%, SC 5.15%, SC 3.00%", "42092.07", "00423 error"},
		{"500", "100", "SC 8.50%, SC 23.56, SC 15.00, SC 2.00%", "41056.12", ""},
		{"0.030987", "22633", "", "701.34", "00423 error"},
		{"0.030987", "22633", "", "701.33", ""},
		{"0.093", "200", "SC 48.00%", "9.66", "00423 error"},
		{"13.4426", "2", "", "26.89", ""},
		{"0.865951", "98", "", "84.863198", ""},
		{"19.30", "1", "SC 15.00%", "16.41", ""},
		{"20.5", "2", "SC 15.00%", "42.00", "00423 error"},
		{"0.12345678", "100000000000", "", "12345678000.00", ""},
		{"1", "1", "SC 0.00", "1.00", ""},
		{"20.5", "1", "", "20.50", ""},
		{"20.5", "1", "", "20.51", "00423 warning"},
		{"20.5", "1", "", "20.49", "00423 warning"},
		{"20.5", "1", "", "20.52", "00423 error"},
		{"20.5", "1", "", "20.51000001", "00423 error"},
		{"20.5", "1", "", "20.50999999", ""},
		{"20.5", "", "", "20.50", ""},
		{"20.5", "", "MG 10.00%", "22.55", ""},
		{"20.5", "", "MG 1.50", "22.00", ""},
		{"-20.5", "3", "SC 10.00%", "-55.35", ""},
		{"-20.5", "3", "", "61.50", "00423 error"},
		{"99999999999.99999999", "1", "", "99999999999.99999999", ""},
		{"0.00000001", "999999999999.99999999", "", "10000.00", ""},
		// beyond 128 bits: unbounded arithmetic takes over
		{"99999999999.99999999", "0.00000001", "SC 33.33%, SC 33.33%, SC 33.33%, SC 33.33%, SC 33.33%", "131.72", ""},
		{"99999999999.99999999", "0.00000001", "SC 33.33%, SC 33.33%, SC 33.33%, SC 33.33%, SC 33.33%", "131.80", "00423 error"},
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			var want []string
			if c.want != "" {
				want = []string{c.want}
			}
			require.Equal(t, want, c.findings(t))
		})
	}
}

// An amount wins over a percentage in the same block.
func TestAmountWinsOverPercentage(t *testing.T) {
	root := readTree(t, fatturapatest.Invoice(fatturapatest.Options{}))
	root.find("FatturaElettronicaBody/DatiBeniServizi").kids = []*tnode{
		line("1", "100.00", "90.00", "22.00", sc("SC", el("Percentuale", "50.00"), el("Importo", "10.00"))), summary("22.00", "", "90.00", "19.80")}
	f, err := fatturapa.Parse(root.bytes())
	require.NoError(t, err)
	require.Empty(t, fatturapa.Check(f, fatturapa.Options{}).Findings)
}

// The worked cases of the reference folder, where that is; those on which another
// validator is more tolerant than the official text are named.
func TestLineTotalsOfTheReference(t *testing.T) {
	raw, err := os.ReadFile(reference + "/line_total_00423.tsv")
	if err != nil {
		t.Log("the reference is not on this machine: TestLineTotals has cases of its own")
		return
	}
	moreTolerant := map[string]bool{"9.66": true}
	for i, row := range strings.Split(strings.TrimSpace(string(raw)), "\n")[1:] {
		col := strings.Split(row, "\t")
		c := lineCase{price: col[0], quantity: col[1], total: col[3]}
		if kind, rest, ok := strings.Cut(strings.TrimPrefix(col[2], "Tipo:"), ",Percentuale:"); ok {
			c.discounts = kind + " " + rest + "%"
		}
		found := c.findings(t)
		hasError := len(found) == 1 && found[0] == "00423 error"
		if c.price == "0.123456789" {
			continue // nine decimals: the structure check refuses it first
		}
		require.Equal(t, col[4] == "00423" || moreTolerant[c.total], hasError, "row %d: %s", i+2, row)
	}
}

// Whatever the prices, a total computed from them and rounded to the cent passes,
// and one two cents off does not.
func TestComputedTotalsPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		price := rapid.StringMatching(`-?[0-9]{1,5}\.[0-9]{2,8}`).Draw(t, "price")
		quantity := rapid.StringMatching(`[0-9]{1,4}\.[0-9]{2,4}`).Draw(t, "quantity")
		l := fatturapa.DettaglioLinee{}
		l.PrezzoUnitario, _ = fatturapa.ParseDecimal(price)
		l.Quantita, _ = fatturapa.ParseDecimal(quantity)
		total, ok := l.Totale()
		if !ok {
			t.Fatal("no total")
		}
		two, _ := fatturapa.ParseDecimal("0.02")
		off, _ := total.Round(2).Add(two)
		for s, want := range map[string]bool{total.Round(2).String(): true, off.String(): false} {
			raw := string(fatturapatest.Invoice(fatturapatest.Options{}))
			for name, value := range map[string]string{"Quantita": quantity, "PrezzoUnitario": price, "PrezzoTotale": s} {
				from := strings.Index(raw, "<"+name+">") + len(name) + 2
				to := strings.Index(raw, "</"+name+">")
				raw = raw[:from] + value + raw[to:]
			}
			f, err := fatturapa.Parse([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, x := range fatturapa.Check(f, fatturapa.Options{}).Findings {
				found = found || x.Code == "00423"
			}
			if found == want {
				t.Fatalf("%s x %s = %s: found %v", price, quantity, s, found)
			}
		}
	})
}

// The order of the lines changes nothing that is found about the sums.
func TestFindingsDoNotDependOnTheOrderOfLines(t *testing.T) {
	for _, total := range []string{"", "9"} {
		base := readTree(t, []byte(strings.Replace(string(fatturapatest.Invoice(fatturapatest.Options{Lines: 12})), "<ImponibileImporto>", "<ImponibileImporto>"+total, 1)))
		var want []string
		for seed := range uint64(20) {
			root := base.clone()
			goods := root.find("FatturaElettronicaBody/DatiBeniServizi")
			lines := goods.elements()
			lines, last := lines[:len(lines)-1], lines[len(lines)-1]
			if seed > 0 {
				rand.New(rand.NewPCG(seed, 1)).Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
			}
			goods.kids = append(append([]*tnode{}, lines...), last)
			f, err := fatturapa.Parse(root.bytes())
			require.NoError(t, err)
			got := []string{}
			for _, x := range fatturapa.Check(f, fatturapa.Options{}).Findings {
				got = append(got, x.Code+x.Actual+x.Expected+x.XPath)
			}
			if seed == 0 {
				want = got
			}
			require.Equal(t, want, got)
		}
		require.Equal(t, total == "", len(want) == 0)
	}
}
