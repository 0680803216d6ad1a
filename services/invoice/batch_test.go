package invoice

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

func (w *world) batches() invoicev1.BatchServiceClient {
	return invoicev1.NewBatchServiceClient(w.Tenant("invoice", "acme"))
}

// uploading is one call of CreateInvoices that a test makes.
type uploading struct {
	t      *testing.T
	stream invoicev1.BatchService_CreateInvoicesClient
}

func (w *world) upload(t *testing.T, ctx context.Context, api invoicev1.BatchServiceClient, kind invoicev1.BatchKind, id string) *uploading {
	t.Helper()
	stream, err := api.CreateInvoices(ctx)
	require.NoError(t, err)
	u := &uploading{t, stream}
	u.send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Head{Head: &invoicev1.BatchHead{Parent: acmeMain, Kind: kind, RequestId: id}}})
	return u
}

func (u *uploading) send(req *invoicev1.CreateInvoicesRequest) {
	u.t.Helper()
	err := u.stream.Send(req)
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the server has answered, and close says what
		require.NoError(u.t, err)
	}
}

func (u *uploading) file(index int, name string, content []byte) {
	u.t.Helper()
	u.send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_File{
		File: &invoicev1.BatchUpload{Index: int64(index), FileName: name, Content: content, ExternalId: "ext-" + name}}})
}

func (u *uploading) chunk(at int, content []byte) {
	u.t.Helper()
	u.send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Chunk{
		Chunk: &invoicev1.ArchiveChunk{Offset: int64(at), Content: content}}})
}

func (u *uploading) archive(from int, raw []byte) {
	const chunk = 64 << 10
	for at := from; at < len(raw); at += chunk {
		u.chunk(at, raw[at:min(at+chunk, len(raw))])
	}
}

func (u *uploading) close() (*invoicev1.Batch, error) { return u.stream.CloseAndRecv() }

func (u *uploading) done() *invoicev1.Batch {
	u.t.Helper()
	b, err := u.close()
	require.NoError(u.t, err)
	return b
}

func (w *world) ends(api invoicev1.BatchServiceClient, name string) *invoicev1.Batch {
	w.t.Helper()
	var b *invoicev1.Batch
	w.eventually(func() bool {
		var err error
		b, err = api.GetBatch(w.t.Context(), &invoicev1.GetBatchRequest{Name: name})
		require.NoError(w.t, err)
		require.Equal(w.t, b.GetFiles(), b.GetWaiting()+b.GetCreated()+b.GetRefused()+b.GetDuplicates()+b.GetCancelled()+b.GetIgnored(), "counts add up at any time")
		return b.GetState() != invoicev1.BatchState_BATCH_STATE_UPLOADING && b.GetState() != invoicev1.BatchState_BATCH_STATE_RUNNING
	}, "%s ends", name)
	return b
}

func (w *world) files(api invoicev1.BatchServiceClient, name string) []*invoicev1.BatchFile {
	w.t.Helper()
	var all []*invoicev1.BatchFile
	token := ""
	for {
		page, err := api.ListBatchFiles(w.t.Context(), &invoicev1.ListBatchFilesRequest{Parent: name, PageSize: 7, PageToken: token})
		require.NoError(w.t, err)
		all = append(all, page.GetFiles()...)
		if token = page.GetNextPageToken(); token == "" {
			return all
		}
	}
}

func message(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("../format/sdi/testdata/messages/" + name)
	require.NoError(t, err)
	return raw
}

const (
	created   = invoicev1.BatchFileState_BATCH_FILE_STATE_CREATED
	refused   = invoicev1.BatchFileState_BATCH_FILE_STATE_REFUSED
	duplicate = invoicev1.BatchFileState_BATCH_FILE_STATE_DUPLICATE
	cancelled = invoicev1.BatchFileState_BATCH_FILE_STATE_CANCELLED
	ignored   = invoicev1.BatchFileState_BATCH_FILE_STATE_IGNORED
)

