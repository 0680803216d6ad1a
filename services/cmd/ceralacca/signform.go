package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// mostUploaded is how many bytes are signed in one request: documents travel in one message.
const mostUploaded = 10 << 20

// signing are the flags that say what comes out.
type signing struct {
	as, dir string
	device  string // of persons
	stamp   bool
	force   bool
	pdf     pdfFlags
}

// pdfFlags are what a PDF says of its signature.
type pdfFlags struct{ box, reason, location, field string }

// message is nil when nothing was said.
func (p pdfFlags) message() (*signv1.PdfSignature, error) {
	if p == (pdfFlags{}) {
		return nil, nil
	}
	out := &signv1.PdfSignature{Reason: p.reason, Location: p.location, Field: p.field}
	if p.box == "" {
		return out, nil
	}
	var n [5]float64
	parts := strings.Split(p.box, ",")
	for i, text := range parts {
		v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil || i >= len(n) {
			return nil, usage("--box is PAGE,X,Y,WIDTH,HEIGHT in points from the lower left corner, such as 1,36,36,200,60 (page -1 is the last); not %q", p.box)
		}
		n[i] = v
	}
	if len(parts) != len(n) || n[0] != float64(int32(n[0])) {
		return nil, usage("--box is PAGE,X,Y,WIDTH,HEIGHT, five numbers; not %q", p.box)
	}
	out.Box = &signv1.PdfBox{Page: int32(n[0]), X: n[1], Y: n[2], Width: n[3], Height: n[4], Border: true}
	return out, nil
}

// forms are the values of --as; the empty one is made from digests alone.
var forms = map[string]signv1.SignatureForm{
	"p7s": signv1.SignatureForm_SIGNATURE_FORM_CADES_DETACHED, "p7m": signv1.SignatureForm_SIGNATURE_FORM_CADES_ATTACHED,
	"add": signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL, "xml": signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED,
	"pdf": signv1.SignatureForm_SIGNATURE_FORM_PADES,
}

func (s signing) check() error {
	if _, ok := forms[s.as]; !ok {
		return usage("--as is p7s, p7m, add, xml or pdf, not %q", s.as)
	}
	if s.as != "pdf" && s.pdf != (pdfFlags{}) {
		return usage("--box, --reason, --location and --field are for --as pdf")
	}
	_, err := s.pdf.message()
	return err
}

func (s *signing) flags(cmd *cobra.Command, as string) {
	f := cmd.Flags()
	f.StringVar(&s.dir, "output-dir", "", "folder for what is signed, instead of beside the files")
	f.BoolVar(&s.force, "force", false, "write over files that are there")
	f.StringVar(&s.as, "as", as, "p7s, p7m, add, xml or pdf")
	f.BoolVar(&s.stamp, "timestamp", false, "with a time stamp")
	f.StringVar(&s.pdf.box, "box", "", "make the signature of a PDF visible: PAGE,X,Y,WIDTH,HEIGHT in points from the lower left corner; page -1 is the last")
	f.StringVar(&s.pdf.reason, "reason", "", "reason that a PDF states")
	f.StringVar(&s.pdf.location, "location", "", "place that a PDF states")
	f.StringVar(&s.pdf.field, "field", "", "empty signature field of a PDF to use")
}

func (c *cli) showSigned(signed *signv1.SignDocumentsResponse, files []toSign) {
	var rows [][]string
	for _, f := range files {
		rows = append(rows, []string{printable(f.output), when(signed.GetSigningTime()), enum("SIGNATURE_LEVEL_", signed.GetLevel())})
	}
	c.table([]string{"FILE", "SIGNED", "LEVEL"}, rows)
}

// uploads says whether the documents have to go to the server: CAdES needs their digests only.
func (s signing) uploads() bool { return s.as == "xml" || s.as == "pdf" }

// inDocuments says whether SignDocuments is asked, which time-stamps too, rather than SignHashes.
func (s signing) inDocuments() bool { return s.uploads() || s.stamp }

// output is where the signed file of a file goes.
func (s signing) output(file string) string {
	name := file + "." + s.as
	if slices.Contains([]string{"add", "xml", "pdf"}, s.as) {
		ext := filepath.Ext(file)
		name = strings.TrimSuffix(file, ext) + ".signed" + ext
	}
	if s.dir != "" {
		name = filepath.Join(s.dir, filepath.Base(name))
	}
	return name
}

