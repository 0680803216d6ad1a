package conservation

import (
	"bytes"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/xades"
)

// anyInvoice draws what an invoice may tell of itself: bodies and persons, foreigners and those without a code, long names, and what
// is no XML.
func anyInvoice(r *rapid.T) (facts, []db.UnitFile) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aÀ'\"<>&😀\x00\x1f\r\n\t \uFFFE")), 1, 60, -1)
	name := func(who string) string {
		return strings.Repeat(text.Draw(r, who), rapid.SampledFrom([]int{1, 1, 1, 1000}).Draw(r, who+" long"))
	}
	someone := func(who string) party {
		return party{
			Name:    name(who),
			VAT:     rapid.SampledFrom([]string{"IT01234567897", "DE123456789", "IT123", "", "OO99999999999"}).Draw(r, who+" vat"),
			TaxCode: rapid.SampledFrom([]string{"01234567897", "RSSMRA80A01H501U", "", "RSSMRALMALMHRLMU", "99012345678", "X123", "RSSMRA80A01H501"}).Draw(r, who+" code"),
		}
	}
	perhaps := func(who string) *person {
		if rapid.Bool().Draw(r, who+" is a person") {
			return &person{name(who + " first"), name(who + " last")}
		}
		return nil
	}
	f := facts{
		SdiID: rapid.SampledFrom([]string{"1", ""}).Draw(r, "sdi"), FileName: text.Draw(r, "file"), State: "DELIVERED",
		Signed: rapid.Bool().Draw(r, "signed"), Seller: someone("seller"), Buyer: someone("buyer"), SellerPerson: perhaps("seller"), BuyerPerson: perhaps("buyer"),
		Enveloped: rapid.Bool().Draw(r, "enveloped"), Office: rapid.SampledFrom([]string{"", "UFABC1"}).Draw(r, "office"), // of a public body, with its code and without
	}
	if rapid.Bool().Draw(r, "imported") {
		f.State, f.Imported, f.Received = stateImported, "01998c5e-0000-7000-8000-000000000001", rapid.Bool().Draw(r, "received")
	}
	for range rapid.IntRange(1, 4).Draw(r, "bodies") {
		f.Bodies = append(f.Bodies, body{Type: "TD01", Number: name("number"), Date: "2024-02-29"})
	}
	sum := sha256.Sum256([]byte(f.FileName))
	files := []db.UnitFile{{Role: "transmitted", FileName: f.FileName, Sha256: sum[:]}}
	for range rapid.IntRange(0, 3).Draw(r, "receipts") {
		files = append(files, db.UnitFile{Role: "receipt", ReceiptType: "RC", FileName: text.Draw(r, "receipt"), Sha256: sum[:]})
	}
	if rapid.Bool().Draw(r, "integration") && len(files) > 1 {
		f.Integrates, files = "AAAA", files[1:]
	}
	return f, files
}

func TestMetadataOfAnyInvoiceIsValid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		f, files := anyInvoice(r)
		raw := metadataOf(f, files)
		if !bytes.Equal(raw, metadataOf(f, files)) {
			r.Fatal("not deterministic")
		}
		dec := xml.NewDecoder(bytes.NewReader(raw))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.Fatalf("%v in %q", err, raw)
			}
		}
	})
}

// Test13_FiveHundredInvoices: xmllint finds the metadata files of five hundred invoices valid.
func Test13_FiveHundredInvoices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	invoices := rapid.Custom(func(r *rapid.T) []byte { return metadataOf(anyInvoice(r)) })
	var files []string
	for i := range 500 {
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".xml")))
		require.NoError(t, os.WriteFile(files[i], invoices.Example(i), 0o600))
	}
	lintAll(t, files, schema(t, "agid-allegato5", "DocumentoInformatico.xsd"))
}

