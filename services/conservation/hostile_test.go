package conservation

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"os/exec"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/pdd"
)

// test45HostileTextIsInert: script in every field, file name and document stays text, and names stay in the package.
func test45HostileTextIsInert(t *testing.T, h *house, units map[string]string) {
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{Units: []string{units["hostile"]}, Purpose: hostile})
	catalog := inert(t, raw)
	require.Len(t, catalog.Documents, 1)
	require.Contains(t, catalog.Documents[0].Buyer.Name, "<script>", "it is shown as it is")
	require.Contains(t, catalog.Documents[0].File, "documenti/")
	require.Equal(t, ".bin", path.Ext(catalog.Documents[0].File), "nothing that a browser would run keeps its ending")

	worst := h.hostileUnits(t)
	_, raw = h.exhibit(t, &conservationv1.CreateDistributionRequest{Units: worst, Purpose: hostile})
	catalog = inert(t, raw)
	require.Len(t, catalog.Documents, len(worst))
	shown, err := json.Marshal(catalog)
	require.NoError(t, err)
	require.GreaterOrEqual(t, bytes.Count(shown, []byte("onerror=alert(2)")), 6*len(worst), "all of it is shown as it is: %s", shown)
	dir, _ := unpack(t, raw)
	roots, _ := h.rootsFile(t)
	out, good := script(t, dir, roots)
	require.True(t, good, out)
	for _, unit := range worst {
		report, err := h.reader().GetIntegrityReport(context.Background(), &conservationv1.GetIntegrityReportRequest{Name: unit})
		require.NoError(t, err)
		require.True(t, report.GetIntact(), "%s", report.GetContent())
		inertPage(t, unit, report.GetPage())
	}
}

// inert wants every page, script and name of a distribution to be what we wrote, whatever texts are in it, and gives its catalogue.
func inert(t *testing.T, raw []byte) (catalog pdd.Catalog) {
	t.Helper()
	_, files := unpack(t, raw)
	safe := regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)
	lower := map[string]bool{}
	views := 0
	for name, content := range files {
		require.Regexp(t, safe, name)
		require.NotContains(t, name, "..")
		require.False(t, lower[strings.ToLower(name)], "%s differs in case only", name)
		lower[strings.ToLower(name)] = true
		switch path.Ext(name) {
		case ".html":
			inertPage(t, name, content)
			page := strings.ToLower(string(content))
			require.Contains(t, page, "content-security-policy")
			require.Contains(t, page, "default-src 'none'")
			if strings.HasPrefix(name, "viste/") {
				views++
				require.Contains(t, page, "copia di consultazione — non è l'originale")
				require.NotContains(t, page, "<script")
			}
		case ".js":
			require.NotContains(t, string(content), "<script")
			require.NotContains(t, string(content), "</")
			require.NotContains(t, string(content), "\u2028")
		}
	}
	require.Positive(t, views)
	data := bytes.TrimSuffix(bytes.TrimPrefix(files[pdd.DataFile], []byte("var PDD = ")), []byte(";\n"))
	require.NoError(t, json.Unmarshal(data, &catalog))
	return catalog
}

// inertPage wants nothing in a page that runs or leads away, as another program reads it.
func inertPage(t testing.TB, name string, page []byte) {
	t.Helper()
	text := strings.ToLower(string(page))
	require.NotContains(t, text, "<script>", name)
	require.NotContains(t, text, "<img src=x", name)
	require.NotRegexp(t, `(src|href|action)="(https?:)?//`, text, name)
	const active = `count(//@*[starts-with(name(), "on")]) + count(//script[not(@src)]) + count(//script[normalize-space(.) != ""]) + count(//img | //iframe | //frame | //object | //embed | //svg | //base | //form[@action]) +
		count(//@*[(name() = "src" or name() = "href" or name() = "action" or name() = "formaction") and (contains(., ":") or starts-with(., "/") or contains(., ".."))]) + count(//meta[@http-equiv = "refresh"])`
	cmd := exec.Command("xmllint", "--html", "--nonet", "--nowarning", "--xpath", active, "-")
	cmd.Stdin = bytes.NewReader(page)
	out, err := cmd.Output()
	require.NoError(t, err, name)
	require.Equal(t, "0", strings.TrimSpace(string(out)), "%s has something that runs or leads away:\n%s", name, page)
}

