package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

const (
	archiveFile = conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE
	indexOnly   = conservationv1.PackageFile_PACKAGE_FILE_INDEX
)

// unzip writes a package under a folder and gives the folder of the bag.
func unzip(t *testing.T, raw []byte, id string) (string, map[string][]byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	dir, files := t.TempDir(), map[string][]byte{}
	last := ""
	for _, f := range z.File {
		require.Less(t, last, f.Name, "names are in order, each once")
		last = f.Name
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		name, ok := strings.CutPrefix(f.Name, id+"/")
		require.True(t, ok, f.Name)
		files[name] = content
		target := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
		require.NoError(t, os.WriteFile(target, content, 0o600))
	}
	return dir, files
}

// judge verifies a package with means that are not ours: openssl, xmllint, and a count of the bag.
func (h *house) judge(t *testing.T, p *conservationv1.Package) map[string][]byte {
	t.Helper()
	return h.judgeBytes(t, p, h.download(t, p.GetName(), archiveFile))
}

func (h *house) judgeBytes(t *testing.T, p *conservationv1.Package, raw []byte) map[string][]byte {
	t.Helper()
	id := path.Base(p.GetName())
	sum := sha256.Sum256(raw)
	require.Equal(t, p.GetArchive().GetSha256(), sum[:])
	dir, files := unzip(t, raw, id)
	for _, list := range []string{"manifest-sha256.txt", "tagmanifest-sha256.txt"} {
		for _, line := range strings.Split(strings.TrimSpace(string(files[list])), "\n") {
			digest, name, ok := strings.Cut(line, "  ")
			require.True(t, ok, line)
			got := sha256.Sum256(files[name])
			require.Equal(t, digest, hex.EncodeToString(got[:]), name)
		}
	}
	tool(t, "env", "-C", dir, "sha256sum", "--check", "--strict", "--quiet", "manifest-sha256.txt", "tagmanifest-sha256.txt") // the bag, by others
	roots := filepath.Join(dir, "roots.pem")
	require.NoError(t, os.WriteFile(roots, h.ca.CertPEM(), 0o600))
	data := func(name string) string { return filepath.Join(dir, "data", name) }
	lint(t, data("PIndex.xml"), reference(t, "sincro", "PIndex-2020_parer.xsd"))
	tool(t, "openssl", "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", data("PIndex.xml.p7m"),
		"-CAfile", roots, "-purpose", "any", "-out", data("out.xml"))
	inside, err := os.ReadFile(data("out.xml"))
	require.NoError(t, err)
	require.Equal(t, string(files["data/PIndex.xml"]), string(inside))
	tool(t, "openssl", "ts", "-verify", "-in", data("PIndex.xml.p7m.tsr"), "-data", data("PIndex.xml.p7m"), "-CAfile", roots)

	// Every file of the index is in the bag with its digest, and every unit file is in the index.
	indexed := map[string]bool{}
	ours := func(name string, h sincro.Hash) {
		sum := sha256.Sum256(files["data/"+name])
		require.Equal(t, base64.StdEncoding.EncodeToString(sum[:]), h.Value, name)
		indexed["data/"+name] = true
	}
	_, err = sincro.Read(bytes.NewReader(files["data/PIndex.xml"]), func(g sincro.FileGroup) error {
		for _, f := range g.Files {
			ours(f.Path, f.Hash)
		}
		ours(g.Metadata.Path, g.Metadata.Hash)
		lint(t, data(g.Metadata.Path), reference(t, "agid-allegato5", "DocumentoInformatico.xsd"))
		return nil
	})
	require.NoError(t, err)
	for name := range files {
		if strings.HasPrefix(name, "data/units/") {
			require.True(t, indexed[name], "%s is in the bag and not in the index", name)
		}
	}
	return files
}

// folderOf finds the unit whose metadata hold text: units of one batch come in any order.
func folderOf(t *testing.T, files map[string][]byte, text string) string {
	t.Helper()
	for name, content := range files {
		if folder, ok := strings.CutSuffix(name, "metadati.xml"); ok && strings.Contains(string(content), text) {
			return folder
		}
	}
	t.Fatalf("no unit's metadata hold %q", text)
	return ""
}

