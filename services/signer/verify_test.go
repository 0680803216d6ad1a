package signer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

// outside is an authority with an OCSP responder, and one who signs.
type outside struct {
	pki       *cmstest.PKI
	responder *httptest.Server
	status    int
	reason    int
	answer    int // of HTTP; 0: 200
	asked     atomic.Int64
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{pki: cmstest.New(t), status: ocsp.Good}
	o.responder = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		defer o.asked.Add(1)
		if o.answer > http.StatusOK {
			w.WriteHeader(o.answer)
			return
		}
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		now := time.Now()
		der, err := ocsp.CreateResponse(o.pki.Root, o.pki.Root, ocsp.Response{
			Status: o.status, SerialNumber: q.SerialNumber, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour), RevokedAt: now.Add(-time.Hour), RevocationReason: o.reason,
		}, o.pki.Key)
		if err == nil {
			_, _ = w.Write(der)
		}
	}))
	t.Cleanup(o.responder.Close)
	return o
}

func (o *outside) signer(t *testing.T) cades.Signer {
	pair := o.pki.Issue(t, "Maria <b>Rossi</b>", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.OCSPServer = []string{o.responder.URL} })
	return cades.Signer{Chain: pair.Chain, Key: pair.Key}
}

// answer is all that Verify sent.
type answer struct {
	report  *signv1.VerificationReport
	views   map[signv1.ReportView][]byte
	content []byte
}

func verify(t *testing.T, api signv1.VerificationServiceClient, head *signv1.VerifyHead, file, content []byte) (*answer, error) {
	t.Helper()
	stream, err := api.Verify(t.Context())
	require.NoError(t, err)
	if head != nil {
		err = stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_Head{Head: head}})
	}
	for len(file) > 0 && err == nil {
		n := min(len(file), 1000)
		err = stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_FileChunk{FileChunk: file[:n]}})
		file = file[n:]
	}
	if content != nil && err == nil {
		err = stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_ContentChunk{ContentChunk: content}})
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if !errors.Is(err, io.EOF) {
		require.NoError(t, err)
	}
	a := &answer{views: map[signv1.ReportView][]byte{}}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, err
		}
		switch part := m.GetPart().(type) {
		case *signv1.VerifyResponse_Report:
			a.report = part.Report
		case *signv1.VerifyResponse_View:
			a.views[part.View.GetView()] = append(a.views[part.View.GetView()], part.View.GetData()...)
		case *signv1.VerifyResponse_ContentChunk:
			a.content = append(a.content, part.ContentChunk...)
		}
	}
}