// mixedFiles are files of every kind with the outcome of each; w has an invoice with the number HELD.
func mixedFiles(t *testing.T) []struct {
	name    string
	content []byte
	state   invoicev1.BatchFileState
	code    string
} {
	foreign := fatturapatest.Invoice(fatturapatest.Options{Numero: "F1", Cedente: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(77), Denominazione: "Altri"}})
	invalid := []byte(strings.Replace(string(file("I1")), "<Divisa>EUR</Divisa>", "<Divisa>euro</Divisa>", 1))
	return []struct {
		name    string
		content []byte
		state   invoicev1.BatchFileState
		code    string
	}{
		{"a/1.xml", file("B1"), created, ""},
		{"a/2.xml", file("B2"), created, ""},
		{"a/again.xml", file("B1"), duplicate, "INVOICE_DUPLICATE"},
		{"a/held.xml", file("HELD1"), duplicate, "INVOICE_DUPLICATE"},
		{"a/invalid.xml", invalid, refused, "INVOICE_INVALID"},
		{"a/foreign.xml", foreign, refused, "SELLER_MISMATCH"},
		{"a/cut.xml", file("C1")[:400], refused, "INVOICE_UNREADABLE"},
		{"a/empty.xml", nil, refused, "INVOICE_UNREADABLE"},
		{"a/inner.zip", zipOf(t, zipMember{"x.xml", file("Z1"), nil}), refused, "ARCHIVE_NESTED"},
		{"a/large.xml", []byte(strings.Repeat("x", maxContent+1)), refused, "INVOICE_TOO_LARGE"},
		{"a/IT01234567890_00001_RC_001.xml", message(t, "pr_rc.xml"), ignored, ""},
		{"__MACOSX/a/._1.xml", []byte("x"), ignored, ""},
		{"a/.DS_Store", []byte("\x00\x00"), ignored, ""},
		{"a/readme.txt", []byte("ciao"), ignored, ""},
		{"a/1.pdf", []byte("%PDF-1.7"), ignored, ""},
		{"a/lot.xml", fileOf(fatturapatest.Options{Numero: "L1", Bodies: 3}), created, ""},
		{"a/without-ending", file("B3"), created, ""},
	}
}

func TestBatchOutcomes(t *testing.T) {
	w := start(t)
	api := w.batches()
	holder := w.create(file("HELD1"))
	mixed := mixedFiles(t)
	check := func(t *testing.T, b *invoicev1.Batch, prefix string) {
		files := w.files(api, b.GetName())
		require.Len(t, files, len(mixed), "nothing is dropped in silence")
		for i, want := range mixed {
			f := files[i]
			require.EqualValues(t, i, f.GetIndex())
			require.Equal(t, want.state, f.GetState(), "%s: %s %s", want.name, f.GetCode(), f.GetMessage())
			require.Equal(t, want.code, f.GetCode(), want.name)
			switch want.state {
			case created:
				inv := w.get(f.GetInvoice())
				require.Equal(t, b.GetName(), inv.GetBatch())
				require.Equal(t, invoicev1.InvoiceState_INVOICE_STATE_ACCEPTED, inv.GetState())
				require.Equal(t, prefix+want.name, prefix+f.GetFileName())
				w.eventually(func() bool {
					w.n.mu.Lock()
					defer w.n.mu.Unlock()
					ev := w.n.accepted[f.GetInvoice()]
					return ev != nil && w.n.envelopes[f.GetInvoice()].Correlation == last(f.GetInvoice())
				}, "%s is announced", f.GetInvoice())
				document, err := w.api.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: f.GetInvoice() + "/documents/original"})
				require.NoError(t, err)
				require.Equal(t, want.content, document.GetContent())
			case duplicate:
				require.NotEmpty(t, f.GetInvoice())
				require.Contains(t, f.GetMessage(), f.GetInvoice())
			default:
				require.NotEmpty(t, f.GetMessage(), want.name)
				require.Empty(t, f.GetInvoice())
			}
		}
		require.Equal(t, holder.GetName(), files[3].GetInvoice())
		require.Equal(t, files[0].GetInvoice(), files[2].GetInvoice())
		require.NotEmpty(t, files[4].GetViolations())
		require.Equal(t, []int64{17, 0, 4, 6, 2, 0, 5}, []int64{b.GetFiles(), b.GetWaiting(), b.GetCreated(), b.GetRefused(), b.GetDuplicates(), b.GetCancelled(), b.GetIgnored()})
		only, err := api.ListBatchFiles(t.Context(), &invoicev1.ListBatchFilesRequest{Parent: b.GetName(), State: duplicate})
		require.NoError(t, err)
		require.Len(t, only.GetFiles(), 2)
	}
	id := uuid.NewString()
	send := func(u *uploading) *invoicev1.Batch {
		for i, f := range mixed {
			u.file(i, f.name, f.content)
		}
		return u.done()
	}
	made := send(w.upload(t, t.Context(), api, 0, id))
	require.Equal(t, acmeMain+"/batches/"+id, made.GetName())
	require.EqualValues(t, len(mixed), made.GetReceivedFiles())
	check(t, w.ends(api, made.GetName()), "")

	before := w.count(`SELECT count(*) FROM invoice`)
	again := send(w.upload(t, t.Context(), api, invoicev1.BatchKind_BATCH_KIND_CREATE, id))
	require.Equal(t, invoicev1.BatchState_BATCH_STATE_DONE, again.GetState())
	require.Equal(t, before, w.count(`SELECT count(*) FROM invoice`), "a repeat makes nothing")
	logged := 0
	w.eventually(func() bool { logged = w.count(`SELECT count(*) FROM event`); return logged == before }, "each invoice has its line in the log")
}

