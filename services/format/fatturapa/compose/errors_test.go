package compose_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/compose"
)

// Each case spoils one thing of a good request; the error must name that place,
// with the code of the control that would have refused the document.
func TestErrorsNameThePlace(t *testing.T) {
	type R = compose.Request
	line := func(f func(*compose.Line)) func(*R) { return func(r *R) { f(&r.Lines[0]) } }
	cases := []struct {
		name, file string
		spoil      func(*R)
		path, code string
	}{
		{"no lines", "minimal", func(r *R) { r.Lines = nil }, "$.lines", ""},
		{"no progressive", "minimal", func(r *R) { r.Transmission.Progressive = "" }, "$.transmission.progressive", ""},
		{"bad format", "minimal", func(r *R) { r.Format = "FPR13" }, "$.format", ""},
		{"bad type", "minimal", func(r *R) { r.Document.Type = "TD15" }, "$.document.type", ""},
		{"short recipient", "minimal", func(r *R) { r.Transmission.RecipientCode = "ABC123" }, "$.transmission.recipientCode", "00427"},
		{"long recipient of a public body", "public_split_payment", func(r *R) { r.Transmission.RecipientCode = "UFABC12" }, "$.transmission.recipientCode", "00427"},
		{"no recipient of a public body", "public_split_payment", func(r *R) { r.Transmission.RecipientCode = "" }, "$.transmission.recipientCode", ""},
		{"foreign recipient for an Italian", "minimal", func(r *R) { r.Transmission.RecipientCode = "XXXXXXX" }, "$.transmission.recipientCode", "00313"},
		{"mailbox of SdI", "minimal", func(r *R) { r.Transmission.CertifiedMail = "sdi01@pec.fatturapa.it" }, "$.transmission.certifiedMail", "00330"},
		{"no mail address", "minimal", func(r *R) { r.Transmission.CertifiedMail = "è@example.it" }, "$.transmission.certifiedMail", ""},
		{"seller without VAT number", "minimal", func(r *R) { r.Seller.VATNumber = "" }, "$.seller.vatNumber", ""},
		{"short VAT number", "minimal", func(r *R) { r.Buyer.VATNumber = "123" }, "$.buyer.vatNumber", ""},
		{"lower-case tax code", "consumer_tax_code", func(r *R) { r.Buyer.TaxCode = strings.ToLower(r.Buyer.TaxCode) }, "$.buyer.taxCode", ""},
		{"buyer without codes", "consumer_tax_code", func(r *R) { r.Buyer.TaxCode = "" }, "$.buyer", "00417"},
		{"business of the Union without number", "foreign_business_eu", func(r *R) { r.Buyer.VATNumber = "" }, "$.buyer.vatNumber", ""},
		{"both foreign", "foreign_business_eu", func(r *R) { r.Seller.VATCountry, r.Seller.VATNumber, r.Seller.TaxCode = "FR", "12345678901", "" }, "$.buyer.vatCountry", "00476"},
		{"two names", "minimal", func(r *R) { r.Buyer.FirstName = "Ada" }, "$.buyer.name", ""},
		{"no last name", "consumer_tax_code", func(r *R) { r.Buyer.LastName = "" }, "$.buyer.lastName", ""},
		{"long name", "minimal", func(r *R) { r.Buyer.Name = strings.Repeat("è", 81) }, "$.buyer.name", ""},
		{"name grows when written", "minimal", func(r *R) { r.Buyer.Name = strings.Repeat("€", 27) }, "$.buyer.name", ""},
		{"no post code", "minimal", func(r *R) { r.Buyer.Address.PostCode = "" }, "$.buyer.address.postCode", ""},
		{"bad post code", "minimal", func(r *R) { r.Buyer.Address.PostCode = "2012" }, "$.buyer.address.postCode", ""},
		{"bad regime", "minimal", func(r *R) { r.Seller.TaxRegime = "RF03" }, "$.seller.taxRegime", ""},
		{"no date", "minimal", func(r *R) { r.Document.Date = "" }, "$.document.date", ""},
		{"no day", "minimal", func(r *R) { r.Document.Date = "2026-02-29" }, "$.document.date", ""},
		{"number without digit", "minimal", func(r *R) { r.Document.Number = "A/B" }, "$.document.number", "00425"},
		{"number with accent", "minimal", func(r *R) { r.Document.Number = "1/è" }, "$.document.number", ""},
		{"long number", "minimal", func(r *R) { r.Document.Number = strings.Repeat("1", 21) }, "$.document.number", ""},
		{"bad currency", "minimal", func(r *R) { r.Document.Currency = "€" }, "$.document.currency", ""},
		{"no rate, no nature", "minimal", line(func(l *compose.Line) { l.VATRate = "" }), "$.lines[0].nature", "00400"},
		{"rate and nature", "minimal", line(func(l *compose.Line) { l.Nature = "N4" }), "$.lines[0].nature", "00401"},
		{"generic nature", "minimal", line(func(l *compose.Line) { l.VATRate, l.Nature = "", "N2" }), "$.lines[0].nature", ""},
		{"fraction for a rate", "minimal", line(func(l *compose.Line) { l.VATRate = "0.22" }), "$.lines[0].vatRate", "00424"},
		{"rate above 100", "minimal", line(func(l *compose.Line) { l.VATRate = "100.01" }), "$.lines[0].vatRate", ""},
		{"no price", "minimal", line(func(l *compose.Line) { l.UnitPrice = "" }), "$.lines[0].unitPrice", ""},
		{"comma", "minimal", line(func(l *compose.Line) { l.UnitPrice = "1,50" }), "$.lines[0].unitPrice", ""},
		{"exponent", "minimal", line(func(l *compose.Line) { l.UnitPrice = "1e3" }), "$.lines[0].unitPrice", ""},
		{"nine decimals", "minimal", line(func(l *compose.Line) { l.UnitPrice = "0.123456789" }), "$.lines[0].unitPrice", ""},
		{"negative quantity", "minimal", line(func(l *compose.Line) { l.Quantity = "-1" }), "$.lines[0].quantity", ""},
		{"total too large", "minimal", line(func(l *compose.Line) { l.UnitPrice, l.Quantity = "99999999999", "99" }), "$.lines[0]", ""},
		{"empty discount", "minimal", line(func(l *compose.Line) { l.Discounts = []compose.Discount{{}} }), "$.lines[0].discounts[0]", "00438"},
		{"two kinds of discount", "minimal", line(func(l *compose.Line) { l.Discounts = []compose.Discount{{Percent: "1", Amount: "1"}} }), "$.lines[0].discounts[0]", "00438"},
		{"empty document discount", "minimal", func(r *R) { r.Document.Discounts = []compose.Discount{{}} }, "$.document.discounts[0]", "00437"},
		{"no description", "minimal", line(func(l *compose.Line) { l.Description = " " }), "$.lines[0].description", ""},
		{"period backwards", "minimal", line(func(l *compose.Line) { l.From, l.To = "2026-02-02", "2026-02-01" }), "$.lines[0].to", ""},
		{"withholding without data", "minimal", line(func(l *compose.Line) { l.Withholding = true }), "$.lines[0].withholding", "00411"},
		{"fund withholding without data", "fund_subject_to_withholding", func(r *R) { r.Withholdings = nil; r.Lines[0].Withholding = false }, "$.funds[0].withholding", "00415"},
		{"withholding of nothing", "professional_fund_withholding", func(r *R) { r.Lines[0].Withholding = false }, "$.withholdings", ""},
		{"old cause", "professional_fund_withholding", func(r *R) { r.Withholdings[0].Cause = "Z" }, "$.withholdings[0].cause", ""},
		{"fund without nature", "professional_fund_withholding", func(r *R) { r.Funds[0].VATRate = "" }, "$.funds[0].nature", "00413"},
		{"fund with both", "professional_fund_withholding", func(r *R) { r.Funds[0].Nature = "N4" }, "$.funds[0].nature", "00414"},
		{"split reverse charge", "minimal", line(func(l *compose.Line) { l.VATRate, l.Nature, l.Collectability = "", "N6.3", "S" }), "$.lines[0].collectability", "00420"},
		{"credit note before its invoice", "credit_note", func(r *R) { r.LinkedInvoices[0].Date = "2026-03-17" }, "$.linkedInvoices[0].date", "00418"},
		{"line that is not there", "credit_note", func(r *R) { r.LinkedInvoices[0].Lines = []int{2} }, "$.linkedInvoices[0].lines[0]", ""},
		{"seller is buyer", "minimal", func(r *R) { r.Buyer = r.Seller }, "$.buyer", "00471"},
		{"self consumption of another", "td27_self_consumption", func(r *R) { r.Buyer = r.Seller; r.Buyer.VATNumber, r.Buyer.TaxCode = "00002029999", "" }, "$.buyer", "00472"},
		{"supplier abroad is Italian", "td17_services_abroad", func(r *R) { r.Seller.VATCountry, r.Seller.VATNumber = "IT", "00001019991" }, "$.seller.vatCountry", "00473"},
		{"TD29 of a foreigner", "td17_services_abroad", func(r *R) { r.Document.Type = "TD29" }, "$.seller.vatCountry", "00473"},
		{"plafond without VAT", "td27_self_consumption", func(r *R) {
			r.Document.Type, r.Lines[0].VATRate, r.Lines[0].Nature = "TD21", "", "N4"
		}, "$.lines[0].vatRate", "00474"},
		{"integration without VAT number", "td17_services_abroad", func(r *R) { r.Buyer.VATNumber = "" }, "$.buyer.vatNumber", "00475"},
		{"simplified above the limit", "simplified", func(r *R) { r.Lines[0].UnitPrice = "195.01" }, "$.lines", "00460"},
		{"simplified with payments", "simplified", func(r *R) { r.Payments = []compose.Payment{{}} }, "$.payments", ""},
		{"simplified credit note too early", "simplified_credit_note", func(r *R) { r.Correction.Date = "2026-03-21" }, "$.correction.date", "00418"},
		{"unknown practice", "minimal", func(r *R) { r.StampDuty = &compose.StampDuty{Practice: "perhaps"} }, "$.stampDuty.practice", ""},
		{"unknown rounding", "minimal", func(r *R) { r.Document.LineRounding = "up" }, "$.document.lineRounding", ""},
		{"no instalment", "minimal", func(r *R) { r.Payments = []compose.Payment{{}} }, "$.payments[0].instalments", ""},
		{"bad method", "instalments_everything", func(r *R) { r.Payments[0].Instalments[1].Method = "MP24" }, "$.payments[0].instalments[1].method", ""},
		{"bad IBAN", "instalments_everything", func(r *R) { r.Payments[0].Instalments[3].IBAN = "IT60" }, "$.payments[0].instalments[3].iban", ""},
		{"attachment in a folder", "public_split_payment", func(r *R) { r.Attachments[0].Name = "../ordine.pdf" }, "$.attachments[0].name", ""},
		{"attachment without extension", "public_split_payment", func(r *R) { r.Attachments[0].Name = "ordine" }, "$.attachments[0].name", ""},
		{"attachment twice", "public_split_payment", func(r *R) {
			r.Attachments = append(r.Attachments, compose.Attachment{Name: "ORDINE.PDF", Content: []byte("x")})
		}, "$.attachments[1].name", ""},
		{"empty attachment", "public_split_payment", func(r *R) { r.Attachments[0].Content = nil }, "$.attachments[0].content", ""},
		{"too large", "public_split_payment", func(r *R) { r.Attachments[0].Content = make([]byte, 4_000_000) }, "$.attachments", "00003"},
		{"correction of an ordinary document", "minimal", func(r *R) { r.Correction = &compose.Correction{} }, "$.correction", ""},
		{"vehicle without distance", "vehicle_union", func(r *R) { r.Vehicle.Distance = "" }, "$.vehicle.distance", ""},
		{"vehicle in a simplified document", "simplified", func(r *R) { r.Vehicle = &compose.Vehicle{} }, "$.vehicle", ""},
		{"long name of the system", "minimal", func(r *R) { r.Transmission.System = "CERALACCA-9" }, "$.transmission.system", ""},
		{"not UTF-8", "minimal", func(r *R) { r.Buyer.Name = "caff\xe8" }, "$.buyer.name", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := read(t, "testdata/"+c.file+".json")
			c.spoil(&r)
			xml, _, err := compose.Compose(r)
			require.Nil(t, xml)
			var wrong *compose.Error
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, c.path, wrong.Problems[0].Path, err)
			require.Equal(t, c.code, wrong.Problems[0].Code, err)
			require.NotEmpty(t, wrong.Problems[0].Hint)
			require.Contains(t, err.Error(), c.path)
		})
	}
}

func TestReadRequestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"sellr":{}}`: "sellr",
		`{"lines":[{"description":"x","unitPrice":true}]}`: "true is no number",
		`{} {}`: "something follows",
		`{`:     "unexpected EOF",
	} {
		_, err := compose.ReadRequest([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

// Digits of a JSON number come through as they are written.
func TestNumbersAreExact(t *testing.T) {
	r, err := compose.ReadRequest([]byte(`{"lines":[{"description":"x","unitPrice":0.10000001,"quantity":"12345678.1"}]}`))
	require.NoError(t, err)
	require.Equal(t, compose.Number("0.10000001"), r.Lines[0].UnitPrice)
	require.Equal(t, compose.Number("12345678.1"), r.Lines[0].Quantity)
}

func TestTransliterate(t *testing.T) {
	for in, want := range map[string]string{
		"100 €":              "100 EUR",
		"l’“Aquila”":         `l'"Aquila"`,
		"a – b — c…":         "a - b - c...",
		"Šimůnek Łukasz":     "Simunek Lukasz",
		"Dvořák ő ű":         "Dvorák o u",
		"Œuvre":              "OEuvre",
		"Αθήνα":              "Athina",
		"Щука Юрий":          "Shtuka Yuriy",
		"perché café":        "perché café",
		"e\u0301":            "é",
		"x\u200By":           "xy",
		"a\r\nb":             "a  b",
		"ﬁne ½ №5":           "fine ½ n.5",
		"東京":                 "??",
		"Ｆｕｌｌ":               "Full",
		"İstanbul ığ":        "Istanbul ig",
		"≤ 5 µm × 2 ™":       "<= 5 µm × 2 (TM)",
		"\u00a0spazio\u00a0": "spazio",
	} {
		got, _ := compose.Transliterate(in)
		require.Equal(t, want, got, in)
	}
}