func TestPackageIsSealedAndVerifiesWithoutUs(t *testing.T) {
	h := open(t, true)
	ctx, traceID := traced(1)
	first := h.invoice(t, 1)
	h.settle(t, ctx, first)
	signed := h.invoice(t, 2)
	signed.FileName, signed.State = "IT01234567897_00002.xml.p7m", "INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA"
	signed.Receipts = []*invoicev1.Receipt{h.receipt(t, "MC", 2)}
	lot := h.invoice(t, 3)
	lot.Bodies = append(lot.Bodies, &invoicev1.SettledBody{DocumentType: "TD04", Number: "4", IssueDate: "2026-10-06"})
	lot.SellerName, lot.SellerVatNumber, lot.SellerTaxCode = "Rossi\x01Mario", "", "RSSMRA80A01H501U"
	public := h.invoice(t, 4)
	public.State, public.Receipts = "INVOICE_STATE_PA_REFUSED", []*invoicev1.Receipt{h.receipt(t, "RC", 4), h.receipt(t, "NE", 4)}
	h.settle(t, context.Background(), signed, lot, public)
	h.await(t, "taken in charge", func() bool { taken, _, _ := h.counts(); return taken == 4 })

	p := h.closePackage(t)
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_CLOSED, p.GetState())
	require.EqualValues(t, 3, p.GetUnitCount(), "classes do not mix")
	p = h.awaitSealed(t, p.GetName())
	require.Empty(t, p.GetLastError())
	files := h.judge(t, p)
	require.Equal(t, "<FatturaElettronica n='2'/>", string(files[folderOf(t, files, "IT01234567897_00002.xml.p7m")+"doc.xml.p7m"]))
	require.Contains(t, files, folderOf(t, files, "IT01234567897_00002.xml.p7m")+"r01_MC.xml")
	require.Equal(t, "<FatturaElettronica n='1'/>", string(files[folderOf(t, files, ">IT01234567897_00001.xml<")+"doc.xml"]))
	for name := range files {
		require.NotContains(t, name, "01234567897", "names tell nothing")
	}
	require.Contains(t, string(files[folderOf(t, files, "Rossi\uFFFDMario")+"metadati.xml"]), "U+FFFD")

	h.await(t, "everybody told", func() bool { _, preserved, sealed := h.counts(); return preserved == 3 && sealed == 1 })
	require.Equal(t, p.GetName(), h.sealed[0].GetPackage())
	unit := h.units(t, first.GetInvoice())[0]
	require.Equal(t, conservationv1.UnitState_UNIT_STATE_PRESERVED, unit.GetState())
	require.Equal(t, p.GetName(), unit.GetPackage())
	require.Len(t, unit.GetFiles(), 3)
	found := 0
	for _, span := range h.spans.GetSpans() {
		if span.Name == "conservation.seal" && span.SpanContext.TraceID().String() == traceID {
			found++
			require.Len(t, span.Links, 1, "linked to the package's own trace")
		}
	}
	require.Equal(t, 1, found, "the unit's trace reaches the sealed package")

	members, err := h.client.ListUnits(context.Background(), &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Package: p.GetName()})
	require.NoError(t, err)
	require.Len(t, members.GetUnits(), 3)
	pa, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: "FISC-PA"})
	require.NoError(t, err)
	h.judge(t, h.awaitSealed(t, pa.GetName()))
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	discarded := h.invoice(t, 1)
	discarded.State, discarded.Receipts = "INVOICE_STATE_REJECTED", []*invoicev1.Receipt{h.receipt(t, "NS", 1)}
	hidden := h.invoice(t, 2)
	hidden.Receipts = append(hidden.Receipts, h.receipt(t, "NS", 2))
	h.settle(t, context.Background(), discarded, hidden)
	for _, ev := range []*invoicev1.InvoiceSettled{discarded, hidden} {
		h.await(t, "refused", func() bool { return len(h.units(t, ev.GetInvoice())) == 1 })
		unit := h.units(t, ev.GetInvoice())[0]
		require.Equal(t, conservationv1.UnitState_UNIT_STATE_REFUSED, unit.GetState())
		require.Contains(t, unit.GetProblem(), "SCARTATA_MAI_EMESSA")
	}
	_, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year})
	require.Equal(t, "NO_UNITS_WAITING", fault.Of(err).Code)
	require.Equal(t, fault.KindPrecondition, fault.Of(err).Kind)

	for code, spoil := range map[string]func(*invoicev1.InvoiceSettled){
		"UNIT_WITHOUT_RECEIPT": func(ev *invoicev1.InvoiceSettled) { ev.Receipts = nil },
		"UNIT_STATE":           func(ev *invoicev1.InvoiceSettled) { ev.State = "INVOICE_STATE_TRANSMITTED" },
		"UNIT_WITHOUT_KEY":     func(ev *invoicev1.InvoiceSettled) { ev.SdiId, ev.FileName = "", "" },
		"UNIT_WITHOUT_BODY":    func(ev *invoicev1.InvoiceSettled) { ev.Bodies = nil },
		"UNIT_DATE":            func(ev *invoicev1.InvoiceSettled) { ev.Bodies[0].IssueDate = "5/10/2026" },
		"UNIT_YEAR":            func(ev *invoicev1.InvoiceSettled) { ev.FiscalYear = 0 },
		"UNIT_WITHOUT_SELLER":  func(ev *invoicev1.InvoiceSettled) { ev.SellerName, ev.SellerTaxCode, ev.SellerVatNumber = "", "", "" },
		"NAME_INVALID":         func(ev *invoicev1.InvoiceSettled) { ev.Invoice = "tenants/other/companies/x/invoices/y" },
		"BLOB_MISMATCH":        func(ev *invoicev1.InvoiceSettled) { ev.Transmitted.Size++ },
		"BLOB_NOT_FOUND": func(ev *invoicev1.InvoiceSettled) {
			ev.Transmitted.Uri = strings.Replace(ev.Transmitted.Uri, hex.EncodeToString(ev.Transmitted.Sha256), strings.Repeat("ab", 32), 1)
			ev.Transmitted.Sha256 = bytes.Repeat([]byte{0xab}, 32)
		},
	} {
		ev := h.invoice(t, 100)
		spoil(ev)
		h.settle(t, context.Background(), ev)
		h.await(t, code, func() bool { return h.parked(t, code) == 1 })
	}
	require.Len(t, h.units(t, ""), 2, "nothing is left behind")
}