func TestBatchOfArchive(t *testing.T) {
	w := start(t)
	api := w.batches()
	w.create(file("HELD1"))
	mixed := mixedFiles(t)
	var members []zipMember
	for _, f := range mixed {
		members = append(members, zipMember{f.name, f.content, nil})
	}
	raw := zipOf(t, members...)
	u := w.upload(t, t.Context(), api, 0, uuid.NewString())
	u.archive(0, raw)
	b := w.ends(api, u.done().GetName())
	require.Equal(t, invoicev1.BatchState_BATCH_STATE_DONE, b.GetState(), b.GetFailure())
	require.EqualValues(t, len(raw), b.GetReceivedBytes())
	files := w.files(api, b.GetName())
	require.Len(t, files, len(mixed))
	for i, want := range mixed {
		require.Equal(t, want.state, files[i].GetState(), "%s: %s", want.name, files[i].GetMessage())
		require.Equal(t, want.code, files[i].GetCode(), want.name)
		require.EqualValues(t, len(want.content), files[i].GetSize())
	}
	for _, raw := range [][]byte{[]byte("no archive at all"), zipOf(t)} {
		u := w.upload(t, t.Context(), api, 0, uuid.NewString())
		u.archive(0, raw)
		b := w.ends(api, u.done().GetName())
		require.Equal(t, invoicev1.BatchState_BATCH_STATE_FAILED, b.GetState())
		require.Contains(t, b.GetFailure(), "ARCHIVE_")
	}
}

// A broken upload keeps what came, goes on where it stopped, and takes nothing twice.
func TestUploadGoesOn(t *testing.T) {
	w := start(t)
	api := w.batches()
	id := uuid.NewString()
	name := acmeMain + "/batches/" + id
	ctx, drop := context.WithCancel(t.Context())
	u := w.upload(t, ctx, api, 0, id)
	for i := range 10 {
		u.file(i, fmt.Sprint(i), file(fmt.Sprint(i)))
	}
	w.eventually(func() bool {
		b, err := api.GetBatch(t.Context(), &invoicev1.GetBatchRequest{Name: name})
		return err == nil && b.GetReceivedFiles() == 10 && b.GetCreated() == 10
	}, "work begins while the upload goes on")
	u.file(10, "10", file("10"))
	drop()
	_, err := u.close()
	requireFault(t, err, "CANCELED", "", "")
	b, err := api.GetBatch(t.Context(), &invoicev1.GetBatchRequest{Name: name})
	require.NoError(t, err)
	require.Equal(t, invoicev1.BatchState_BATCH_STATE_UPLOADING, b.GetState())

	for _, tt := range []struct {
		what, code string
		act        func(u *uploading)
	}{
		{"other bytes", "UPLOAD_DIFFERS", func(u *uploading) { u.file(3, "3", file("other")) }},
		{"another name", "UPLOAD_DIFFERS", func(u *uploading) { u.file(3, "33", file("3")) }},
		{"a gap", "UPLOAD_GAP", func(u *uploading) { u.file(50, "50", file("50")) }},
		{"a chunk", "UPLOAD_MIXED", func(u *uploading) { u.chunk(0, []byte("PK")) }},
		{"a control character", "REQUEST_INVALID", func(u *uploading) {
			u.send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_File{
				File: &invoicev1.BatchUpload{Index: 11, FileName: "11", ExternalId: "a\x00b"}}})
		}},
		{"two heads", "UPLOAD_MIXED", func(u *uploading) {
			u.send(&invoicev1.CreateInvoicesRequest{Part: &invoicev1.CreateInvoicesRequest_Head{Head: &invoicev1.BatchHead{Parent: acmeMain, RequestId: id}}})
		}},
	} {
		u := w.upload(t, t.Context(), api, 0, id)
		tt.act(u)
		_, err := u.close()
		requireFault(t, err, tt.code, "", "")
		if tt.what == "other bytes" {
			require.ErrorContains(t, err, "file 3 (3)")
		}
	}
	u = w.upload(t, t.Context(), api, invoicev1.BatchKind_BATCH_KIND_CHECK, id)
	_, err = u.close()
	requireFault(t, err, "REQUEST_ID_REUSED", "", "")

	u = w.upload(t, t.Context(), api, 0, id)
	for i := 5; i < 300; i++ {
		u.file(i, fmt.Sprint(i), file(fmt.Sprint(i)))
	}
	b = w.ends(api, u.done().GetName())
	require.EqualValues(t, 300, b.GetCreated())
	require.Equal(t, 300, w.count(`SELECT count(*) FROM invoice`))

	u = w.upload(t, t.Context(), api, 0, id)
	u.file(300, "300", file("300"))
	_, err = u.close()
	requireFault(t, err, "BATCH_CLOSED", "", "")
	u = w.upload(t, t.Context(), api, 0, uuid.NewString())
	_, err = u.close()
	requireFault(t, err, "BATCH_EMPTY", "", "")
	stream, err := api.CreateInvoices(t.Context())
	require.NoError(t, err)
	_, err = stream.CloseAndRecv()
	requireFault(t, err, "UPLOAD_HEAD_MISSING", "", "")
}