// The stamp duty never comes by itself, and the total changes only by the line
// that recharges it.
func TestStampDuty(t *testing.T) {
	cases := []struct {
		price, practice, suggested, document, amount string
	}{
		{"77.47", "", "", "77.47", ""},
		{"77.48", "", "2.00", "77.48", ""},
		{"77.48", compose.Absorbed, "2.00", "77.48", "2.00"},
		{"77.48", compose.Recharged, "2.00", "79.48", "2.00"},
		{"76.00", compose.Recharged, "", "78.00", "2.00"},
	}
	for _, c := range cases {
		r := read(t, "testdata/stamp_suggested_only.json")
		r.Lines[0].UnitPrice = compose.Number(c.price)
		if c.practice != "" {
			r.StampDuty = &compose.StampDuty{Practice: c.practice}
		}
		xml, report, err := compose.Compose(r)
		require.NoError(t, err)
		require.Equal(t, c.suggested, report.StampDuty.Suggested, c)
		require.Equal(t, c.document, report.Totals.Document, c)
		require.Equal(t, c.amount, report.StampDuty.Amount, c)
		require.Equal(t, c.amount != "", strings.Contains(string(xml), "<DatiBollo>"), c)
	}
}

func TestSelfBilling(t *testing.T) {
	model := read(t, "testdata/td17_services_abroad.json")
	own, supplier := model.Buyer, model.Seller
	for _, docType := range []string{"TD16", "TD17", "TD18", "TD19", "TD20", "TD21", "TD22", "TD23", "TD26", "TD27", "TD28", "TD29"} {
		from := supplier
		if docType == "TD16" || docType == "TD20" || docType == "TD26" || docType == "TD29" {
			from = read(t, "testdata/minimal.json").Seller
		}
		r, err := compose.SelfBilling(docType, own, from, &compose.Reference{ID: "F 1", Date: "2026-03-01"})
		require.NoError(t, err)
		r.Transmission.Progressive, r.Document.Number, r.Document.Date = "1", "I 1", "2026-03-10"
		r.Lines = []compose.Line{{Description: "Acquisto", UnitPrice: "10", VATRate: "22"}}
		_, report, err := compose.Compose(r)
		require.NoError(t, err, docType)
		require.Equal(t, docType, report.DocumentType)
		require.Equal(t, "0000000", report.RecipientCode)
	}
	_, err := compose.SelfBilling("TD01", own, supplier, nil)
	require.ErrorContains(t, err, "TD16")
}

