package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what other preservers wrote
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
)

// packageHead hands a package over: its index says the rest.
func packageHead(key string, content []byte) *conservationv1.DepositHead {
	head := headOf(key, key+".zip", content)
	head.Kind, head.Document, head.Class = conservationv1.DepositKind_DEPOSIT_KIND_PACKAGE, nil, "FISC"
	return head
}

func zipped(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var raw bytes.Buffer
	w := zip.NewWriter(&raw)
	for name, content := range files {
		f, err := w.Create(name)
		require.NoError(t, err)
		_, err = f.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return raw.Bytes()
}

// idc2010 is an index of the first edition as another preserver writes one: digests in hex, paths beside the index.
func idc2010(document, metadata, extra string) string {
	one, two := sha1.Sum([]byte(document)), sha256.Sum256([]byte(metadata)) //nolint:gosec // see above
	return `<?xml version="1.0" encoding="UTF-8"?><IdC xmlns="http://www.uni.com/U3011/sincro/" xmlns:s="http://www.uni.com/U3011/sincro/">` +
		`<SelfDescription><ID>idx-2011</ID><CreatingApplication><Name>Vecchio</Name><Version>3</Version><Producer>Altro Conservatore S.p.A.</Producer></CreatingApplication></SelfDescription>` +
		`<VdC><ID>vdc-2011</ID></VdC><FileGroup><Label>Verbale</Label>` +
		`<File s:encoding="binary" s:format="text/plain"><ID>1</ID><Path>./doc%20uno.txt</Path><Hash s:function="SHA-1">` + hex.EncodeToString(one[:]) + `</Hash></File>` +
		`<MoreInfo s:XMLScheme="x.xsd"><ExternalMetadata s:format="application/xml"><ID>2</ID><Path>meta.xml</Path><Hash s:function="SHA-256">` + base64.StdEncoding.EncodeToString(two[:]) + `</Hash></ExternalMetadata></MoreInfo>` +
		`</FileGroup><Process><Agent s:type="organization" s:role="OtherRole"><AgentName><FormalName>Gamma S.r.l.</FormalName></AgentName><Agent_ID s:scheme="VATRegistrationNumber">VATIT-09876543217</Agent_ID></Agent>` +
		`<TimeReference><TimeInfo>2011-05-04T10:00:00+02:00</TimeInfo></TimeReference></Process>` + extra + `</IdC>`
}

const oldMetadata = `<DocumentoInformatico><TipologiaDocumentale>Verbale di assemblea</TipologiaDocumentale><DatiDiRegistrazione><TipoRegistro><Nessuno><DataDocumento>2011-05-02</DataDocumento><NumeroDocumento>7</NumeroDocumento></Nessuno></TipoRegistro></DatiDiRegistrazione><Soggetti><Ruolo><Autore><PF><Cognome>Neri</Cognome><Nome>Ada</Nome></PF></Autore></Ruolo></Soggetti><NomeDelDocumento>verbale.txt</NomeDelDocumento></DocumentoInformatico>`

// TestImports: packages of other preservers are read, verified, kept as they came, and found by what is in them.
func TestImports(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	api, ctx := h.producer(), context.Background()
	const text = "Verbale del 2 maggio\n"
	good := map[string]string{"pkg/IdC.xml": idc2010(text, oldMetadata, ""), "pkg/doc uno.txt": text, "pkg/meta.xml": oldMetadata}

	t.Run("PIndex2020", func(t *testing.T) { // our own package, into an archive that never saw it
		shelve(t, h)
		p, err := h.client.ListPackages(ctx, &conservationv1.ListPackagesRequest{Parent: "tenants/acme"})
		require.NoError(t, err)
		raw := h.download(t, p.GetPackages()[0].GetName(), conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE)
		before := searchAll(t, h)
		d := hand(t, api, packageHead("nostro", raw), raw)
		require.Equal(t, accepted, d.GetState(), d.GetProblems())
		require.Contains(t, string(d.GetVerification()), "PIndex.xml.p7m: holds")
		require.NotContains(t, string(d.GetVerification()), `"time_stamp": ""`)
		after := searchAll(t, h)
		for line, n := range before {
			if strings.Contains(line, "TD01") {
				require.Equal(t, 2*n, after[line], "the same is found: %s\nof %v", line, after)
			}
		}
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		require.NoError(t, err)
		files, changed := map[string]string{}, ""
		for _, e := range z.File {
			content, err := readEntry(e, 1<<20)
			require.NoError(t, err)
			if changed == "" && strings.HasSuffix(e.Name, "/doc.xml") {
				changed = path.Join(path.Base(path.Dir(e.Name)), "doc.xml")
				flip(content)
			}
			files[e.Name] = string(content)
		}
		spoiled := zipped(t, files)
		d = hand(t, api, packageHead("nostro-guasto", spoiled), spoiled)
		require.Equal(t, refused, d.GetState())
		require.Contains(t, d.GetProblems()[0].GetMessage(), changed)

		// An index that was written anew, beside the signature of the one that it was.
		for _, e := range z.File {
			content, err := readEntry(e, 1<<20)
			require.NoError(t, err)
			if strings.HasSuffix(e.Name, "/PIndex.xml") {
				content = bytes.Replace(content, []byte("Version>"), []byte("Version> "), 1)
			}
			files[e.Name] = string(content)
		}
		anew := zipped(t, files)
		d = hand(t, api, packageHead("nostro-rifatto", anew), anew)
		require.Equal(t, refused, d.GetState(), string(d.GetVerification()))
		require.Contains(t, d.GetProblems()[0].GetMessage(), "PIndex.xml.p7m signs another index")

		// A second file with the name of the first, which some programs unpack over it, and which calls itself a folder.
		var twice bytes.Buffer
		w, second := zip.NewWriter(&twice), &zip.FileHeader{Name: z.File[0].Name}
		for _, e := range z.File {
			require.NoError(t, w.Copy(e))
		}
		second.SetMode(fs.ModeDir | 0o755)
		f, err := w.CreateHeader(second)
		require.NoError(t, err)
		_, err = f.Write([]byte("<y/>"))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		d = hand(t, api, packageHead("nostro-due-volte", twice.Bytes()), twice.Bytes())
		require.Equal(t, refused, d.GetState(), string(d.GetVerification()))
		require.Contains(t, d.GetProblems()[0].GetMessage(), "calls itself a folder")
	})
	t.Run("Test18_IdC2010", func(t *testing.T) {
		raw := zipped(t, good)
		d := hand(t, api, packageHead("vecchio-1", raw), raw)
		require.Equal(t, accepted, d.GetState(), d.GetProblems())
		var v verified
		require.NoError(t, json.Unmarshal(d.GetVerification(), &v))
		require.Equal(t, "UNI 11386:2010", v.Standard)
		require.Equal(t, 2, v.Files)
		require.Contains(t, strings.Join(v.Notes, "\n"), "SHA-1")
		found, err := h.reader().SearchDocuments(ctx, &conservationv1.SearchDocumentsRequest{Parent: "tenants/acme", Query: field(conservationv1.SearchField_SEARCH_FIELD_NAME, "neri ada")})
		require.NoError(t, err)
		require.Len(t, found.GetDocuments(), 1)
		doc := found.GetDocuments()[0]
		require.Equal(t, []string{"Verbale di assemblea", "7", "2011-05-02", "verbale.txt", d.GetUnit()}, []string{doc.GetDocumentType(), doc.GetNumber(), doc.GetDate(), doc.GetFileName(), doc.GetUnit()})
		u, err := h.client.GetUnit(ctx, &conservationv1.GetUnitRequest{Name: d.GetUnit()})
		require.NoError(t, err)
		sum := sha256.Sum256(raw)
		require.Equal(t, sum[:], u.GetFiles()[0].GetContent().GetSha256(), "as it came")
		require.NotContains(t, string(d.GetVerification()), "breaks the schema")
	})
	t.Run("Test18_SchemaOf2010", func(t *testing.T) { // the indexes that the tests hand over are what the schema admits, and what they call broken is what it refuses
		of2010 := schema(t, "sincro", "IdC-2010_parer.xsd")
		judge := func(raw []byte) (string, error) {
			file := filepath.Join(t.TempDir(), "IdC.xml")
			require.NoError(t, os.WriteFile(file, raw, 0o600))
			out, err := exec.Command("xmllint", "--nonet", "--noout", "--schema", of2010, file).CombinedOutput()
			return string(out), err
		}
		said, err := judge([]byte(idc2010(text, oldMetadata, "")))
		require.NoError(t, err, said)
		for name, content := range realIndexes(t) {
			said, err = judge(content)
			f, read := sincro.ReadForeign(content)
			require.NoError(t, read, name)
			if name == "verSerie.xml" {
				require.NoError(t, err, said)
				require.Empty(t, f.Deviation)
				continue
			}
			require.ErrorContains(t, err, "exit status 3", "it is no document of that schema: %s", said)
			require.Contains(t, said, "Signature': This element is not expected")
			require.Len(t, f.Deviation, 1, "and so says the reader")
			require.Contains(t, f.Deviation[0], "Signature")
		}
	})
	t.Run("Test18_RealIndexes", func(t *testing.T) { realPackages(t, h, api) })
	t.Run("Test18_EnvelopedSignature", func(t *testing.T) { // breaks the schema; its content is verified all the same
		who, err := h.ca.IssueReceiptSigner("Responsabile della conservazione")
		require.NoError(t, err)
		index, err := xades.Sign(ctx, []byte(idc2010(text, oldMetadata, "")), xades.Signer{Chain: who.Chain, Key: who.Key}, xades.Options{SigningTime: time.Now()})
		require.NoError(t, err)
		files := map[string]string{"IdC.xml": string(index), "doc uno.txt": text, "meta.xml": oldMetadata}
		raw := zipped(t, files)
		d := hand(t, api, packageHead("vecchio-2", raw), raw)
		require.Equal(t, accepted, d.GetState(), d.GetProblems())
		require.Contains(t, string(d.GetVerification()), "breaks the schema")
		require.Contains(t, string(d.GetVerification()), "IdC.xml: holds")

		// One that is there must hold: of other bytes, or none at all.
		for name, broken := range map[string]string{
			"changed": strings.Replace(string(index), "Altro Conservatore", "Alto Conservatore", 1),
			"empty":   idc2010(text, oldMetadata, `<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/>`),
		} {
			require.NotEqual(t, string(index), broken)
			files["IdC.xml"] = broken
			raw = zipped(t, files)
			d = hand(t, api, packageHead("vecchio-"+name, raw), raw)
			require.Equal(t, refused, d.GetState(), name)
			require.Contains(t, d.GetProblems()[0].GetMessage(), "does not hold", name)
		}
	})
	t.Run("Refused", func(t *testing.T) {
		for i, change := range []func(map[string]string){
			func(f map[string]string) { f["pkg/doc uno.txt"] = "altro" },
			func(f map[string]string) { delete(f, "pkg/meta.xml") },
			func(f map[string]string) { delete(f, "pkg/IdC.xml") },
			func(f map[string]string) { f["../x"] = "y" },
			func(f map[string]string) { f["pkg/IdC.xml"] = strings.Replace(f["pkg/IdC.xml"], "SHA-1", "MD5", 1) },
		} {
			files := map[string]string{}
			for k, v := range good {
				files[k] = v
			}
			change(files)
			raw := zipped(t, files)
			d := hand(t, api, packageHead(fmt.Sprintf("rotto-%d", i), raw), raw)
			require.Equal(t, refused, d.GetState(), i)
			require.Equal(t, problemPackage, problemCodes(d)[0])
		}
	})
}

// realIndexes are indexes that the archive of a region made: as they are, signed inside, and the signature by itself.
func realIndexes(t testing.TB) map[string][]byte {
	t.Helper()
	root, err := devenv.Root()
	require.NoError(t, err)
	found := map[string][]byte{}
	for _, name := range []string{"verSerie.xml", "verSerie_signed.xml"} {
		raw, err := os.ReadFile(filepath.Join(root, "..", "shared", "reference", "conservation", "samples", "sincro2010", name))
		if errors.Is(err, fs.ErrNotExist) {
			t.Skipf("%s is not beside this checkout (../shared/reference/conservation/samples): that real indexes are read is not shown", name)
		}
		require.NoError(t, err)
		found[name] = raw
	}
	return found
}

// realPackages hands real indexes over, of which the one file is not to be had: its digest is all there is of it.
func realPackages(t *testing.T, h *house, api conservationv1.DepositServiceClient) {
	real := realIndexes(t)
	judged := func(key string, files map[string]string) (*conservationv1.Deposit, verified) {
		raw := zipped(t, files)
		d := hand(t, api, packageHead(key, raw), raw)
		var v verified
		require.NoError(t, json.Unmarshal(d.GetVerification(), &v))
		require.Equal(t, sincro.Edition2010, v.Standard)
		require.Equal(t, "Sacer 4.5.4-SNAPSHOT", v.Program)
		return d, v
	}
	const volume = "urn:IndiceVolumeSerie-PARER_TEST:ente_test:Test_serie:Fattura_attiva-2015:1"
	const deviates = "the index breaks the schema of UNI 11386:2010: Signature is no element of the standard at that place; its files were compared all the same"
	missing := volume + " is in the index and not in the package"
	signed, plain := string(real["verSerie_signed.xml"]), string(real["verSerie.xml"])

	// The signature of 2019 holds over the index; what the index names is missed, or found to be something else.
	d, v := judged("serie", map[string]string{"IdC.xml": signed})
	require.Equal(t, refused, d.GetState())
	require.Equal(t, "IdC.xml: holds", v.Signature)
	require.Equal(t, []string{deviates}, v.Notes)
	require.Equal(t, []string{missing}, v.Problems)
	d, v = judged("serie-altra", map[string]string{"IdC.xml": signed, volume: "<altro/>"})
	require.Equal(t, refused, d.GetState())
	require.Equal(t, "IdC.xml: holds", v.Signature)
	require.Equal(t, []string{volume + " does not have the digest that the index gives it"}, v.Problems)
	require.Contains(t, strings.Join(v.Notes, "\n"), "SHA-1")
	d, v = judged("serie-semplice", map[string]string{"IdC.xml": plain})
	require.Equal(t, refused, d.GetState())
	require.Equal(t, []string{"no signature of the index is in the package"}, v.Notes)
	require.Equal(t, []string{missing}, v.Problems)
	d, v = judged("serie-cambiata", map[string]string{"IdC.xml": strings.Replace(signed, "<AnniConservazione>2<", "<AnniConservazione>9<", 1)})
	require.Equal(t, refused, d.GetState())
	require.Equal(t, "IdC.xml: does not hold", v.Signature)
	require.Contains(t, strings.Join(v.Problems, "\n"), `what "#xpointer(/)" refers to is not what was signed`)

	// The same index of a volume that there is, signed again: its content is verified, and it is taken in.
	who, err := h.ca.IssueReceiptSigner("Responsabile della conservazione")
	require.NoError(t, err)
	content := "<volume/>"
	sum := sha1.Sum([]byte(content)) //nolint:gosec // what that archive wrote
	index, err := xades.Sign(context.Background(), []byte(strings.Replace(plain, "b54de55d777825b9e24fa1816fe6aaf008265972", hex.EncodeToString(sum[:]), 1)),
		xades.Signer{Chain: who.Chain, Key: who.Key}, xades.Options{SigningTime: time.Now()})
	require.NoError(t, err)
	d, v = judged("serie-intera", map[string]string{"IdC.xml": string(index), volume: content})
	require.Equal(t, accepted, d.GetState(), d.GetProblems())
	require.Equal(t, "IdC.xml: holds", v.Signature)
	require.Empty(t, v.Problems)
	require.Contains(t, v.Notes, deviates)
	require.Equal(t, []int{1, 1, len(content)}, []int{v.Groups, v.Files, int(v.Bytes)})
}

// searchAll counts what is found by what people see of it.
func searchAll(t testing.TB, h *house) map[string]int { return searchOf(t, h, "acme") }

func searchOf(t testing.TB, h *house, tenant string) map[string]int {
	t.Helper()
	api := conservationv1.NewExhibitionServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: tenant, Scopes: []string{"archive.read"}})))
	lines := map[string]int{}
	for token := ""; ; {
		page, err := api.SearchDocuments(context.Background(), &conservationv1.SearchDocumentsRequest{Parent: "tenants/" + tenant, PageSize: 1000, PageToken: token})
		require.NoError(t, err)
		for _, d := range page.GetDocuments() {
			lines[fmt.Sprint(d.GetDocumentType(), d.GetNumber(), d.GetDate(), d.GetSeller(), d.GetBuyer(), d.GetSdiId(), d.GetFileName(), d.GetClass(), d.GetFiscalYear(), d.GetState())]++
		}
		if token = page.GetNextPageToken(); token == "" {
			return lines
		}
	}
}