// TestDiscardedOrSettled: SdI's notice of discard and another outcome of the same document contradict each other, in whichever order
// they come. What is held stays as it was, and a person is told.
func TestDiscardedOrSettled(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h := open(t, true)
	discarding := func(ev *invoicev1.InvoiceSettled, n int) *invoicev1.InvoiceSettled {
		ev = proto.CloneOf(ev)
		ev.State, ev.Receipts = "INVOICE_STATE_REJECTED", append(ev.Receipts, h.receipt(t, "NS", n))
		return ev
	}
	conflicts := 0
	contested := func(t *testing.T, ev, late *invoicev1.InvoiceSettled) {
		before := h.units(t, ev.GetInvoice())
		require.Len(t, before, 1)
		h.settle(t, ctx, late)
		conflicts++
		h.await(t, "a person is told", func() bool { return h.parked(t, "UNIT_CONFLICT") == conflicts })
		after := h.units(t, ev.GetInvoice())
		require.Len(t, after, 1)
		require.True(t, proto.Equal(before[0], after[0]), "%v\n%v", before[0], after[0])
	}
	waiting, sealed, refused := h.invoice(t, 1), h.invoice(t, 2), h.invoice(t, 3)
	h.settle(t, ctx, sealed)
	h.await(t, "taken", func() bool { return len(h.units(t, sealed.GetInvoice())) == 1 })
	h.awaitSealed(t, h.closePackage(t).GetName())
	h.settle(t, ctx, waiting, discarding(refused, 3))
	h.await(t, "taken and refused", func() bool { return len(h.units(t, "")) == 3 })
	objects := len(objectsOn(t, h.disks[0]))

	t.Run("discarded while it waits", func(t *testing.T) { contested(t, waiting, discarding(waiting, 1)) })
	t.Run("discarded when it is sealed", func(t *testing.T) { contested(t, sealed, discarding(sealed, 2)) })
	t.Run("settled after it was discarded", func(t *testing.T) { contested(t, refused, refused) })
	t.Run("the same again is none", func(t *testing.T) {
		h.settle(t, ctx, discarding(refused, 3), waiting, sealed)
		h.settle(t, ctx, h.invoice(t, 4))
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 3 })
		require.Equal(t, conflicts, h.parked(t, "UNIT_CONFLICT"))
	})
	require.Len(t, objectsOn(t, h.disks[0]), objects+1, "nothing of the contradictions was stored")
	next := h.awaitSealed(t, h.closePackage(t).GetName())
	require.EqualValues(t, 2, next.GetUnitCount())
	h.judge(t, next)
}

