package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/tests/harness"
)

// TestJourney takes invoices through every outcome and checks what the customer can see and verify.
func TestJourney(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		hook := subscribe(ctx, t, c)

		outcomes := []struct {
			format, code string
			state        invoicev1.InvoiceState
			preserved    bool
			receipts     []string
		}{
			{"FPR12", "SBXRC00", invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, true, []string{"RC"}},
			{"FPR12", "SBXMC00", invoicev1.InvoiceState_INVOICE_STATE_AVAILABLE_IN_RESERVED_AREA, true, []string{"MC"}},
			{"FPR12", "SB00423", invoicev1.InvoiceState_INVOICE_STATE_REJECTED, false, []string{"NS"}},
			{"FPA12", "SBXEC1", invoicev1.InvoiceState_INVOICE_STATE_PA_ACCEPTED, true, []string{"RC", "NE"}},
			{"FPA12", "SBXEC2", invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED, true, []string{"RC", "NE"}},
			{"FPA12", "SBXDT0", invoicev1.InvoiceState_INVOICE_STATE_PA_TERM_EXPIRED, true, []string{"RC", "DT"}},
			{"FPA12", "SBXAT0", invoicev1.InvoiceState_INVOICE_STATE_ATTESTED, true, []string{"MC", "AT"}},
		}
		names := make([]string, len(outcomes))
		for i, o := range outcomes {
			names[i], err = c.Submit(ctx, o.format, o.code, fmt.Sprintf("J-%d", i))
			require.NoError(t, err)
		}
		for i, o := range outcomes {
			got, err := c.AwaitState(ctx, names[i], o.preserved, o.state)
			require.NoError(t, err, o.code)
			checkDocuments(ctx, t, c, got, o.receipts)
		}
		sealed := seal(ctx, t, c)
		require.EqualValues(t, 6, sealed.GetUnitCount(), "the discarded invoice was never issued and is not preserved")
		checkPackage(ctx, t, c, sealed)

		sent, err := c.Sent(ctx)
		require.NoError(t, err)
		require.Equal(t, harness.Sent{Accepted: len(outcomes)}, sent, "each was sent once")

		checkNotices(ctx, t, c, hook)
		checkTimeline(ctx, t, c, names[0])
		parked, err := c.Parked(ctx)
		require.NoError(t, err)
		require.Empty(t, parked)
	})
}

func subscribe(ctx context.Context, t *testing.T, c *harness.Customer) *harness.Receiver {
	t.Helper()
	hook, err := harness.NewReceiver()
	require.NoError(t, err)
	t.Cleanup(hook.Close)
	endpoint, err := c.Notification.CreateWebhookEndpoint(c.Ctx(ctx), &notificationv1.CreateWebhookEndpointRequest{
		Parent: c.Tenant, WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: hook.URL},
	})
	require.NoError(t, err)
	hook.SetSecret(endpoint.GetSecret())
	return hook
}

// checkDocuments verifies the signed file with openssl and looks for the receipts.
func checkDocuments(ctx context.Context, t *testing.T, c *harness.Customer, invoice *invoicev1.Invoice, receipts []string) {
	t.Helper()
	// What SdI says may be known before the signed file is: two services tell of them.
	for !hasSigned(invoice) {
		require.NoError(t, ctx.Err(), "%s has no signed file", invoice.GetName())
		time.Sleep(20 * time.Millisecond)
		var err error
		invoice, err = c.Invoices.GetInvoice(c.Ctx(ctx), &invoicev1.GetInvoiceRequest{Name: invoice.GetName()})
		require.NoError(t, err)
	}
	var original, signed []byte
	var got []string
	for _, d := range invoice.GetDocuments() {
		answer, err := c.Invoices.GetDocument(c.Ctx(ctx), &invoicev1.GetDocumentRequest{Name: d.GetName()})
		require.NoError(t, err)
		switch d.GetKind() {
		case invoicev1.DocumentKind_DOCUMENT_KIND_ORIGINAL:
			original = answer.GetContent()
		case invoicev1.DocumentKind_DOCUMENT_KIND_SIGNED:
			signed = answer.GetContent()
		case invoicev1.DocumentKind_DOCUMENT_KIND_RECEIPT:
			got = append(got, d.GetReceiptType())
		}
	}
	require.ElementsMatch(t, receipts, got)
	content := openssl(t, signed, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "IN", "-CAfile", c.Platform.SdI.CAFile, "-purpose", "any")
	require.True(t, bytes.Equal(original, content), "the signed file holds the original, byte for byte")
}

func hasSigned(invoice *invoicev1.Invoice) bool {
	return slices.ContainsFunc(invoice.GetDocuments(), func(d *invoicev1.Document) bool { return d.GetKind() == invoicev1.DocumentKind_DOCUMENT_KIND_SIGNED })
}