// Test13_FiveHundredMessages is the same of messages of certified mail, their receipts and the registers of their days.
func Test13_FiveHundredMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aÀ'\"<>&😀\x00\x1f\r\n\t \uFFFE@")), 0, 60, -1)
	messages := rapid.Custom(func(r *rapid.T) []byte {
		long := rapid.SampledFrom([]int{1, 1, 1000}).Draw(r, "long")
		m := &mailFacts{Mailbox: "tenants/a/mailboxes/b", Address: text.Draw(r, "address"), Day: "2026-02-28", Count: 3}
		if rapid.IntRange(0, 9).Draw(r, "register") > 0 {
			m = &mailFacts{
				Message: "tenants/a/mailboxes/b/messages/c", Mailbox: m.Mailbox, Address: m.Address, Direction: rapid.SampledFrom([]string{"RECEIVED", "SENT"}).Draw(r, "direction"),
				Type:   rapid.SampledFrom([]string{"", "ordinaria", "posta-certificata", "errore", "accettazione", "avvenuta-consegna", "errore-consegna", "preavviso-errore-consegna", "non-accettazione", "presa-in-carico", "rilevazione-virus"}).Draw(r, "type"),
				Sender: text.Draw(r, "sender"), Recipients: rapid.SliceOfN(text, 0, 3).Draw(r, "recipients"), Title: strings.Repeat(text.Draw(r, "title"), long), ProviderID: text.Draw(r, "id"),
				Proven: rapid.Bool().Draw(r, "proven"), Provider: text.Draw(r, "provider"), Certified: rapid.SampledFrom([]string{"", "2026-02-28T10:00:00Z"}).Draw(r, "certified"), Day: m.Day,
			}
			if rapid.Bool().Draw(r, "about") {
				m.About, m.AboutSum = "tenants/a/mailboxes/b/messages/d", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
			}
			if rapid.IntRange(0, 20).Draw(r, "to many") == 0 {
				m.Recipients = slices.Repeat([]string{"a@b.test"}, mostRecipients+7)
			}
		}
		sum := sha256.Sum256([]byte(m.Title))
		raw := mailMetadata(facts{Mail: m, Bodies: []body{{Number: "n", Date: "2026-02-28"}}}, []db.UnitFile{{FileName: text.Draw(r, "file") + ".eml", Sha256: sum[:]}})
		if len(m.Recipients) > mostRecipients && !bytes.Contains(raw, []byte("Altri 7 destinatari")) {
			r.Fatal("recipients are left out in silence")
		}
		return raw
	})
	var files []string
	for i := range 500 {
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".xml")))
		require.NoError(t, os.WriteFile(files[i], messages.Example(i), 0o600))
	}
	lintAll(t, files, schema(t, "agid-allegato5", "DocumentoInformatico.xsd"))
}

// Test13_Parties: each of the parties that Allegato 5 has no simple place for, as it has to be written, and no identifier of anybody lost.
func Test13_Parties(t *testing.T) {
	t.Parallel()
	const pf = "<PF><Cognome>Rossi</Cognome><Nome>Mario</Nome>"
	mario := &person{"Mario", "Rossi"}
	var files []string
	dir := t.TempDir()
	for name, c := range map[string]struct {
		party
		person    *person
		want, not []string
	}{
		"company":                       {party{"Alfa", "IT01234567897", "01234567897"}, nil, []string{"<CodiceFiscale_PartitaIva>01234567897<"}, []string{"senza un elemento"}},
		"company with two codes":        {party{"Alfa", "IT01234567897", "98765432109"}, nil, []string{"<CodiceFiscale_PartitaIva>01234567897<", "98765432109"}, nil},
		"foreign VAT number":            {party{"Käufer", "DE123456789", ""}, nil, []string{"<ParoleChiave>DE123456789<"}, []string{"CodiceFiscale"}},
		"sole trader":                   {party{"Mario Rossi", "IT01234567897", "RSSMRA80A01H501U"}, mario, []string{pf + "<CodiceFiscale>RSSMRA80A01H501U</CodiceFiscale></PF>", "<ParoleChiave>01234567897<"}, nil},
		"homocode":                      {party{"Mario Rossi", "", "RSSMRALMALMHRLMU"}, mario, []string{pf + "<CodiceFiscale>RSSMRALMALMHRLMU<"}, nil},
		"sole trader of one name":       {party{"Ditta Rossi", "", "RSSMRA80A01H501U"}, nil, []string{"<PG><DenominazioneOrganizzazione>Ditta Rossi</DenominazioneOrganizzazione></PG>", "RSSMRA80A01H501U"}, []string{"CodiceFiscale"}},
		"provisional code":              {party{"Mario Rossi", "", "99012345678"}, mario, []string{pf + "</PF>", "<ParoleChiave>99012345678<"}, []string{"CodiceFiscale"}},
		"person from abroad":            {party{"Mario Rossi", "FR40303265045", ""}, mario, []string{pf + "</PF>", "<ParoleChiave>FR40303265045<"}, nil},
		"more codes than there is room": {party{"Mario Rossi", "FR40303265045", "OO99999999999"}, mario, []string{pf + "</PF>", "FR40303265045", "<ParoleChiave>OO99999999999<", "senza un elemento proprio: DE1."}, nil},
		"apostrophe and emoji":          {party{"D'Angelo 😀 & <figli>", "", ""}, nil, []string{"D'Angelo 😀 &amp; &lt;figli&gt;"}, nil},
	} {
		f := facts{
			SdiID: "1", FileName: "abc.xml", State: "DELIVERED", Seller: c.party, SellerPerson: c.person, Buyer: party{Name: "Comune", TaxCode: "80012345678", VAT: "DE1"}, Office: "UFABC1",
			Bodies: []body{{Type: "TD01", Number: "1", Date: "2024-02-29"}},
		}
		raw := string(metadataOf(f, []db.UnitFile{{Role: "transmitted", FileName: "abc.xml", Sha256: make([]byte, 32)}}))
		seller, rest, ok := strings.Cut(raw, "</Mittente>")
		require.True(t, ok)
		for _, want := range c.want {
			require.Contains(t, raw, want, name)
		}
		for _, not := range c.not {
			require.NotContains(t, strings.ReplaceAll(raw, rest[:strings.Index(rest, "</Destinatario>")], ""), not, name)
		}
		for _, id := range []string{strings.TrimPrefix(c.VAT, "IT"), c.TaxCode, "80012345678", "DE1"} {
			require.Contains(t, raw, id, name)
		}
		require.NotContains(t, seller, "PAI", name)
		require.Contains(t, rest, "(IPA): UFABC1.", name)
		files = append(files, filepath.Join(dir, fmt.Sprint(len(files), ".xml")))
		require.NoError(t, os.WriteFile(files[len(files)-1], []byte(raw), 0o600))
	}
	lintAll(t, files, schema(t, "agid-allegato5", "DocumentoInformatico.xsd"))
}