// Test06_PublicBodies: what a public body accepts, refuses, leaves until its term is over, or never gets was issued: it is preserved with
// what SdI said of it. The event without that notice waits for a person and leaves nothing behind.
func Test06_PublicBodies(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	outcomes := []struct{ state, first, last, text string }{
		{"PA_ACCEPTED", "RC", "NE", "<Esito>EC01</Esito>"}, {"PA_REFUSED", "RC", "NE", "<Esito>EC02</Esito>"},
		{"PA_TERM_EXPIRED", "RC", "DT", "<Descrizione>quindici giorni</Descrizione>"}, {"ATTESTED", "MC", "AT", "<Hash>x</Hash>"},
	}
	events := make([]*invoicev1.InvoiceSettled, len(outcomes))
	for i, o := range outcomes {
		ev := h.invoice(t, i+1)
		last := h.receipt(t, o.last, i+1)
		last.Content = h.put(t, "<"+o.last+">"+o.text+"</"+o.last+">")
		ev.State, ev.Receipts = "INVOICE_STATE_"+o.state, []*invoicev1.Receipt{h.receipt(t, o.first, i+1), last}
		events[i] = ev
		without := proto.CloneOf(ev)
		without.Receipts = without.Receipts[:1]
		h.settle(t, context.Background(), without)
		h.await(t, "parked", func() bool { return h.parked(t, "UNIT_WITHOUT_RECEIPT") == i+1 })
	}
	require.Empty(t, h.units(t, ""))
	h.settle(t, context.Background(), events...)
	h.await(t, "taken in charge", func() bool { taken, _, _ := h.counts(); return taken == len(events) })
	p, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: "FISC-PA"})
	require.NoError(t, err)
	require.EqualValues(t, len(events), p.GetUnitCount())
	files := h.judge(t, h.awaitSealed(t, p.GetName()))
	for i, o := range outcomes {
		folder := folderOf(t, files, ">"+events[i].GetFileName()+"<")
		require.Contains(t, string(files[folder+"r02_"+o.last+".xml"]), o.text, o.state)
		require.Equal(t, fmt.Sprintf("<%s n='%d'/>", o.first, i+1), string(files[folder+"r01_"+o.first+".xml"]), o.state)
		require.Equal(t, conservationv1.UnitState_UNIT_STATE_PRESERVED, h.units(t, events[i].GetInvoice())[0].GetState())
	}
}