// leaf is an element of an invoice that has nothing but text in it.
var leaf = regexp.MustCompile(`<([A-Za-z]+)>([^<>]+)</`)

// hostileUnits are documents that are hostile in every field that a sender, a receiver or a producer can fill: an invoice whose event is, and
// whose texts are; one in which each element is, so that it is hardly an invoice any more; and a deposit.
func (h *house) hostileUnits(t *testing.T) (names []string) {
	t.Helper()
	ctx := context.Background()
	var escaped bytes.Buffer
	require.NoError(t, xml.EscapeText(&escaped, []byte(hostile)))
	spoil := func(which func(element string) bool) string {
		raw := fatturapatest.Invoice(fatturapatest.Options{Numero: "9/A"})
		spoiled := leaf.ReplaceAllFunc(raw, func(found []byte) []byte {
			if element := string(leaf.FindSubmatch(found)[1]); which(element) {
				return []byte("<" + element + ">" + escaped.String() + "</")
			}
			return found
		})
		require.Greater(t, bytes.Count(spoiled, escaped.Bytes()), 5, "%s", spoiled)
		return string(spoiled)
	}
	texts := spoil(func(element string) bool {
		return strings.Contains(" Denominazione Nome Cognome Indirizzo Comune Causale Descrizione Numero RiferimentoNormativo ", " "+element+" ")
	})
	for i, content := range []string{texts, spoil(func(string) bool { return true })} {
		ev := h.invoice(t, 950+i)
		ev.FiscalYear, ev.Transmitted = year-2, h.put(t, content)
		ev.SdiId += hostile
		ev.FileName = "a" + hostile + ".xml"
		ev.SellerName, ev.SellerVatNumber, ev.SellerTaxCode = "Cedente "+hostile, hostile, hostile
		ev.BuyerName, ev.BuyerVatNumber, ev.BuyerTaxCode = "Cliente "+hostile, hostile, hostile
		ev.Bodies[0].Number, ev.Bodies[0].DocumentType = hostile, "TD01"+hostile
		ev.Receipts[0].FileName = "../" + hostile + ".svg"
		ev.Receipts = append(ev.Receipts, &invoicev1.Receipt{Type: "AT" + hostile, FileName: hostile + ".html", Content: h.put(t, "<AT>"+escaped.String()+"</AT>")})
		h.settle(t, ctx, ev)
		h.await(t, "taken", func() bool { return len(h.units(t, ev.GetInvoice())) == 1 })
		names = append(names, h.units(t, ev.GetInvoice())[0].GetName())
	}
	p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year - 2})
	require.NoError(t, err)
	h.judge(t, h.awaitSealed(t, p.GetName()))

	content := []byte("testo <script>alert(4)</script>" + hostile + "\n")
	head := headOf("ostile", "'\"><img src=x onerror=alert(2)>.txt", content)
	head.FiscalYear = year - 2
	d := head.GetDocument()
	d.Type, d.Title, d.Number, d.Note, d.Version = hostile, hostile, hostile, hostile, hostile[:50]
	d.Keywords = []string{hostile, "javascript:alert(5)"}
	d.Classification.Index, d.Classification.Description, d.Classification.Plan = hostile, hostile, "javascript:alert(6)"
	d.Aggregations[0].Id = hostile
	d.Agents[0].FirstName, d.Agents[0].LastName = hostile, hostile
	d.Agents[1].Name, d.Agents[2].Name = hostile, hostile
	deposit := hand(t, h.producer(), head, content)
	require.Equal(t, accepted, deposit.GetState(), deposit.GetProblems())
	p, err = h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year - 2, Class: "ALTRO"})
	require.NoError(t, err)
	h.judge(t, h.awaitSealed(t, p.GetName()))
	return append(names, deposit.GetUnit())
}
