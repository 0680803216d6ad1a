package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/fatturapa"
)

// simple is a request with the given lines.
func simple(lines ...Line) Request {
	address := Address{Street: "Via del Sigillo", PostCode: "20121", City: "Milano"}
	for i := range lines {
		lines[i].Description = "Voce"
	}
	return Request{Transmission: Transmission{Progressive: "1"}, Document: Document{Date: "2026-03-16", Number: "1"}, Lines: lines,
		Seller: Party{Name: "Officine", VATNumber: vatNumber(1), Address: address}, Buyer: Party{Name: "Timbro", VATNumber: vatNumber(2), Address: address}}
}

func off(percents ...Number) []Discount {
	var out []Discount
	for _, p := range percents {
		out = append(out, Discount{Percent: p})
	}
	return out
}

// The worked cases of the official text for control 00423, figures reported from
// the field, and halves, which go away from zero.
func TestLineTotals(t *testing.T) {
	cases := []struct {
		price, quantity    Number
		discounts          []Discount
		toCents, unrounded string
	}{
		{"500", "100", []Discount{{Amount: "10.05"}, {Amount: "5.25"}, {Amount: "4.70"}}, "48000.00", "48000.00"},
		{"500", "100", off("8.5", "5.15", "3"), "42092.06", "42092.05875"},
		{"500", "100", []Discount{{Percent: "8.50"}, {Amount: "23.56"}, {Amount: "15.00"}, {Percent: "2"}}, "41056.12", "41056.12"},
		{"0.030987", "22633", nil, "701.33", "701.328771"},
		{"0.093", "200", off("48"), "9.67", "9.672"},
		{"1.005", "", nil, "1.01", "1.005"},
		{"-1.005", "", nil, "-1.01", "-1.005"},
		{"-0.001", "", nil, "0.00", "-0.001"},
		{"0.00000001", "0.5", nil, "0.00", "0.00000001"},
		{"10", "3", []Discount{{Surcharge: true, Percent: "10"}, {Percent: "10"}}, "29.70", "29.70"},
		{"10", "0", nil, "0.00", "0.00"},
	}
	for _, x := range cases {
		for mode, want := range map[string]string{RoundLines: x.toCents, RoundSummaries: x.unrounded} {
			r := simple(Line{UnitPrice: x.price, Quantity: x.quantity, Discounts: x.discounts, VATRate: "22"})
			r.Document.LineRounding = mode
			xml, _, err := Compose(r)
			require.NoError(t, err)
			f, err := fatturapa.Parse(xml)
			require.NoError(t, err)
			require.Equal(t, want, f.Bodies[0].DatiBeniServizi.DettaglioLinee[0].PrezzoTotale.String(), "%v %s", x, mode)
		}
	}
}

// VAT is rounded once for each summary, not once for each line.
func TestVATIsRoundedBySummary(t *testing.T) {
	var lines []Line
	for range 3 {
		lines = append(lines, Line{UnitPrice: "0.12", VATRate: "4"}) // 0.0048 each, 0.0144 together
	}
	_, report, err := Compose(simple(lines...))
	require.NoError(t, err)
	require.Equal(t, "0.36", report.Totals.Taxable)
	require.Equal(t, "0.01", report.Totals.Tax)
	for rate, tax := range map[Number]string{"22": "1.04", "10": "0.47", "5": "0.24"} { // of 4.725 -> 4.73
		_, report, err := Compose(simple(Line{UnitPrice: "4.725", VATRate: rate}))
		require.NoError(t, err)
		require.Equal(t, tax, report.Totals.Tax)
	}
}

// Split payment takes the VAT out of what is paid, withholding takes its part.
func TestPayable(t *testing.T) {
	r := simple(Line{UnitPrice: "100", VATRate: "22", Collectability: "S"}, Line{UnitPrice: "100", VATRate: "22", Withholding: true}, Line{UnitPrice: "10", Nature: "N4"})
	r.Withholdings = []Withholding{{Type: "RT02", Rate: "20", Cause: "A"}}
	r.Document.Discounts = []Discount{{Amount: "3.995"}}
	r.Document.Rounding = "-0.01"
	_, report, err := Compose(r)
	require.NoError(t, err)
	got := report.Totals
	got.Summaries = nil
	// 254.00 - 3.995 = 250.005 -> 250.01, less one cent
	require.Equal(t, Totals{Taxable: "210.00", Tax: "44.00", SplitTax: "22.00", Withholdings: "20.00", Document: "250.00", Payable: "208.00"}, got)
	require.Len(t, report.Totals.Summaries, 3)
}

// The order of lines changes nothing in a simplified document either.
func TestSimplifiedTotalsInvariantUnderLineOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draws{t}
		r := simple()
		r.Format = SimplifiedFormat
		for range rapid.IntRange(1, 6).Draw(t, "lines") {
			l := Line{Description: d.words("description"), UnitPrice: d.price("price"), VATRate: "10"}
			if d.seldom("nature") {
				l.VATRate, l.Nature = "", "N4"
			}
			r.Lines = append(r.Lines, l)
		}
		one := &composer{req: r}
		xml := one.build()
		r.Lines = rapid.Permutation(r.Lines).Draw(t, "order")
		two := &composer{req: r}
		two.build()
		require.Equal(t, one.report.Totals, two.report.Totals)
		require.Equal(t, len(one.problems), len(two.problems))
		if len(one.problems) == 0 {
			f, err := fatturapa.Parse(xml)
			require.NoError(t, err)
			require.Empty(t, fatturapa.Check(f, fatturapa.Options{}).Errors())
		}
	})
}

// The official schema takes what the composer accepts, not only the golden files.
func TestGeneratedDocumentsAgainstTheOfficialSchema(t *testing.T) {
	const schema = "../../../../../shared/reference/sdi/xsd/offline/VFPR12_1.2.3.xsd"
	if _, err := os.Stat(schema); err != nil {
		t.Log("the official schema is not on this machine: the check of our own schema table stands alone")
		return
	}
	dir := t.TempDir()
	args := []string{"--nonet", "--noout", "--schema", schema}
	rapid.Check(t, func(t *rapid.T) {
		c := &composer{req: draws{t}.request()}
		if xml := c.build(); len(c.problems) == 0 && len(args) < 400 {
			path := filepath.Join(dir, strconv.Itoa(len(args))+".xml")
			require.NoError(t, os.WriteFile(path, xml, 0o600))
			args = append(args, path)
		}
	})
	require.Greater(t, len(args), 20)
	out, err := exec.Command("xmllint", args...).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Logf("%d documents", len(args)-4)
}
