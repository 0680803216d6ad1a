package main

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/tsp"
)

// evidenceInvalid is an evidence record that does not prove what it should.
const evidenceInvalid = "EVIDENCE_INVALID"

func (c *cli) evidenceCommand() *cobra.Command {
	var output string
	var number int32
	cmd := verb("evidence PACKAGE", "Write the evidence record (RFC 4998) that keeps a package's time stamp alive", args("PACKAGE"), func(ctx context.Context, given []string) error {
		name, err := c.within("packages", given[0])
		if err != nil {
			return err
		}
		if output == "" && c.format == formatText {
			return usage("--output is needed: a record is binary")
		}
		api, err := c.evidence()
		if err != nil {
			return err
		}
		r, err := api.GetEvidenceRecord(ctx, &conservationv1.GetEvidenceRecordRequest{Name: name, Number: number})
		if err != nil {
			return err
		}
		err = keep(output, r.GetRecord())
		if err != nil {
			return err
		}
		return c.print(r, func() {
			c.fields("name", r.GetName(), "number", r.GetNumber(), "hash", r.GetHash(), "stamped", when(r.GetStampTime()), "until", when(r.GetUntilTime()), "written", output)
		})
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write")
	cmd.Flags().Int32Var(&number, "number", 0, "1 is the first record, each renewal counts one more; the last when 0")
	return cmd
}

// judgeEvidence verifies a record over the package's bytes: each stamp was renewed before it ended, and the first one
// came before the end of the index's own.
func (c *cli) judgeEvidence(report *custody.Report, i *inspection, name string, raw, record []byte) {
	problem := func(format string, a ...any) {
		report.Problems = append(report.Problems, custody.Problem{Code: evidenceInvalid, What: name, Message: fmt.Sprintf(format, a...)})
	}
	r, err := ers.Parse(record)
	if err != nil {
		problem("%v", err)
		return
	}
	said, err := r.Verify([]ers.Object{ers.Bytes(raw)}, ers.VerifyOptions{Roots: i.roots, At: i.at})
	if err != nil {
		problem("%v", err)
		return
	}
	end, err := indexStampEnd(raw)
	switch {
	case err != nil:
		problem("the index's own time stamp: %v", err)
	case said.Since.After(end):
		problem("the index's time stamp ended on %s, and this record begins on %s", end.Format(time.DateOnly), said.Since.Format(time.DateOnly))
	default:
		report.Holds = append(report.Holds, fmt.Sprintf("the evidence record: %d stamps since %s, to be renewed before %s",
			len(said.Stamps), said.Since.UTC().Format(time.DateOnly), said.Until.UTC().Format(time.DateOnly)))
	}
}

// indexStampEnd is the end of the certificate of the stamp inside a package.
func indexStampEnd(raw []byte) (time.Time, error) {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return time.Time{}, err
	}
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, "/data/PIndex.xml.p7m.tsr") {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return time.Time{}, err
		}
		defer r.Close()
		content, err := io.ReadAll(io.LimitReader(r, 1<<20))
		if err != nil {
			return time.Time{}, err
		}
		token, err := tsp.ParseToken(content)
		if err != nil {
			return time.Time{}, err
		}
		cert := token.Certificate()
		if cert == nil {
			return time.Time{}, fmt.Errorf("it does not carry its authority's certificate")
		}
		return cert.NotAfter, nil
	}
	return time.Time{}, fmt.Errorf("the package has none")
}