// Invoices issued elsewhere are kept without receipts, one unit each however their files are called.
func TestImported(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	imported := func(n int, change func(*invoicev1.InvoiceSettled)) *invoicev1.InvoiceSettled {
		ev := h.invoice(t, n)
		ev.SdiId, ev.Receipts, ev.State, ev.FileName, ev.Format = "", nil, "INVOICE_STATE_IMPORTED", "fattura.xml", "FPR12"
		change(ev)
		return ev
	}
	events := []*invoicev1.InvoiceSettled{
		imported(1, func(*invoicev1.InvoiceSettled) {}),
		imported(2, func(ev *invoicev1.InvoiceSettled) { ev.Received = true }),
		imported(3, func(ev *invoicev1.InvoiceSettled) { ev.Format = "FPA12" }),
		imported(4, func(ev *invoicev1.InvoiceSettled) {
			ev.Format, ev.FileName, ev.Transmitted.MediaType = "PDF", "fattura.pdf", mimePDF
		}),
	}
	h.settle(t, context.Background(), events...)
	for i, want := range []struct{ class, metadata string }{
		{"FISC", "<TipologiaDocumentale>Fattura attiva</TipologiaDocumentale>"},
		{"FISC", "<TipologiaDiFlusso>E</TipologiaDiFlusso>"},
		{"FISC-PA", "<TipologiaDiFlusso>U</TipologiaDiFlusso>"},
		{"FISC", "<Formato>PDF</Formato>"},
	} {
		h.await(t, "taken", func() bool { return len(h.units(t, events[i].GetInvoice())) == 1 })
		unit := h.units(t, events[i].GetInvoice())[0]
		require.Equal(t, conservationv1.UnitState_UNIT_STATE_TAKEN_IN_CHARGE, unit.GetState())
		require.Equal(t, want.class, unit.GetClass())
		require.Equal(t, events[i].GetTransmitted().GetSha256(), unit.GetFiles()[0].GetContent().GetSha256())
		var metadata string
		require.NoError(t, pgtest.Admin(t, h.DB("conservation")).QueryRow(context.Background(),
			`SELECT convert_from(content, 'UTF8') FROM unit_file WHERE unit_id = $1 AND role = 'metadata'`, last(unit.GetName())).Scan(&metadata))
		require.Contains(t, metadata, want.metadata)
		require.Contains(t, metadata, formedAcquired)
		require.Contains(t, metadata, "invoice:"+last(events[i].GetInvoice()))
	}
	h.settle(t, context.Background(), events...)
	require.Zero(t, h.parked(t, codeConflict))
}

func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func TestLateReceipts(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ev := h.invoice(t, 1)
	ev.State, ev.Receipts = "INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA", []*invoicev1.Receipt{h.receipt(t, "MC", 1)}
	h.settle(t, context.Background(), ev)
	h.await(t, "taken", func() bool { return len(h.units(t, ev.GetInvoice())) == 1 })
	more := proto.CloneOf(ev)
	more.State, more.Receipts = "INVOICE_STATE_DELIVERED", append(more.Receipts, h.receipt(t, "RC", 1))
	h.settle(t, context.Background(), more)
	h.await(t, "the unit grew before its package", func() bool { return len(h.units(t, ev.GetInvoice())[0].GetFiles()) == 4 })
	require.Len(t, h.units(t, ev.GetInvoice()), 1)

	sealed := h.awaitSealed(t, h.closePackage(t).GetName())
	before := h.download(t, sealed.GetName(), archiveFile)
	late := proto.CloneOf(more)
	late.Receipts = append(late.Receipts, h.receipt(t, "AT", 1))
	h.settle(t, context.Background(), late, proto.CloneOf(late))
	h.await(t, "integration", func() bool { return len(h.units(t, ev.GetInvoice())) == 2 })
	second := h.awaitSealed(t, h.closePackage(t).GetName())
	require.EqualValues(t, 1, second.GetUnitCount())
	files := h.judge(t, second)
	require.Contains(t, files, "data/units/u000001/r00_AT.xml")
	require.Contains(t, string(files["data/units/u000001/metadati.xml"]), "IdIdentificativoDocumentoPrimario")
	var related string
	_, err := sincro.Read(bytes.NewReader(files["data/PIndex.xml"]), func(g sincro.FileGroup) error {
		require.Equal(t, "integra", g.Relations[0].Type)
		related = g.Relations[0].Values[0]
		return nil
	})
	require.NoError(t, err)
	original := h.units(t, ev.GetInvoice())[1]
	require.Equal(t, path.Base(original.GetName()), related)
	require.Equal(t, before, h.download(t, sealed.GetName(), archiveFile), "the first package is as it was")
	require.Len(t, h.units(t, ev.GetInvoice()), 2)
}