func TestNotes(t *testing.T) {
	original := read(t, "testdata/professional_fund_withholding.json")
	_, before, err := compose.Compose(original)
	require.NoError(t, err)
	_, credit, err := compose.Compose(compose.CreditNote(original, "NC 1", "2026-03-20"))
	require.NoError(t, err)
	require.Equal(t, "TD04", credit.DocumentType)
	require.Equal(t, before.Totals, credit.Totals)

	debit := compose.DebitNote(original, "ND 1", "2026-03-20")
	debit.Lines = []compose.Line{{Description: "Maggior prezzo", UnitPrice: "5", VATRate: "22"}}
	_, report, err := compose.Compose(debit)
	require.NoError(t, err)
	require.Equal(t, "TD05", report.DocumentType)
	require.Equal(t, "6.10", report.Totals.Document)

	_, simplified, err := compose.Compose(compose.CreditNote(read(t, "testdata/simplified.json"), "S9", "2026-03-20"))
	require.NoError(t, err)
	require.Equal(t, "TD08", simplified.DocumentType)
}

// Whatever a file holds, composing ends with a document or an error, and a
// document is one that the checker takes.
func FuzzCompose(f *testing.F) {
	for _, name := range []string{"minimal", "simplified", "instalments_everything", "public_split_payment"} {
		raw, err := os.ReadFile("testdata/" + name + ".json")
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := compose.ReadRequest(raw)
		if err != nil {
			return
		}
		xml, report, err := compose.Compose(r)
		if err != nil {
			require.Nil(t, xml)
			var wrong *compose.Error
			require.ErrorAs(t, err, &wrong)
			for _, p := range wrong.Problems {
				require.True(t, strings.HasPrefix(p.Path, "$"), "found by the checker only: %v", p)
			}
			return
		}
		_, err = json.Marshal(report)
		require.NoError(t, err)
	})
}

