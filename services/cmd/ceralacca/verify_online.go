package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/validation"
	reports "ceralacca.dev/services/format/validation/verdict"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/spool"
)

// verifyChunk is the size of the pieces in which a file goes to the platform.
const verifyChunk = 256 << 10

// checkOnline refuses what the platform does not take from its callers.
func (v *verification) checkOnline() error {
	if v.online && (v.roots != "" || len(v.lists)+len(v.signers)+len(v.crls)+len(v.ocsps) > 0) {
		return usage("--online judges by the platform's trusted lists and by what it fetches: leave --roots, --trust-list, --list-signer, --crl and --ocsp out")
	}
	if ext := strings.ToLower(filepath.Ext(v.report)); v.report != "" && ext != ".html" && ext != ".pdf" && ext != ".json" {
		return usage("--report ends with .html, .pdf or .json, and %s does not", v.report)
	}
	return nil
}

// judgeOnline has the platform judge a file: it knows the trusted lists and asks for revocation.
// content is where what was signed is put.
func (c *cli) judgeOnline(ctx context.Context, name string, file validation.Source, v *verification, o validation.Options, content *spool.File) (*validation.Report, []string, error) {
	conn, err := c.dial()
	if err != nil {
		return nil, nil, err
	}
	parent, err := c.tenantName()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := signv1.NewVerificationServiceClient(conn).Verify(ctx)
	if err != nil {
		return nil, nil, err
	}
	head := &signv1.VerifyHead{
		Parent: parent, FileName: filepath.Base(name), Language: v.lang, Views: []signv1.ReportView{signv1.ReportView_REPORT_VIEW_JSON}, ReturnContent: true,
	}
	if v.at != "" {
		head.At = timestamppb.New(o.At)
	}
	err = stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_Head{Head: head}})
	if err == nil {
		err = inPieces(file, func(p []byte) error {
			return stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_FileChunk{FileChunk: p}})
		})
	}
	if err == nil && o.Beside != nil {
		err = inPieces(o.Beside, func(p []byte) error {
			return stream.Send(&signv1.VerifyRequest{Part: &signv1.VerifyRequest_ContentChunk{ContentChunk: p}})
		})
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the server has answered already
		return nil, nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, nil, err
	}
	return readVerdict(stream.Recv, content)
}

// inPieces sends a file; an empty one is one empty piece.
func inPieces(src validation.Source, send func([]byte) error) error {
	from := whole(src)
	for begun := false; ; begun = true {
		piece := make([]byte, verifyChunk) // the message keeps it
		n, err := io.ReadFull(from, piece)
		if n > 0 || !begun {
			if err := send(piece[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readVerdict takes the answer apart.
func readVerdict(next func() (*signv1.VerifyResponse, error), content *spool.File) (*validation.Report, []string, error) {
	var text bytes.Buffer
	var head *signv1.VerificationReport
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		switch part := m.GetPart().(type) {
		case *signv1.VerifyResponse_Report:
			head = part.Report
		case *signv1.VerifyResponse_View:
			text.Write(part.View.GetData())
		case *signv1.VerifyResponse_ContentChunk:
			if _, err := content.Write(part.ContentChunk); err != nil {
				return nil, nil, err
			}
		}
	}
	r := &validation.Report{}
	if err := json.Unmarshal(text.Bytes(), r); err != nil {
		return nil, nil, fault.Internal("ANSWER_MALFORMED", "the answer of the platform cannot be read: %v", err)
	}
	if head.GetContent() != nil {
		r.Extracted = content
	}
	return r, head.GetNotes(), nil
}

// writeReport keeps the report as a page, a PDF or JSON, by the name's ending.
func (v *verification) writeReport(j *judgement, name string, file validation.Source) error {
	sum, err := sha256Of(file)
	if err != nil {
		return err
	}
	about := reports.File{Name: filepath.Base(name), Size: file.Size(), SHA256: sum, Notes: j.Notes}
	var b bytes.Buffer
	switch strings.ToLower(filepath.Ext(v.report)) {
	case ".html":
		err = reports.HTML(&b, j.Report, about, reports.Options{Lang: v.lang})
	case ".pdf":
		err = reports.PDF(&b, j.Report, about, reports.Options{Lang: v.lang})
	default:
		err = reports.JSON(&b, j.Report, about, v.lang)
	}
	if err != nil {
		return err
	}
	return replaceWith(v.report, private, b.Bytes())
}