// Test13_WhatTheDocumentTells: names of persons in their parts, the office of a public body and a signature within the XML are read from the
// document itself, of what was issued and of what was received.
func Test13_WhatTheDocumentTells(t *testing.T) {
	t.Parallel()
	h, ctx := open(t, true), t.Context()
	who, err := h.ca.IssueReceiptSigner("Anna Conti")
	require.NoError(t, err)
	of := func(o fatturapatest.Options, names ...string) []byte {
		o.Cedente = fatturapatest.Party{Paese: "IT", Codice: "01234567897", CodiceFiscale: "RSSMRA80A01H501U", Denominazione: "DITTA"}
		raw := fatturapatest.Invoice(o)
		for _, n := range names {
			raw = bytes.ReplaceAll(raw, []byte("<Denominazione>DITTA</Denominazione>"), []byte(n))
		}
		return raw
	}
	const names = "<Nome>Mario</Nome><Cognome>D&#39;Angelò</Cognome>"
	signed, err := xades.Sign(ctx, of(fatturapatest.Options{Numero: "1"}), xades.Signer{Chain: who.Chain, Key: who.Key}, xades.Options{SigningTime: time.Now()})
	require.NoError(t, err)
	enveloped, err := h.service.signContent(ctx, "acme", "test/x", mimeXML, uuid.New(), of(fatturapatest.Options{Numero: "5"}, names))
	require.NoError(t, err)
	const person = "<PF><Cognome>D'Angelò</Cognome><Nome>Mario</Nome><CodiceFiscale>RSSMRA80A01H501U</CodiceFiscale></PF>"
	const company, unsigned = "<PG><DenominazioneOrganizzazione>", "<FirmatoDigitalmente>false<"
	for name, c := range map[string]struct {
		raw       []byte
		state     string
		want, not []string
	}{
		"XAdES":        {signed, "DELIVERED", []string{"<FirmatoDigitalmente>true<", "con firma XAdES", company}, []string{"CAdES", "IPA"}},
		"sole trader":  {of(fatturapatest.Options{Numero: "2"}, names), "DELIVERED", []string{person, unsigned}, []string{"XAdES"}},
		"p7m":          {enveloped, "DELIVERED", []string{person, "<FirmatoDigitalmente>true<", "busta CAdES"}, []string{"XAdES"}},
		"office":       {of(fatturapatest.Options{Numero: "3", Formato: "FPA12", CodiceDestinatario: "UFXYZ9"}), "PA_ACCEPTED", []string{"(IPA): UFXYZ9.", company, unsigned}, nil},
		"no office":    {of(fatturapatest.Options{Numero: "4", Formato: "FPA12", CodiceDestinatario: noOffice}), "PA_ACCEPTED", []string{company}, []string{"IPA"}},
		"no FatturaPA": {[]byte("<Cognome>x</Cognome>SignatureValue"), "DELIVERED", []string{company, unsigned}, []string{"XAdES"}},
	} {
		t.Run(name, func(t *testing.T) {
			ev := h.invoice(t, 100+len(name))
			ev.Transmitted, ev.State, ev.SellerName, ev.SellerVatNumber, ev.SellerTaxCode = h.put(t, string(c.raw)), "INVOICE_STATE_"+c.state, "Mario D'Angelò", "IT01234567897", "RSSMRA80A01H501U"
			if name == "p7m" {
				ev.FileName += ".p7m"
			}
			if c.state == "PA_ACCEPTED" {
				ev.Receipts = append(ev.Receipts, h.receipt(t, "NE", 100+len(name)))
			}
			h.settle(t, ctx, ev)
			subjects := []string{ev.GetInvoice()}
			if name != "no FatturaPA" { // one that nobody can read has no names
				in := h.received(t, fmt.Sprintf("300000%05d", len(name)), string(c.raw))
				if name == "p7m" {
					in.FileName += ".p7m"
				}
				h.deliver(t, in)
				subjects = append(subjects, in.GetInboundInvoice())
			}
			for _, subject := range subjects {
				h.unitOf(t, subject)
				text := h.metadata(t, subject)
				for _, want := range c.want {
					require.Contains(t, text, want)
				}
				for _, not := range c.not {
					require.NotContains(t, text, not)
				}
				file := filepath.Join(t.TempDir(), "metadati.xml")
				require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
				lint(t, file, reference(t, "agid-allegato5", "DocumentoInformatico.xsd"))
			}
		})
	}
}