func TestArchiveUploadGoesOn(t *testing.T) {
	w := start(t)
	api := w.batches()
	id := uuid.NewString()
	name := acmeMain + "/batches/" + id
	var members []zipMember
	for i := range 40 {
		members = append(members, zipMember{fmt.Sprintf("%d.xml", i), fileOf(fatturapatest.Options{Numero: fmt.Sprint(i), Size: 50_000}), func(h *zip.FileHeader) { h.Method = 0 }})
	}
	raw := zipOf(t, members...)
	ctx, drop := context.WithCancel(t.Context())
	u := w.upload(t, ctx, api, 0, id)
	u.archive(0, raw[:len(raw)/2])
	received := 0
	w.eventually(func() bool {
		b, err := api.GetBatch(t.Context(), &invoicev1.GetBatchRequest{Name: name})
		received = int(b.GetReceivedBytes())
		return err == nil && received == len(raw)/2
	}, "half the archive is durable")
	drop()

	u = w.upload(t, t.Context(), api, 0, id)
	u.chunk(received-1000, append([]byte("other"), raw[received-995:received]...))
	_, err := u.close()
	requireFault(t, err, "UPLOAD_DIFFERS", "", "")
	u = w.upload(t, t.Context(), api, 0, id)
	u.chunk(received+1, []byte("x"))
	_, err = u.close()
	requireFault(t, err, "UPLOAD_GAP", "", "")
	u = w.upload(t, t.Context(), api, 0, id)
	u.file(0, "1.xml", file("1"))
	_, err = u.close()
	requireFault(t, err, "UPLOAD_MIXED", "", "")

	u = w.upload(t, t.Context(), api, 0, id)
	u.archive(received-2500, raw)
	b := w.ends(api, u.done().GetName())
	require.EqualValues(t, 40, b.GetCreated(), b.GetFailure())
	require.EqualValues(t, len(raw), b.GetReceivedBytes())
}

func TestCheckOnly(t *testing.T) {
	w := start(t)
	api := w.batches()
	w.create(file("HELD1"))
	u := w.upload(t, t.Context(), api, invoicev1.BatchKind_BATCH_KIND_CHECK, uuid.NewString())
	u.file(0, "good.xml", file("1"))
	u.file(1, "held.xml", file("HELD1"))
	u.file(2, "cut.xml", file("2")[:300])
	b := w.ends(api, u.done().GetName())
	files := w.files(api, b.GetName())
	require.Equal(t, []invoicev1.BatchFileState{created, duplicate, refused}, []invoicev1.BatchFileState{files[0].GetState(), files[1].GetState(), files[2].GetState()})
	require.Empty(t, files[0].GetInvoice())
	require.Equal(t, 1, w.count(`SELECT count(*) FROM invoice`), "nothing is stored")
}

