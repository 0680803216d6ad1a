package compose

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/fatturapa"
)

// vatNumber is the n-th of a series with a correct check digit.
func vatNumber(n int) string {
	base := fmt.Sprintf("%07d999", n)
	for d := range 10 {
		if s := base + strconv.Itoa(d); fatturapa.ValidVATNumber(s) {
			return s
		}
	}
	return ""
}

// draws makes requests: mostly right, sometimes not, so that both ways of
// answering are met.
type draws struct{ *rapid.T }

func (d draws) pick(label string, values ...string) string {
	return rapid.SampledFrom(values).Draw(d.T, label)
}

func (d draws) often(label string) bool { return rapid.IntRange(0, 9).Draw(d.T, label) < 9 }
func (d draws) seldom(label string) bool {
	return rapid.IntRange(0, 9).Draw(d.T, label) == 0
}

func (d draws) words(label string) string {
	return d.pick(label, "Consulenza", "Vite <M6> & dado", "Caffè – “forte” 5 €…", "Москва", "東京", "a\tb\nc", "  x ", "Ωμέγα", "naïve\u0301", "😀 riso", "Straße ½ kg", "\u200Bzero", "[]]>")
}

func (d draws) price(label string) Number {
	return Number(rapid.StringMatching(`-?[0-9]{1,5}(\.[0-9]{1,8})?`).Draw(d.T, label))
}

func (d draws) percent(label string) Number {
	return Number(rapid.StringMatching(`[0-9]{1,2}(\.[0-9]{1,2})?`).Draw(d.T, label))
}

func (d draws) discounts() []Discount {
	var out []Discount
	for range rapid.IntRange(0, 3).Draw(d.T, "discounts") {
		x := Discount{Surcharge: d.seldom("surcharge"), Percent: d.percent("percent")}
		if d.seldom("amount instead") {
			x.Percent, x.Amount = "", Number(rapid.StringMatching(`[0-9]{1,2}\.[0-9]{1,8}`).Draw(d.T, "amount"))
		}
		out = append(out, x)
	}
	return out
}

// vat draws a rate or a nature that go together.
func (d draws) vat() (rate Number, nature, reference, collect string) {
	if d.pick("with VAT", "yes", "yes", "no") == "yes" {
		return Number(d.pick("rate", "22", "10.00", "5", "4.0", "7.5")), "", "", d.pick("collect", "", "", "I", "D", "S")
	}
	return Number(d.pick("no rate", "", "0", "0.00")), d.pick("nature", "N1", "N2.1", "N2.2", "N3.1", "N3.5", "N4", "N5", "N6.3", "N7"),
		d.pick("reference", "", "Art. 10 DPR 633/72", "Art. 15 – DPR"), d.pick("collect", "", "", "", "I", "S")
}

func (d draws) line(withholding bool) Line {
	l := Line{Description: d.words("description"), UnitPrice: d.price("price"), Discounts: d.discounts(), Withholding: withholding && d.often("withheld")}
	if d.often("with quantity") {
		l.Quantity = Number(rapid.StringMatching(`[0-9]{1,4}(\.[0-9]{1,8})?`).Draw(d.T, "quantity"))
		l.Unit = d.pick("unit", "", "pz", "m²", "kg")
	}
	l.VATRate, l.Nature, l.LegalReference, l.Collectability = d.vat()
	if d.seldom("extra") {
		l.Extra = []ExtraData{{Type: "INTENTO", Text: "23011512345678901-000001", Date: "2026-01-15", Number: d.price("extra number")}}
	}
	if d.seldom("codes") {
		l.Codes = []ItemCode{{Type: "EAN", Value: d.words("code")}}
	}
	return l
}

func (d draws) party(n int) Party {
	p := Party{Name: d.words("name"), VATNumber: vatNumber(n), Address: Address{Street: d.words("street"), Number: "1", PostCode: "20121", City: "Milano", Province: "MI"}}
	if d.often("tax code") {
		p.TaxCode = p.VATNumber
	}
	return p
}