// openssl runs a command with IN replaced by a file of the input, and returns what it prints.
func openssl(t *testing.T, in []byte, arguments ...string) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(file, in, 0o600))
	for i := range arguments {
		if arguments[i] == "IN" {
			arguments[i] = file
		}
	}
	cmd := exec.Command("openssl", arguments...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	require.NoError(t, err, "openssl %s: %s (Debian package: openssl)", strings.Join(arguments, " "), errOut.String())
	return out
}

func seal(ctx context.Context, t *testing.T, c *harness.Customer) *conservationv1.Package {
	t.Helper()
	closed, err := c.Archive.ClosePackage(c.Ctx(ctx), &conservationv1.ClosePackageRequest{Parent: c.Tenant, FiscalYear: int32(time.Now().Year())})
	require.NoError(t, err)
	if public, err := c.Archive.ClosePackage(c.Ctx(ctx), &conservationv1.ClosePackageRequest{
		Parent: c.Tenant, FiscalYear: int32(time.Now().Year()), Class: "FISC-PA",
	}); err == nil {
		merged := awaitSealed(ctx, t, c, public.GetName())
		first := awaitSealed(ctx, t, c, closed.GetName())
		first.UnitCount += merged.GetUnitCount()
		return first
	}
	return awaitSealed(ctx, t, c, closed.GetName())
}

func awaitSealed(ctx context.Context, t *testing.T, c *harness.Customer, name string) *conservationv1.Package {
	t.Helper()
	for {
		p, err := c.Archive.GetPackage(c.Ctx(ctx), &conservationv1.GetPackageRequest{Name: name})
		require.NoError(t, err)
		if p.GetState() == conservationv1.PackageState_PACKAGE_STATE_SEALED {
			return p
		}
		require.NoError(t, ctx.Err(), "package %s is %s: %s", name, p.GetState(), p.GetLastError())
		time.Sleep(20 * time.Millisecond)
	}
}

