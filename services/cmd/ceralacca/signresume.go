package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
)

// An authorization is used once, and so are the documents that a mandate counts: what was asked for must be had also
// by the tool that comes after one that ended too early. What it needs for that is in a file before the server is asked.

// goesOnFor is how long the server lets the same request go on.
const goesOnFor = time.Hour

// inHand is a request to sign, as it is written down before it is sent.
type inHand struct {
	RequestID     string       `json:"request_id"`
	Until         time.Time    `json:"until"`
	Credential    string       `json:"credential"`
	Challenge     string       `json:"challenge,omitempty"`
	Authorization string       `json:"authorization,omitempty"` // for this request alone, once it is used
	Mandate       string       `json:"mandate,omitempty"`
	Participant   string       `json:"participant,omitempty"` // of a signature request, which has the documents
	As            string       `json:"as,omitempty"`
	Timestamp     bool         `json:"timestamp,omitempty"`
	PDF           handPDF      `json:"pdf,omitzero"`
	Files         []inHandFile `json:"files,omitempty"`
}

type handPDF struct {
	Box      string `json:"box,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Location string `json:"location,omitempty"`
	Field    string `json:"field,omitempty"`
}

type inHandFile struct {
	File   string `json:"file"`
	Output string `json:"output"`
	SHA256 string `json:"sha256"`
}

// handOf is a new request for these files. Their names are whole, for the next tool may be started elsewhere.
func (c *cli) handOf(files []toSign, how signing) (inHand, error) {
	h := inHand{
		RequestID: uuid.NewString(), Until: c.now().Add(goesOnFor).UTC(), As: how.as, Timestamp: how.stamp,
		PDF: handPDF{how.pdf.box, how.pdf.reason, how.pdf.location, how.pdf.field},
	}
	for _, f := range files {
		file, err := filepath.Abs(f.file)
		if err != nil {
			return h, err
		}
		output, err := filepath.Abs(f.output)
		if err != nil {
			return h, err
		}
		h.Files = append(h.Files, inHandFile{file, output, hex.EncodeToString(f.hash)})
	}
	return h, nil
}

// given is what handOf was made of.
func (h inHand) given() ([]toSign, signing, error) {
	if h.Participant != "" {
		return nil, signing{}, nil
	}
	how := signing{as: h.As, stamp: h.Timestamp, pdf: pdfFlags{h.PDF.Box, h.PDF.Reason, h.PDF.Location, h.PDF.Field}}
	if err := how.check(); err != nil {
		return nil, how, err
	}
	var files []toSign
	for _, f := range h.Files {
		hash, err := hex.DecodeString(f.SHA256)
		if err != nil {
			return nil, how, err
		}
		files = append(files, toSign{file: f.File, output: f.Output, hash: hash})
	}
	return files, how, nil
}

// handDir is where requests in hand are written down; only their owner reads them.
func handDir() (string, error) {
	if dir := os.Getenv("CERALACCA_STATE"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", usage("%v: say in CERALACCA_STATE in which folder requests to sign are written down", err)
	}
	return filepath.Join(dir, "ceralacca", "signing"), nil
}

// keep writes a request down and gives what forgets it.
func (h inHand) keep() (forget func() error, err error) {
	dir, err := handDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, usage("%v", err)
	}
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, h.RequestID+".json")
	if err := replaceWith(path, private, raw); err != nil {
		return nil, usage("%v", err)
	}
	return func() error { return os.Remove(path) }, nil
}

// finish has a request signed and its files written. While it may still be had again it stays written down.
func (c *cli) finish(ctx context.Context, h inHand, files []toSign, how signing) error {
	forget, err := h.keep()
	if err != nil { // the signer has authorized it: it is not lost for want of a folder
		fmt.Fprintf(c.errOut, "nobody can go on with this request, should it be cut short: it is not written down: %v\n", err)
		return c.finishKept(ctx, h, files, how)
	}
	err = c.finishKept(ctx, h, files, how)
	if err == nil || final(err) {
		return errors.Join(err, forget())
	}
	what := "what is signed can be had"
	if h.Participant != "" {
		what = "the signature can be finished"
	}
	fmt.Fprintf(c.errOut, "%s until %s: ceralacca resume %s\n", what, h.Until.Local().Format(time.DateTime), h.RequestID)
	return err
}

// final says whether a request has no other answer to come: the server said no, and not later.
func final(err error) bool {
	if errors.As(err, new(notPlaced)) {
		return false
	}
	switch fault.Of(err).Kind {
	case fault.KindUnauthenticated, fault.KindDenied: // another key may have it
		return false
	}
	return fault.Permanent(err)
}

// notPlaced is the error of files that are signed and not written.
type notPlaced struct{ error }

func (e notPlaced) Unwrap() error { return e.error }

func (c *cli) finishKept(ctx context.Context, h inHand, files []toSign, how signing) error {
	if h.Participant != "" {
		return c.finishRequest(ctx, h)
	}
	if h.Mandate != "" || how.inDocuments() {
		signed, err := c.signWhole(ctx, &signv1.SignDocumentsRequest{
			Credential: h.Credential, Challenge: h.Challenge, Authorization: h.Authorization, Mandate: h.Mandate, RequestId: h.RequestID,
			Form: forms[how.as], Timestamp: how.stamp,
		}, files, how)
		if err != nil {
			return err
		}
		return c.print(signed, func() { c.showSigned(signed, files) })
	}
	api, err := c.authorizations()
	if err != nil {
		return err
	}
	req := &signv1.SignHashesRequest{Name: h.Challenge, Authorization: h.Authorization, RequestId: h.RequestID}
	for _, f := range files {
		req.DocumentSha256 = append(req.DocumentSha256, f.hash)
	}
	signed, err := tryAgain(ctx, c, func() (*signv1.SignHashesResponse, error) { return api.SignHashes(ctx, req) })
	if err != nil {
		return err
	}
	if len(signed.GetSignatures()) != len(files) {
		return fault.Internal("SIGNATURES_MISSING", "the server answered %d documents with %d signatures", len(files), len(signed.GetSignatures()))
	}
	err = how.placeAll(files, func(i int) (of, signature []byte) {
		return signed.GetSignatures()[i].GetDocumentSha256(), signed.GetSignatures()[i].GetCms()
	})
	if err != nil {
		return err
	}
	return c.print(signed, func() {
		var rows [][]string
		for i, f := range files {
			rows = append(rows, []string{printable(f.output), when(signed.GetSignatures()[i].GetSigningTime()), enum("SIGNATURE_LEVEL_", signed.GetLevel())})
		}
		c.table([]string{"SIGNATURE", "SIGNED", "LEVEL"}, rows)
	})
}

// finishRequest has a participant's signature of a signature request made. The documents are the request's.
func (c *cli) finishRequest(ctx context.Context, h inHand) error {
	api, err := c.requests()
	if err != nil {
		return err
	}
	req := &signv1.SignSignatureRequestRequest{Participant: h.Participant, Challenge: h.Challenge, Authorization: h.Authorization, RequestId: h.RequestID}
	done, err := tryAgain(ctx, c, func() (*signv1.SignatureRequest, error) { return api.SignSignatureRequest(ctx, req) })
	if err != nil {
		return err
	}
	return c.print(done, func() { c.showRequest(done) })
}

// placeAll writes what came back for each file. One that cannot be written keeps none of the others back.
func (s signing) placeAll(files []toSign, answer func(i int) (of, signed []byte)) error {
	var all []error
	for i, f := range files {
		of, signed := answer(i)
		if err := s.place(f, of, signed); err != nil {
			all = append(all, err)
		}
	}
	switch len(all) {
	case 0:
		return nil
	case 1:
		return notPlaced{all[0]}
	}
	return notPlaced{fmt.Errorf("%d of %d files are signed and not written: %w", len(all), len(files), errors.Join(all...))}
}

// resumeCommand fetches what was being signed when the tool ended.
func (c *cli) resumeCommand() *cobra.Command {
	cmd := verb("resume [REQUEST]", "Fetch what was being signed when sign, seal or request sign ended too early; without REQUEST, list what there is", args("[REQUEST]"), func(ctx context.Context, given []string) error {
		if len(given) == 0 {
			return c.listHands()
		}
		h, err := readHand(given[0])
		if err != nil {
			return err
		}
		files, how, err := h.given()
		if err != nil {
			return err
		}
		return c.finish(ctx, h, files, how)
	})
	cmd.Long += "\n\nsign, seal and request sign write down what they ask for before they ask (CERALACCA_STATE, else the user's cache folder; it\n" +
		"holds the authorization of that one request, and nobody else may read it). The same request has the same answer for an\n" +
		"hour, and asks for no PIN or password again. What was refused, or is done, is forgotten."
	return cmd
}

func readHand(request string) (inHand, error) {
	var h inHand
	if _, err := uuid.Parse(request); err != nil {
		return h, usage("%q is no request: ceralacca resume lists what there is", request)
	}
	dir, err := handDir()
	if err != nil {
		return h, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, request+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return h, fault.NotFound("REQUEST_NOT_KEPT", "there is no request %s in %s: ceralacca resume lists what there is", request, dir)
	}
	if err != nil {
		return h, usage("%v", err)
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, usage("%s.json in %s: %v", request, dir, err)
	}
	return h, nil
}

// listHands shows what can be had again, and forgets what cannot any more.
func (c *cli) listHands() error {
	dir, err := handDir()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usage("%v", err)
	}
	list := []inHand{}
	for _, e := range entries {
		request, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || e.IsDir() {
			continue
		}
		h, err := readHand(request)
		if err != nil {
			return err
		}
		if !c.now().Before(h.Until) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return usage("%v", err)
			}
			continue
		}
		h.Authorization = "" // not for screens
		list = append(list, h)
	}
	if c.format == formatJSON {
		printJSON(c.out, list)
		return nil
	}
	var rows [][]string
	for _, h := range list {
		if h.Participant != "" {
			rows = append(rows, []string{h.RequestID, h.Until.Local().Format(time.DateTime), "request", printable(h.Participant)})
		}
		for _, f := range h.Files {
			rows = append(rows, []string{h.RequestID, h.Until.Local().Format(time.DateTime), h.As, printable(f.File)})
		}
	}
	c.table([]string{"REQUEST", "UNTIL", "AS", "FILE OR PARTICIPANT"}, rows)
	return nil
}
