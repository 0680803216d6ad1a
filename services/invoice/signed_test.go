package invoice

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/xades"
)

// hand signs as a customer does who has a signature of their own.
type hand struct {
	t    *testing.T
	pair cmstest.Pair
}

func newHand(t *testing.T, change ...func(*x509.Certificate)) hand {
	change = append([]func(*x509.Certificate){func(c *x509.Certificate) { c.NotBefore = time.Now().AddDate(-3, 0, 0) }}, change...)
	return hand{t, cmstest.New(t).Issue(t, "Maria Rossi", cmstest.NewECDSA(t), change...)}
}

func (h hand) p7m(content []byte, at time.Time) []byte {
	h.t.Helper()
	out, err := cades.Sign(h.t.Context(), content, cades.Signer{Chain: h.pair.Chain, Key: h.pair.Key}, cades.Options{SigningTime: at})
	require.NoError(h.t, err)
	return out
}

// plain is an envelope without the attributes of CAdES.
func (h hand) plain(content []byte, at time.Time) []byte {
	h.t.Helper()
	out, err := cms.Sign(h.t.Context(), content, h.pair.Key, cms.Options{Certificate: h.pair.Cert, SigningTime: at})
	require.NoError(h.t, err)
	return out
}

func (h hand) xml(content []byte) []byte {
	h.t.Helper()
	out, err := xades.Sign(h.t.Context(), content, xades.Signer{Chain: h.pair.Chain, Key: h.pair.Key}, xades.Options{SigningTime: time.Now().Add(-time.Minute)})
	require.NoError(h.t, err)
	return out
}

// What comes signed is sent as it is, whatever the policy of the company.
func TestSignedFilesAreSentAsTheyAre(t *testing.T) {
	w := start(t)
	h, before := newHand(t), time.Now().Add(-time.Minute)
	unsigned := fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(2), Denominazione: "x"}
	for name, c := range map[string]struct {
		parent    string
		content   []byte
		media     string
		extension string
	}{
		"DER":                {acmeMain, h.p7m(fileOf(fatturapatest.Options{Numero: "1", Formato: "FPA12"}), before), mediaP7M, ".xml.p7m"},
		"Base64":             {acmeMain, []byte(base64.StdEncoding.EncodeToString(h.p7m(file("2"), before))), mediaP7M, ".xml.p7m"},
		"XAdES":              {acmeMain, h.xml(fileOf(fatturapatest.Options{Numero: "3", Formato: "FPA12"})), mediaXML, ".xml"},
		"policy always":      {"tenants/acme/companies/twin", h.p7m(file("4"), before), mediaP7M, ".xml.p7m"},
		"policy always, XML": {"tenants/acme/companies/twin", h.xml(file("5")), mediaXML, ".xml"},
		"policy none":        {"tenants/acme/companies/unsigned", h.p7m(fileOf(fatturapatest.Options{Numero: "6", Formato: "FPA12", Cedente: unsigned}), before), mediaP7M, ".xml.p7m"},
	} {
		inv, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: c.parent, Content: c.content})
		require.NoError(t, err, name)
		w.eventually(func() bool { w.n.mu.Lock(); defer w.n.mu.Unlock(); return w.n.accepted[inv.GetName()] != nil }, "accepted")
		w.n.mu.Lock()
		ev := w.n.accepted[inv.GetName()]
		w.n.mu.Unlock()
		require.False(t, ev.GetSign(), name)
		require.Equal(t, c.media, ev.GetOriginal().GetMediaType(), name)
		require.Equal(t, c.media, inv.GetDocuments()[0].GetMediaType(), name)
		require.Contains(t, inv.GetDocuments()[0].GetFileName(), c.extension, name)
		require.Equal(t, string(c.content), w.original(inv), name)
	}
}

func TestSignaturesThatSdIWouldRefuse(t *testing.T) {
	w := start(t)
	h, before := newHand(t), time.Now().Add(-time.Minute)
	good := h.p7m(file("1"), before)
	flip := func(raw []byte, what string) []byte {
		at := bytes.Index(raw, []byte(what))
		require.Positive(t, at)
		out := bytes.Clone(raw)
		out[at] ^= 1
		return out
	}
	pemOf := pem.EncodeToMemory(&pem.Block{Type: "PKCS7", Bytes: good})
	for name, c := range map[string]struct {
		content      []byte
		code, reason string
	}{
		"content altered": {flip(good, "Acme"), "SIGNATURE_INVALID", "00102"},
		"XML altered":     {bytes.Replace(h.xml(file("1")), []byte("<Numero>1<"), []byte("<Numero>2<"), 1), "SIGNATURE_INVALID", "00102"},
		"no time":         {h.plain(file("1"), time.Time{}), "SIGNATURE_INVALID", "00103"},
		"in the future":   {h.p7m(file("1"), time.Now().Add(48*time.Hour)), "SIGNATURE_INVALID", "00105"},
		"expired":         {newHand(t, func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(-1, 0, 0) }).p7m(file("1"), time.Now().AddDate(-2, 0, 0)), "SIGNATURE_INVALID", "00100"},
		"wrong usage":     {newHand(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }).p7m(file("1"), before), "SIGNATURE_INVALID", "00107"},
		"no BES":          {h.plain(file("1"), before), "SIGNATURE_INVALID", "00107"},
		"for logging in":  {newHand(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }).p7m(file("1"), before), "SIGNATURE_INVALID", "00107"},
		"PEM":             {pemOf, "SIGNATURE_INVALID", "ENVELOPE_PEM"},
		"nested":          {h.p7m(good, before), "SIGNATURE_INVALID", "ENVELOPE_NESTED"},
		"cut":             {good[:len(good)-200], "INVOICE_UNREADABLE", "ENVELOPE"},
		"no invoice":      {h.p7m([]byte("hello"), before), "INVOICE_UNREADABLE", "NOT_XML"},
		"not a number":    {h.p7m(bytes.Replace(file("1"), []byte("<Numero>1<"), []byte("<Numero><"), 1), before), "INVOICE_INVALID", "00200"},
	} {
		_, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: c.content})
		require.Error(t, err, name)
		t.Logf("%s: %v", name, err)
		requireFault(t, err, c.code, "content", c.reason)
	}
	w.nothingBehind()
}