func TestCancelBatch(t *testing.T) {
	w := start(t)
	api := w.batches()
	id := uuid.NewString()
	u := w.upload(t, t.Context(), api, 0, id)
	for i := range 1200 {
		u.file(i, fmt.Sprint(i), file(fmt.Sprint(i)))
	}
	name := u.done().GetName()
	_, err := api.CancelBatch(t.Context(), &invoicev1.CancelBatchRequest{Name: name})
	require.NoError(t, err)
	b := w.ends(api, name)
	t.Logf("cancelled after %d of %d", b.GetCreated(), b.GetFiles())
	require.Contains(t, []invoicev1.BatchState{invoicev1.BatchState_BATCH_STATE_CANCELLED, invoicev1.BatchState_BATCH_STATE_DONE}, b.GetState())
	require.EqualValues(t, 1200, b.GetCreated()+b.GetCancelled())
	audited := map[invoicev1.BatchState]int{invoicev1.BatchState_BATCH_STATE_CANCELLED: 2, invoicev1.BatchState_BATCH_STATE_DONE: 1}
	require.Equal(t, audited[b.GetState()], w.count(`SELECT count(*) FROM audit_entry WHERE action IN ('batch.begin', 'batch.cancel') AND resource = $1`, name))
	time.Sleep(300 * time.Millisecond) // a run that was in the middle would show by now
	require.EqualValues(t, b.GetCreated(), w.count(`SELECT count(*) FROM invoice`), "invoices that were created stay, no other comes")
	require.EqualValues(t, b.GetCancelled(), w.count(`SELECT count(*) FROM batch_file WHERE state = $1`, fileCancelled))

	u = w.upload(t, t.Context(), api, 0, id)
	u.file(1200, "x", file("x"))
	_, err = u.close()
	requireFault(t, err, "BATCH_CLOSED", "", "")
	_, err = api.GetBatch(t.Context(), &invoicev1.GetBatchRequest{Name: acmeMain + "/batches/" + uuid.NewString()})
	requireFault(t, err, "BATCH_NOT_FOUND", "", "")
	_, err = invoicev1.NewBatchServiceClient(w.Tenant("invoice", "brio")).GetBatch(t.Context(), &invoicev1.GetBatchRequest{Name: name})
	requireFault(t, err, "FOREIGN_RESOURCE", "", "")
}

// Runs of the job that are cut off anywhere, and runs that overlap, make each invoice once.
func TestWorkCutOffAnywhere(t *testing.T) {
	w := start(t)
	api := w.batches()
	var members []zipMember
	const n = 1500
	for i := range n {
		members = append(members, zipMember{fmt.Sprintf("%d.xml", i), file(fmt.Sprint(i)), nil})
	}
	members = append(members, zipMember{"again.xml", file("7"), nil})
	id := uuid.New()
	u := w.upload(t, t.Context(), api, 0, id.String())
	u.archive(0, zipOf(t, members...))
	name := u.done().GetName()
	ghost := &batches{Service: w.s}
	job := &river.Job[workArgs]{Args: workArgs{Tenant: "acme", Batch: id}}
	cut := 0
	for ended := false; !ended; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(120))*time.Millisecond)
		if err := ghost.work(ctx, job); err != nil {
			cut++
		}
		cancel()
		b, err := api.GetBatch(t.Context(), &invoicev1.GetBatchRequest{Name: name})
		require.NoError(t, err)
		ended = b.GetState() != invoicev1.BatchState_BATCH_STATE_RUNNING
	}
	b := w.ends(api, name)
	t.Logf("%d runs were cut off", cut)
	require.Equal(t, invoicev1.BatchState_BATCH_STATE_DONE, b.GetState(), b.GetFailure())
	require.EqualValues(t, []int64{n, 1, 0}, []int64{b.GetCreated(), b.GetDuplicates(), b.GetRefused()})
	require.Equal(t, n, w.count(`SELECT count(*) FROM invoice`))
	require.Equal(t, n, w.count(`SELECT count(DISTINCT number) FROM invoice`))
	require.Equal(t, n, w.count(`SELECT count(*) FROM held_number`))
	require.Equal(t, n, w.count(`SELECT count(*) FROM batch_file WHERE state = $1 AND invoice_id IN (SELECT id FROM invoice)`, fileCreated))
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM event`) == n }, "each invoice has one line in the log")
}

func TestListBatches(t *testing.T) {
	w := start(t)
	api := w.batches()
	var names []string
	for i := range 5 {
		u := w.upload(t, t.Context(), api, 0, uuid.NewString())
		u.file(0, "x.xml", file(fmt.Sprint(i)))
		names = append(names, u.done().GetName())
	}
	page, err := api.ListBatches(t.Context(), &invoicev1.ListBatchesRequest{Parent: acmeMain, PageSize: 3})
	require.NoError(t, err)
	next, err := api.ListBatches(t.Context(), &invoicev1.ListBatchesRequest{Parent: acmeMain, PageSize: 3, PageToken: page.GetNextPageToken()})
	require.NoError(t, err)
	var got []string
	for _, b := range append(page.GetBatches(), next.GetBatches()...) {
		got = append([]string{b.GetName()}, got...)
	}
	require.Equal(t, names, got, "newest first")
	require.Empty(t, next.GetNextPageToken())
}

func last(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