func TestTwentyCloseAtOnce(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	const n = 50
	h.intake(t, n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var got []*conservationv1.Package
	for range 20 {
		wg.Go(func() {
			p, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, RequestId: uuid.NewString()})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				got = append(got, p)
			} else if fault.Of(err).Code != "NO_UNITS_WAITING" {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	require.Len(t, got, 1)
	require.EqualValues(t, n, got[0].GetUnitCount())
	h.awaitSealed(t, got[0].GetName())
	_, preserved, sealed := h.counts()
	h.await(t, "told once each", func() bool { _, preserved, sealed = h.counts(); return preserved >= n && sealed >= 1 })
	require.Equal(t, n, preserved)
	require.Equal(t, 1, sealed)
}

// Test21_ManyPackagesAtOnce: twenty close packages of at most seven while documents keep coming in. Each document is in one package, each
// package has places without gaps, numbers follow each other, and nothing is left.
func Test21_ManyPackagesAtOnce(t *testing.T) {
	t.Parallel()
	h, ctx := openWith(t, true, "  max_units: 7\n"), context.Background()
	const n, first = 150, 30
	h.intake(t, first)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := first; i < n; i++ {
			h.settle(t, ctx, h.invoice(t, i))
		}
	})
	asked := atomic.Int64{}
	for range 20 {
		wg.Go(func() {
			for {
				taken, _, _ := h.counts()
				p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, RequestId: uuid.NewString()})
				switch {
				case err == nil:
					asked.Add(1)
					if p.GetUnitCount() > 7 {
						t.Errorf("a package of %d", p.GetUnitCount())
					}
				case fault.Of(err).Code != "NO_UNITS_WAITING":
					t.Errorf("%v", err)
					return
				case taken >= n:
					return
				default:
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	require.GreaterOrEqual(t, asked.Load(), int64(3), "several packages were contended for")
	h.await(t, "each is preserved", func() bool { _, preserved, _ := h.counts(); return preserved >= n })
	time.Sleep(300 * time.Millisecond)
	_, preserved, _ := h.counts()
	require.Equal(t, n, preserved, "once each")
	list, err := h.client.ListPackages(ctx, &conservationv1.ListPackagesRequest{Parent: "tenants/acme", PageSize: 1000})
	require.NoError(t, err)
	in, total := map[string]string{}, 0
	for _, p := range list.GetPackages() {
		members, err := h.client.ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Package: p.GetName(), PageSize: 1000})
		require.NoError(t, err)
		require.Len(t, members.GetUnits(), int(p.GetUnitCount()))
		for _, u := range members.GetUnits() {
			require.Empty(t, in[u.GetName()], "in two packages")
			in[u.GetName()] = p.GetName()
		}
		total += int(p.GetUnitCount())
	}
	require.Equal(t, n, total)
	require.Len(t, in, n)
	var gaps, numbers int
	h.rowsOf(t, `SELECT count(*) FROM (SELECT package_id FROM unit GROUP BY package_id HAVING min(position) <> 1 OR max(position) <> count(*) OR count(DISTINCT position) <> count(*)) x`, &gaps)
	require.Zero(t, gaps, "places without gaps")
	h.rowsOf(t, `SELECT max(number) - count(*) FROM package`, &numbers)
	require.Zero(t, numbers, "numbers that follow each other")
}

func TestCloseIsRepeatable(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.intake(t, 2)
	req := &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, RequestId: uuid.NewString()}
	first, err := h.client.ClosePackage(context.Background(), req)
	require.NoError(t, err)
	again, err := h.client.ClosePackage(context.Background(), req)
	require.NoError(t, err)
	require.Equal(t, first.GetName(), again.GetName())
	req.FiscalYear++
	_, err = h.client.ClosePackage(context.Background(), req)
	require.Equal(t, "REQUEST_ID_REUSED", fault.Of(err).Code)
	req.RequestId, req.Class = uuid.NewString(), "OTHER"
	_, err = h.client.ClosePackage(context.Background(), req)
	require.Equal(t, "CLASS_UNKNOWN", fault.Of(err).Code)
}