// checkPackage verifies signature and time stamp of the index with openssl.
func checkPackage(ctx context.Context, t *testing.T, c *harness.Customer, p *conservationv1.Package) {
	t.Helper()
	files := map[conservationv1.PackageFile][]byte{}
	for _, f := range []conservationv1.PackageFile{
		conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE, conservationv1.PackageFile_PACKAGE_FILE_INDEX,
		conservationv1.PackageFile_PACKAGE_FILE_SIGNED_INDEX, conservationv1.PackageFile_PACKAGE_FILE_TIME_STAMP,
	} {
		stream, err := c.Archive.DownloadPackageFile(c.Ctx(ctx), &conservationv1.DownloadPackageFileRequest{Name: p.GetName(), File: f})
		require.NoError(t, err)
		for {
			part, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			files[f] = append(files[f], part.GetChunk()...)
		}
	}
	signed := files[conservationv1.PackageFile_PACKAGE_FILE_SIGNED_INDEX]
	index := openssl(t, signed, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", "IN", "-CAfile", c.Platform.SdI.CAFile, "-purpose", "any")
	require.True(t, bytes.Equal(files[conservationv1.PackageFile_PACKAGE_FILE_INDEX], index))
	data := filepath.Join(t.TempDir(), "signed")
	require.NoError(t, os.WriteFile(data, signed, 0o600))
	openssl(t, files[conservationv1.PackageFile_PACKAGE_FILE_TIME_STAMP], "ts", "-verify", "-data", data, "-in", "IN", "-CAfile", c.Platform.SdI.CAFile)
	require.True(t, bytes.HasPrefix(files[conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE], []byte("PK")))
}

// checkNotices compares what the customer was told with the log: every event, once, under its own id.
func checkNotices(ctx context.Context, t *testing.T, c *harness.Customer, hook *harness.Receiver) {
	t.Helper()
	differs := "the log was not read"
	for {
		events, err := c.Events(ctx)
		require.NoError(t, err, differs)
		require.NoError(t, harness.CheckLog(events))
		byID, types, forged := hook.Taken()
		require.Zero(t, forged)
		var untold []string
		for _, e := range events {
			id := e.GetName()[strings.LastIndex(e.GetName(), "/")+1:]
			switch byID[id] {
			case 0:
				untold = append(untold, e.GetType())
			case 1:
				require.Equal(t, e.GetType(), types[id])
			default:
				t.Fatalf("event %s was delivered %d times", id, byID[id])
			}
			delete(types, id)
		}
		// the archive's, each day, and of no invoice
		maps.DeleteFunc(types, func(_, kind string) bool { return kind == "preservation.log_stated" })
		// More told than the log has: what was added since it was read, or a fault.
		if len(untold) == 0 && len(types) == 0 {
			return
		}
		differs = fmt.Sprintf("of %d events in the log %d were delivered; not delivered: %q; delivered, not in the log: %q",
			len(events), len(byID), untold, slices.Collect(maps.Values(types)))
		time.Sleep(50 * time.Millisecond)
	}
}

// checkTimeline asks the command line tool for the journey and expects every service in it.
func checkTimeline(ctx context.Context, t *testing.T, c *harness.Customer, invoice string) {
	t.Helper()
	out, err := c.Platform.CLI(ctx, c.Key, c.Tenant, "trace", invoice, "--format", "json")
	require.NoError(t, err)
	var timeline struct {
		TraceID string   `json:"trace_id"`
		Missing []string `json:"missing"`
		Moments []struct{ Service, What string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &timeline))
	require.Empty(t, timeline.Missing)
	require.Len(t, timeline.TraceID, 32)
	services := map[string]bool{}
	for _, m := range timeline.Moments {
		services[m.Service] = true
	}
	for _, service := range []string{"invoice", "signer", "sdi-gateway", "conservation", "notification"} {
		require.True(t, services[service], "%s is missing in %s", service, out)
	}
}

// TestRefusals sends what must be refused and looks that nothing was left behind.
func TestRefusals(t *testing.T) {
	inBothModes(t, func(t *testing.T, p *harness.Platform) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := p.Onboard(ctx, 1)
		require.NoError(t, err)
		other, err := p.Onboard(ctx, 2)
		require.NoError(t, err)
		good := c.XML("FPR12", "SBXRC00", "R-1")
		bomb := `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>`
		for _, bad := range []struct {
			name    string
			content []byte
		}{
			{"not XML", []byte("Hello")},
			{"truncated", good[:len(good)/2]},
			{"6 MB", append(bytes.Repeat([]byte(" "), 6_000_000), good...)},
			{"entity bomb", []byte(bomb)},
			{"wrong root", []byte(`<?xml version="1.0"?><Fattura xmlns="http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"/>`)},
			{"wrong namespace", bytes.Replace(good, []byte("http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"), []byte("urn:other"), 1)},
			{"seller is somebody else", other.XML("FPR12", "SBXRC00", "R-1")},
		} {
			_, err := c.Invoices.CreateInvoice(c.Ctx(ctx), &invoicev1.CreateInvoiceRequest{Parent: c.Company, Content: bad.content, RequestId: uuid.NewString()})
			require.Contains(t, []codes.Code{codes.InvalidArgument, codes.FailedPrecondition}, status.Code(err), "%s: %v", bad.name, err)
			require.Greater(t, len(status.Convert(err).Message()), 20, "%s: the message explains", bad.name)
		}
		call := func(key, parent string, content []byte, id string) error {
			_, err := c.Invoices.CreateInvoice(harness.As(ctx, key), &invoicev1.CreateInvoiceRequest{Parent: parent, Content: content, RequestId: id})
			return err
		}
		require.Equal(t, codes.Unauthenticated, status.Code(call("cl_test_wrong", c.Company, good, uuid.NewString())))
		require.Contains(t, []codes.Code{codes.PermissionDenied, codes.NotFound}, status.Code(call(other.Key, c.Company, good, uuid.NewString())), "a foreign key")
		require.Contains(t, []codes.Code{codes.PermissionDenied, codes.NotFound}, status.Code(call(c.Key, "tenants/nobody/companies/main", good, uuid.NewString())))

		id := uuid.NewString()
		require.NoError(t, call(c.Key, c.Company, good, id))
		require.NoError(t, call(c.Key, c.Company, good, id), "the same request again is the same answer")
		require.Equal(t, codes.AlreadyExists, status.Code(call(c.Key, c.Company, c.XML("FPR12", "SBXRC00", "R-2"), id)), "the same request id with another body")
		require.Equal(t, codes.AlreadyExists, status.Code(call(c.Key, c.Company, good, uuid.NewString())), "the same invoice number twice")

		list, err := c.Invoices.ListInvoices(c.Ctx(ctx), &invoicev1.ListInvoicesRequest{Parent: c.Tenant + "/companies/-"})
		require.NoError(t, err)
		require.Len(t, list.GetInvoices(), 1, "what was refused left nothing behind")

		key, err := c.Tenancy.CreateApiKey(c.Ctx(ctx), &tenancyv1.CreateApiKeyRequest{Parent: c.Tenant, ApiKey: &tenancyv1.ApiKey{Scopes: []string{"invoices.read"}}})
		require.NoError(t, err)
		require.Equal(t, codes.PermissionDenied, status.Code(call(key.GetSecret(), c.Company, c.XML("FPR12", "SBXRC00", "R-3"), uuid.NewString())), "a key that may only read")
		_, err = c.Tenancy.RevokeApiKey(c.Ctx(ctx), &tenancyv1.RevokeApiKeyRequest{Name: key.GetName()})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, err := c.Invoices.ListInvoices(harness.As(ctx, key.GetSecret()), &invoicev1.ListInvoicesRequest{Parent: c.Company})
			return status.Code(err) == codes.Unauthenticated
		}, time.Minute, 100*time.Millisecond, "a revoked key")
		// A reader of one tenant sees nothing of another.
		mine, err := other.Invoices.ListInvoices(other.Ctx(ctx), &invoicev1.ListInvoicesRequest{Parent: other.Tenant + "/companies/-"})
		require.NoError(t, err)
		require.Empty(t, mine.GetInvoices())
	})
}