func (d draws) buyer() Party {
	p := d.party(202)
	switch d.pick("buyer", "company", "consumer", "abroad", "abroad consumer", "public", "union") {
	case "consumer":
		p = Party{FirstName: "Niccolò", LastName: "D’Èze", TaxCode: "FRRDAA80A41H501F", Address: p.Address}
	case "abroad":
		p.VATNumber, p.TaxCode, p.Address.Country = "", "", d.pick("country", "US", "CH", "GB")
	case "abroad consumer":
		p.Kind, p.VATNumber, p.TaxCode, p.Address.Country = Consumer, "", "", d.pick("country", "US", "FR")
	case "public":
		p.Kind = PublicBody
	case "union":
		p.VATNumber, p.TaxCode, p.Address.Country = "DE123456789", "", "DE"
	}
	return p
}

func (d draws) request() Request {
	r := Request{Seller: d.party(101), Buyer: d.buyer()}
	r.Transmission = Transmission{Progressive: d.pick("progressive", "1", "a1B2c", "0000000001")}
	if r.Buyer.Kind == PublicBody {
		r.Transmission.RecipientCode = "UFABC1"
	}
	r.Document = Document{Date: d.pick("date", "2026-03-16", "2025-12-31"), Number: d.pick("number", "1", "2026/7-B"), Type: d.pick("type", append([]string{"", "", "", "TD04"}, documentTypes...)...),
		Collectability: d.pick("document collect", "", "", "I", "S", "D"), LineRounding: d.pick("rounding mode", "", RoundLines, RoundSummaries), Rounding: Number(d.pick("rounding", "", "", "0.01", "-0.02"))}
	if in([]string{"TD17", "TD18", "TD19", "TD28"}, r.Document.Type) {
		r.Seller.VATNumber, r.Seller.TaxCode, r.Seller.Address.Country = "", "", "US"
		r.Buyer = d.party(202)
		r.Transmission.RecipientCode = ""
	} else if r.Document.Type == "TD21" || r.Document.Type == "TD27" {
		r.Buyer = Party{}
		r.Transmission.RecipientCode = ""
	}
	withholding := d.seldom("withholding")
	for range rapid.IntRange(1, 6).Draw(d.T, "lines") {
		r.Lines = append(r.Lines, d.line(withholding))
	}
	if withholding {
		r.Withholdings = []Withholding{{Type: "RT01", Rate: d.percent("withholding rate"), Cause: "A"}}
	}
	if d.seldom("fund") {
		f := Fund{Type: "TC04", Rate: d.percent("fund rate")}
		f.VATRate, f.Nature, f.LegalReference, f.Collectability = d.vat()
		r.Funds = []Fund{f}
	}
	if d.seldom("stamp") {
		r.StampDuty = &StampDuty{Practice: d.pick("practice", Absorbed, Recharged)}
	}
	if d.seldom("payment") {
		r.Payments = []Payment{{Instalments: []Instalment{{Method: "MP01"}, {Method: "MP05", IBAN: "IT60 X0542811101000000123456"}, {Method: "MP12", Amount: "10"}}}}
	}
	if d.seldom("link") {
		r.LinkedInvoices = []Reference{{ID: "9", Date: d.pick("link date", "2025-01-01", "2026-12-31"), Lines: []int{1}}}
	}
	if d.seldom("attachment") {
		r.Attachments = []Attachment{{Name: "foglio.pdf", Content: []byte("x")}}
	}
	return r
}

// byConstruction are the controls that no composed document may even come near.
var byConstruction = []string{"00419", "00421", "00422", "00423", "00443", "00444"}

// What the composer takes without a problem, the checker finds no error in; this
// looks at the document before the composer has it checked itself.
func TestAcceptedRequestsPassEveryRule(t *testing.T) {
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := &composer{req: draws{t}.request()}
		xml := c.build()
		if len(c.problems) > 0 {
			refused++
			return
		}
		accepted++
		f, err := fatturapa.Parse(xml)
		require.NoError(t, err)
		for _, x := range fatturapa.Check(f, fatturapa.Options{CheckDigits: fatturapa.CheckDigitsOff}).Findings {
			require.NotEqual(t, fatturapa.SeverityError, x.Severity, "%s %s %s %s\n%s", x.Code, x.XPath, x.Actual, x.Expected, xml)
			require.NotContains(t, byConstruction, x.Code, "%s %s %s", x.XPath, x.Actual, x.Expected)
		}
		require.NotRegexp(t, emptyElement, string(xml))
	})
	t.Logf("%d requests accepted, %d refused", accepted, refused)
	require.Greater(t, accepted, refused/4, "too few requests are accepted for this test to mean anything")
}