// Test14_Impronta: the digests of metadata and index are the base64 of the raw SHA-256, as openssl gives it: of "abc" the known answer.
func Test14_Impronta(t *testing.T) {
	t.Parallel()
	const known = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=" // printf abc | openssl dgst -sha256 -binary | base64
	sum := sha256.Sum256([]byte("abc"))
	file := db.UnitFile{Role: "transmitted", FileName: "abc.xml", Sha256: sum[:]}
	raw := metadataOf(facts{SdiID: "1", FileName: "abc.xml", Seller: party{Name: "Alfa"}, Bodies: []body{{Type: "TD01", Number: "1", Date: "2024-02-29"}}}, []db.UnitFile{file})
	require.Contains(t, string(raw), "<Impronta>"+known+"</Impronta><Algoritmo>SHA-256</Algoritmo>")
	mail := mailMetadata(facts{Mail: &mailFacts{Message: "tenants/a/mailboxes/b/messages/c"}, Bodies: []body{{Number: "n", Date: "2026-01-01"}}}, []db.UnitFile{file})
	require.Contains(t, string(mail), "<Impronta>"+known+"</Impronta>")
	place := int32(1)
	group := member{unit: db.Unit{ID: uuid.New(), Class: classPrivate, Position: &place}, files: []db.UnitFile{file, {Role: "metadata", FileName: "metadati.xml", Sha256: sum[:]}}}.group()
	require.Equal(t, known, group.Files[0].Hash.Value)
	require.Equal(t, known, group.Metadata.Hash.Value)
}

func TestPartyCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		party
		italian string
		agents  []string
	}{
		{party{VAT: "IT01234567897"}, "01234567897", []string{"VATIT-01234567897"}},
		{party{VAT: "DE123456789"}, "", []string{"VATDE-123456789"}},
		{party{TaxCode: "RSSMRA80A01H501U"}, "", []string{"TINIT-RSSMRA80A01H501U"}},
		{party{TaxCode: "80012345678"}, "80012345678", []string{"TINIT-80012345678"}},
		{party{VAT: "IT-1"}, "", nil},
	} {
		require.Equal(t, c.italian, c.italianCode())
		require.Equal(t, c.agents, c.agentIDs())
	}
}