// Buyers abroad are written by the conventions, the country once. Seven times X is no placeholder: it is the
// statutory CodiceDestinatario of buyers abroad.
func TestForeignBuyers(t *testing.T) {
	cases := []struct {
		country, number, kind, want, recipient string
	}{
		{"DE", "DE123456789", "", "123456789", "XXXXXXX"},
		{"DE", "123456789", "", "123456789", "XXXXXXX"},
		{"AT", "ATU12345678", "", "U12345678", "XXXXXXX"},
		{"GR", "EL123456789", "", "123456789", "XXXXXXX"},
		{"CH", "CHE-123.456.789", "", "CHE-123.456.789", "XXXXXXX"},
		{"US", "", "", "OO99999999999", "XXXXXXX"},
		{"US", "", compose.Consumer, "0000000", "XXXXXXX"},
		{"FR", "", compose.Consumer, "0000000", "XXXXXXX"},
	}
	for _, c := range cases {
		r := read(t, "testdata/foreign_business_eu.json")
		r.Buyer.Kind, r.Buyer.VATCountry, r.Buyer.VATNumber = c.kind, "", c.number
		r.Buyer.Address.Country = c.country
		xml, report, err := compose.Compose(r)
		require.NoError(t, err)
		require.Equal(t, c.recipient, report.RecipientCode)
		f, err := fatturapa.Parse(xml)
		require.NoError(t, err)
		id := f.Header.CessionarioCommittente.DatiAnagrafici.IdFiscaleIVA
		require.Equal(t, c.country+c.want, id.IdPaese+id.IdCodice)
		require.Equal(t, "00000", f.Header.CessionarioCommittente.Sede.CAP)
		require.Empty(t, f.Header.CessionarioCommittente.Sede.Provincia)
	}
}