var emptyElement = regexp.MustCompile(`<([A-Za-z]+)>\s*</`)

// The order of lines changes neither totals nor summaries.
func TestTotalsInvariantUnderLineOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draws{t}.request()
		r.Payments = nil
		one := &composer{req: r}
		xml := one.build()
		r.Lines = rapid.Permutation(r.Lines).Draw(t, "order")
		two := &composer{req: r}
		again := two.build()
		require.Equal(t, one.report.Totals, two.report.Totals)
		require.Equal(t, one.report.StampDuty, two.report.StampDuty)
		require.Len(t, two.problems, len(one.problems))
		if len(one.problems) == 0 {
			require.Equal(t, lastPart(xml), lastPart(again))
		}
	})
}

func lastPart(xml []byte) string {
	s := string(xml)
	return s[strings.Index(s, "<DatiRiepilogo>"):]
}

// The same request gives the same bytes, and composing does not change it.
func TestComposeIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draws{t}.request()
		before := fmt.Sprintf("%+v", r)
		a, _, errA := Compose(r)
		b, _, errB := Compose(r)
		require.Equal(t, before, fmt.Sprintf("%+v", r))
		require.Equal(t, a, b)
		require.Equal(t, fmt.Sprint(errA), fmt.Sprint(errB))
	})
}

// Any text becomes one that the format takes, and doing it again changes nothing.
func TestTransliterateAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		for _, set := range []alphabet{latin1, ascii} {
			out, _ := transliterate(s, set)
			require.True(t, plain(out, set), "%q", out)
			again, changed := transliterate(out, set)
			require.Equal(t, out, again)
			require.False(t, changed)
		}
	})
}

// Shares add up to the payable amount, to the cent.
func TestInstalmentsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draws{t}
		r := Request{Transmission: Transmission{Progressive: "1"}, Seller: d.party(101), Buyer: d.party(202), Document: Document{Date: "2026-03-16", Number: "1"},
			Lines: []Line{{Description: "x", UnitPrice: d.price("price"), VATRate: "22"}}}
		p := Payment{}
		for range rapid.IntRange(1, 7).Draw(t, "instalments") {
			p.Instalments = append(p.Instalments, Instalment{Method: "MP05"})
		}
		r.Payments = []Payment{p}
		xml, report, err := Compose(r)
		require.NoError(t, err)
		f, err := fatturapa.Parse(xml)
		require.NoError(t, err)
		sum := fatturapa.DecimalFromInt(0, 2)
		for _, x := range f.Bodies[0].DatiPagamento[0].DettaglioPagamento {
			next, ok := sum.Add(x.ImportoPagamento)
			require.True(t, ok)
			sum = next
		}
		require.Equal(t, report.Totals.Payable, sum.String())
	})
}

// The lists of codes are those of the schema table of the checker: a code that
// one takes and the other does not would show in the property above only by luck.
func TestCodeListsAreWellFormed(t *testing.T) {
	for name, want := range map[string]struct {
		list []string
		n    int
	}{
		"types": {documentTypes, 20}, "regimes": {taxRegimes, 19}, "natures": {natures, 21}, "funds": {fundTypes, 22},
		"withholdings": {withholdingTypes, 6}, "causes": {withholdingCauses, 28}, "methods": {paymentMethods, 23}, "terms": {paymentTerms, 3},
		"simplified types": {simplifiedTypes, 3}, "simplified natures": {simplifiedNature, 11},
	} {
		require.Len(t, want.list, want.n, name)
		sorted := slices.Sorted(slices.Values(want.list))
		require.Len(t, slices.Compact(sorted), want.n, name)
	}
}