func TestVerifyJudgesWhatOthersSigned(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.pki.Root.Raw}), 0o600))
	h := openWith(t, nil, fmt.Sprintf("  verification: {roots_file: %q, allow_networks: [127.0.0.0/8], max_size: 200000}\n", roots))
	api := signv1.NewVerificationServiceClient(h.Tenant("signer", "acme", "documents.verify"))
	who := o.signer(t)
	doc := []byte("<doc>Pay 100 euro</doc>")
	sum := sha256.Sum256(doc)
	at := cades.Options{SigningTime: cmstest.Now}
	p7m, err := cades.Sign(t.Context(), doc, who, at)
	require.NoError(t, err)
	p7s, err := cades.SignDetached(t.Context(), sum[:], who, at)
	require.NoError(t, err)
	xml, err := xades.Sign(t.Context(), doc, xades.Signer{Chain: who.Chain, Key: who.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	revokedBy := o.signer(t)
	head := func() *signv1.VerifyHead { return &signv1.VerifyHead{Parent: "tenants/acme", FileName: "a.p7m"} }

	for name, c := range map[string]struct {
		file, content []byte
		verdict       signv1.Verdict
		sub           string
	}{
		"p7m":              {p7m, nil, signv1.Verdict_VERDICT_TOTAL_PASSED, ""},
		"XML":              {xml, nil, signv1.Verdict_VERDICT_TOTAL_PASSED, ""},
		"detached":         {p7s, doc, signv1.Verdict_VERDICT_TOTAL_PASSED, ""},
		"detached, alone":  {p7s, nil, signv1.Verdict_VERDICT_INDETERMINATE, "SIGNED_DATA_NOT_FOUND"},
		"detached, other":  {p7s, []byte("other"), signv1.Verdict_VERDICT_TOTAL_FAILED, "HASH_FAILURE"},
		"changed":          {bytes.Replace(p7m, []byte("100"), []byte("900"), 1), nil, signv1.Verdict_VERDICT_TOTAL_FAILED, "HASH_FAILURE"},
		"cut off":          {p7m[:300], nil, signv1.Verdict_VERDICT_TOTAL_FAILED, "FORMAT_FAILURE"},
		"another's anchor": {foreign(t, doc), nil, signv1.Verdict_VERDICT_INDETERMINATE, "NO_CERTIFICATE_CHAIN_FOUND"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := verify(t, api, head(), c.file, c.content)
			require.NoError(t, err)
			require.Equal(t, c.verdict, a.report.GetConclusion().GetVerdict(), a.report)
			require.Equal(t, c.sub, a.report.GetConclusion().GetSubIndication())
		})
	}

	t.Run("revoked", func(t *testing.T) {
		o.status = ocsp.Revoked
		defer func() { o.status = ocsp.Good }()
		file, err := cades.Sign(t.Context(), doc, revokedBy, at)
		require.NoError(t, err)
		a, err := verify(t, api, head(), file, nil)
		require.NoError(t, err)
		require.Equal(t, "REVOKED_NO_POE", a.report.GetConclusion().GetSubIndication())
		require.Equal(t, "revoked", a.report.GetSignatures()[0].GetChain()[0].GetRevocation())
	})
	t.Run("no responder", func(t *testing.T) {
		mute := o.pki.Issue(t, "Mute", cmstest.NewECDSA(t))
		file, err := cades.Sign(t.Context(), doc, cades.Signer{Chain: mute.Chain, Key: mute.Key}, at)
		require.NoError(t, err)
		a, err := verify(t, api, head(), file, nil)
		require.NoError(t, err)
		require.Equal(t, "TRY_LATER", a.report.GetConclusion().GetSubIndication())
		require.Contains(t, a.report.GetConclusion().GetReason(), "names no OCSP responder")
	})
	t.Run("blob, views and content", func(t *testing.T) {
		ref, err := h.probe.host.Blobs.Put(context.Background(), "acme", p7m)
		require.NoError(t, err)
		full := &signv1.VerifyHead{
			Parent: "tenants/acme", File: blobOf(ref), FileName: "fattura.p7m", Language: "en", ReturnContent: true,
			Views: []signv1.ReportView{signv1.ReportView_REPORT_VIEW_JSON, signv1.ReportView_REPORT_VIEW_HTML, signv1.ReportView_REPORT_VIEW_PDF},
		}
		a, err := verify(t, api, full, nil, nil)
		require.NoError(t, err)
		require.Equal(t, doc, a.content)
		require.Equal(t, sum[:], a.report.GetContent().GetSha256())
		var told struct{ Verdict, File string }
		require.NoError(t, json.Unmarshal(a.views[signv1.ReportView_REPORT_VIEW_JSON], &told))
		require.Equal(t, "total-passed", told.Verdict)
		require.Equal(t, "fattura.p7m", told.File)
		page := string(a.views[signv1.ReportView_REPORT_VIEW_HTML])
		require.Contains(t, page, "Maria &lt;b&gt;Rossi&lt;/b&gt;")
		require.NotContains(t, page, "<b>Rossi")
		require.True(t, bytes.HasPrefix(a.views[signv1.ReportView_REPORT_VIEW_PDF], []byte("%PDF-")))
	})
	t.Run("refused", func(t *testing.T) {
		other, err := h.probe.host.Blobs.Put(context.Background(), "other", p7m)
		require.NoError(t, err)
		missing := blob.Of("acme", []byte("never stored"))
		for code, call := range map[string]func() (*answer, error){
			"FILE_EMPTY":     func() (*answer, error) { return verify(t, api, head(), nil, nil) },
			"FILE_UNSIGNED":  func() (*answer, error) { return verify(t, api, head(), doc, nil) },
			"FILE_TOO_LARGE": func() (*answer, error) { return verify(t, api, head(), make([]byte, 200001), nil) },
			"HEAD_MISSING":   func() (*answer, error) { return verify(t, api, nil, p7m, nil) },
			"FOREIGN_BLOB": func() (*answer, error) {
				return verify(t, api, &signv1.VerifyHead{Parent: "tenants/acme", File: blobOf(other)}, nil, nil)
			},
			"BLOB_NOT_FOUND": func() (*answer, error) {
				return verify(t, api, &signv1.VerifyHead{Parent: "tenants/acme", File: blobOf(missing)}, nil, nil)
			},
			"FILE_TWICE": func() (*answer, error) {
				return verify(t, api, &signv1.VerifyHead{Parent: "tenants/acme", File: blobOf(mustPut(t, h, p7m))}, p7m, nil)
			},
		} {
			_, err := call()
			require.Error(t, err, code)
			require.Equal(t, code, fault.Of(err).Code, err)
		}
		_, err = verify(t, api, &signv1.VerifyHead{Parent: "tenants/other"}, p7m, nil)
		require.Error(t, err)
		require.Equal(t, fault.KindDenied, fault.Of(err).Kind, err)
	})
}

func mustPut(t *testing.T, h *house, raw []byte) blob.Ref {
	t.Helper()
	ref, err := h.probe.host.Blobs.Put(context.Background(), "acme", raw)
	require.NoError(t, err)
	return ref
}

// foreign is signed under an authority that nobody here knows. It names a responder, which must not
// be called: there is no chain.
func foreign(t *testing.T, doc []byte) []byte {
	t.Helper()
	pki := cmstest.New(t)
	trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("an address in a certificate of an unknown authority was called")
	}))
	t.Cleanup(trap.Close)
	pair := pki.Issue(t, "Nobody", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.OCSPServer = []string{trap.URL} })
	out, err := cades.Sign(t.Context(), doc, cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	return out
}