func TestCrashAtEachStep(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	const n = 20
	h.intake(t, n)
	// Each step: it dies after the act (bytes stored, state not moved), then again with its
	// transaction rolled back, then it may pass.
	var mu sync.Mutex
	deaths, outputs := map[string]int{}, map[string][]result{}
	crashing := map[string]step{}
	for state, real := range steps {
		crashing[state] = step{
			name: real.name,
			act: func(s *Service, ctx context.Context, p db.Package) (result, error) {
				r, err := real.act(s, ctx, p)
				mu.Lock()
				defer mu.Unlock()
				outputs[state] = append(outputs[state], r)
				if err == nil && deaths[state] == 0 {
					deaths[state]++
					panic("killed after the act of " + real.name)
				}
				return r, err
			},
			keep: func(s *Service, ctx context.Context, tx pgx.Tx, p db.Package, r result) (int64, error) {
				moved, err := real.keep(s, ctx, tx, p, r)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && deaths[state] == 1 {
					deaths[state]++
					return 0, fault.Internal("KILLED", "killed before the commit of %s", real.name)
				}
				return moved, err
			},
		}
	}
	h.steps.set(crashing)
	p := h.closePackage(t)
	for range 4 { // and the same job several times at once
		require.NoError(t, h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			return h.service.jobs.InsertTx(ctx, tx, SealArgs{Tenant: "acme", Package: uuid.MustParse(path.Base(p.GetName()))}, nil)
		}))
	}
	sealed := h.awaitSealed(t, p.GetName())
	mu.Lock()
	for state := range steps {
		require.Equal(t, 2, deaths[state], state)
	}
	for _, deterministic := range []string{"CLOSED", "INDEXED", "STAMPED"} {
		for _, r := range outputs[deterministic] {
			require.Equal(t, outputs[deterministic][0].ref, r.ref, "%s: the same bytes each time", deterministic)
		}
	}
	mu.Unlock()
	h.judge(t, sealed)
	h.await(t, "told", func() bool { _, preserved, done := h.counts(); return preserved >= n && done >= 1 })
	time.Sleep(500 * time.Millisecond)
	_, preserved, done := h.counts()
	require.Equal(t, n, preserved)
	require.Equal(t, 1, done)
	list, err := h.client.ListPackages(context.Background(), &conservationv1.ListPackagesRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetPackages(), 1)
}

func TestOtherTenantsSeeNothing(t *testing.T) {
	t.Parallel()
	h, ctx := open(t, true), context.Background()
	h.intake(t, 1)
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	unit := h.units(t, "")[0]
	stranger := conservationv1.NewConservationServiceClient(h.Tenant("conservation", "other"))
	_, err := stranger.GetPackage(ctx, &conservationv1.GetPackageRequest{Name: p.GetName()})
	require.Equal(t, "FOREIGN_RESOURCE", fault.Of(err).Code)
	_, err = stranger.GetPackage(ctx, &conservationv1.GetPackageRequest{Name: strings.Replace(p.GetName(), "acme", "other", 1)})
	require.Equal(t, "PACKAGE_NOT_FOUND", fault.Of(err).Code)
	_, err = stranger.GetUnit(ctx, &conservationv1.GetUnitRequest{Name: strings.Replace(unit.GetName(), "acme", "other", 1)})
	require.Equal(t, "UNIT_NOT_FOUND", fault.Of(err).Code)
	list, err := stranger.ListUnits(ctx, &conservationv1.ListUnitsRequest{Parent: "tenants/other"})
	require.NoError(t, err)
	require.Empty(t, list.GetUnits())
	reader := conservationv1.NewConservationServiceClient(h.Tenant("conservation", "acme", "archive.read"))
	_, err = reader.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year})
	require.Equal(t, "SCOPE_MISSING", fault.Of(err).Code)
	err = h.DB("conservation").Tx(ctx, "other", func(ctx context.Context, tx pgx.Tx) error {
		for _, table := range []string{"unit", "unit_file", "package", "package_line"} {
			var n int
			require.NoError(t, tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n))
			require.Zero(t, n, table)
		}
		return nil
	})
	require.NoError(t, err)
	var acts int
	require.NoError(t, pgtest.Admin(t, h.DB("conservation")).QueryRow(ctx, `SELECT count(*) FROM audit_entry WHERE resource = $1`, p.GetName()).Scan(&acts))
	require.Equal(t, 2, acts, "close and seal")
	require.NotEmpty(t, h.download(t, p.GetName(), indexOnly))
}