// signWhole has the server sign the documents, by their digests where that will do, and writes what
// comes back.
func (c *cli) signWhole(ctx context.Context, req *signv1.SignDocumentsRequest, files []toSign, how signing) (*signv1.SignDocumentsResponse, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	api := signv1.NewDocumentServiceClient(conn)
	if req.Pdf, err = how.pdf.message(); err != nil {
		return nil, err
	}
	if req.Documents, err = documentsOf(files, how.uploads()); err != nil {
		return nil, err
	}
	signed, err := tryAgain(ctx, c, func() (*signv1.SignDocumentsResponse, error) { return api.SignDocuments(ctx, req) })
	if err != nil {
		return nil, err
	}
	if len(signed.GetDocuments()) != len(files) {
		return nil, fault.Internal("SIGNATURES_MISSING", "the server answered %d documents with %d", len(files), len(signed.GetDocuments()))
	}
	for _, one := range signed.GetDocuments() {
		if len(one.GetContent()) == 0 {
			return nil, fault.Internal("SIGNATURES_MISSING", "the answer is too large for one message; the signed files are kept as %s", one.GetSigned().GetUri())
		}
	}
	err = how.placeAll(files, func(i int) (of, whole []byte) {
		return signed.GetDocuments()[i].GetDocumentSha256(), signed.GetDocuments()[i].GetContent()
	})
	if err != nil {
		return nil, err
	}
	for _, one := range signed.GetDocuments() {
		one.Content = nil // it is in the file
	}
	return signed, nil
}

// documentsOf are files as they travel: by their digests, or whole.
func documentsOf(files []toSign, whole bool) ([]*signv1.DocumentToSign, error) {
	var out []*signv1.DocumentToSign
	total := 0
	for _, f := range files {
		if !whole {
			out = append(out, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Sha256{Sha256: f.hash}})
			continue
		}
		raw, err := os.ReadFile(f.file)
		if err != nil {
			return nil, usage("%v", err)
		}
		if total += len(raw); total > mostUploaded {
			return nil, usage("the files have more than %d bytes together: sign fewer at a time, or as p7s or p7m, for which only digests travel", mostUploaded)
		}
		out = append(out, &signv1.DocumentToSign{Source: &signv1.DocumentToSign_Content{Content: raw}})
	}
	return out, nil
}

// of is the device as the API names it: kinds are in capitals.
func (s signing) of() string {
	if strings.Contains(s.device, "/") {
		return s.device
	}
	return strings.ToUpper(s.device)
}

// challenge fixes what is to be signed, and as what. Only a key at a provider that binds the password to the form needs the
// documents themselves for that: they travel when it says so.
func (s signing) challenge(ctx context.Context, api signv1.AuthorizationServiceClient, name string, files []toSign) (*signv1.Challenge, error) {
	req := &signv1.CreateChallengeRequest{Parent: name, SignatureCount: int32(len(files)), Device: s.of()} //nolint:gosec // at most 500
	for _, f := range files {
		req.DocumentSha256 = append(req.DocumentSha256, f.hash)
	}
	if !s.inDocuments() {
		return api.CreateChallenge(ctx, req)
	}
	plan := &signv1.PlannedDocuments{Form: forms[s.as], Timestamp: s.stamp}
	req.Plan = &signv1.SigningPlan{What: &signv1.SigningPlan_Documents{Documents: plan}}
	var err error
	if plan.Pdf, err = s.pdf.message(); err != nil {
		return nil, err
	}
	if plan.Documents, err = documentsOf(files, false); err != nil {
		return nil, err
	}
	ch, err := api.CreateChallenge(ctx, req)
	if err == nil || fault.Of(err).Code != "DOCUMENT_MISSING" {
		return ch, err
	}
	if plan.Documents, err = documentsOf(files, true); err != nil {
		return nil, err
	}
	return api.CreateChallenge(ctx, req)
}

// tryAgain makes a call again while the server is away: the same request goes on where it was, and
// no other could.
func tryAgain[T any](ctx context.Context, c *cli, call func() (T, error)) (T, error) {
	const tries = 6
	for i := 1; ; i++ {
		signed, err := call()
		if err == nil || fault.Of(err).Kind != fault.KindUnavailable || i == tries {
			return signed, err
		}
		wait := max(fault.Of(err).RetryAfter, time.Duration(i)*time.Second)
		fmt.Fprintf(c.errOut, "the server is away; again in %s\n", wait)
		select {
		case <-ctx.Done():
			return signed, errors.Join(err, ctx.Err())
		case <-time.After(wait):
		}
	}
}
