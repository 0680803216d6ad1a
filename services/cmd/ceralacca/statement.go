package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// statementColumns are the headers under which lists have what is needed, as the portal, SdI's files and people write them.
var statementColumns = map[string][]string{
	"id":    {"identificativo_sdi", "identificativosdi", "idsdi", "id_sdi", "sdi/file", "sdi_id"},
	"name":  {"nome_file", "nomefile", "file", "file_name"},
	"state": {"stato", "esito", "stato_file", "state"},
}

// statementStates are the words of the portal for the last message of SdI.
var statementStates = map[string]string{
	"CONSEGNATA": "RC", "MANCATA CONSEGNA": "MC", "NON CONSEGNATA": "MC", "IMPOSSIBILITÀ DI RECAPITO": "MC", "SCARTATA": "NS",
	"ACCETTATA": "NE", "RIFIUTATA": "NE", "DECORRENZA TERMINI": "DT", "ATTESTAZIONE DI AVVENUTA TRASMISSIONE": "AT",
	"RICEVUTA": "RICEVUTO", "INVIATA": "RICEVUTO", "IN ELABORAZIONE": "RICEVUTO",
}

// mostStatementLines is what one comparison takes.
const mostStatementLines = 5000

// readStatement reads a list of files that SdI has: CSV with a header, in any column order. The separator is the one
// that the header has most of.
func readStatement(r io.Reader) ([]*sdiv1.StatementLine, error) {
	text := bufio.NewReader(io.LimitReader(r, 16<<20))
	if bom, err := text.Peek(3); err == nil && bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = text.Discard(3)
	}
	header, err := text.Peek(4096)
	if len(header) == 0 && err != nil {
		return nil, errors.New("the list is empty")
	}
	first, _, _ := bytes.Cut(header, []byte("\n"))
	in := csv.NewReader(text)
	in.FieldsPerRecord, in.Comma = -1, ';'
	for _, comma := range ",\t" {
		if bytes.Count(first, []byte(string(comma))) > bytes.Count(first, []byte(string(in.Comma))) {
			in.Comma = comma
		}
	}
	names, err := in.Read()
	if err != nil {
		return nil, err
	}
	at := columnsOf(names)
	if at["id"] < 0 && at["name"] < 0 {
		return nil, fmt.Errorf("line 1: no column identificativo_sdi or nome_file among %q: give the list a header", names)
	}
	var lines []*sdiv1.StatementLine
	for {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		number, _ := in.FieldPos(0)
		line, err := statementLine(fields, at)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		lines = append(lines, line)
		if len(lines) > mostStatementLines {
			return nil, fmt.Errorf("the list has more than %d lines: split it, by days for example", mostStatementLines)
		}
	}
	if len(lines) == 0 {
		return nil, errors.New("the list has a header and no line")
	}
	return lines, nil
}

func columnsOf(names []string) map[string]int {
	at := map[string]int{"id": -1, "name": -1, "state": -1}
	for i, name := range names {
		name = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), " ", "_")
		for column, known := range statementColumns {
			if at[column] < 0 && slices.Contains(known, name) {
				at[column] = i
			}
		}
	}
	return at
}

func statementLine(fields []string, at map[string]int) (*sdiv1.StatementLine, error) {
	get := func(column string) string {
		if i := at[column]; i >= 0 && i < len(fields) {
			return strings.TrimSpace(fields[i])
		}
		return ""
	}
	line := &sdiv1.StatementLine{SdiId: get("id"), FileName: get("name"), State: strings.ToUpper(get("state"))}
	if line.GetSdiId() == "" && line.GetFileName() == "" {
		return nil, errors.New("neither identificativo_sdi nor nome_file is given: take the line out")
	}
	if len(line.GetSdiId()) > 12 || strings.Trim(line.GetSdiId(), "0123456789") != "" {
		return nil, fmt.Errorf("identificativo_sdi %q is not 1 to 12 digits; spreadsheets spoil long numbers: format the column as text", line.GetSdiId())
	}
	if len(line.GetFileName()) > 60 {
		return nil, fmt.Errorf("nome_file %q is longer than a name of SdI can be", line.GetFileName())
	}
	if code, ok := statementStates[line.GetState()]; ok {
		line.State = code
	}
	if !slices.Contains([]string{"", "RICEVUTO", "RC", "MC", "NS", "NE", "DT", "AT"}, line.GetState()) {
		return nil, fmt.Errorf("stato %q is not known: write RC, MC, NS, NE, DT, AT, RICEVUTO or nothing", line.GetState())
	}
	return line, nil
}

// compareStatement compares a list with the books and says what differs; that something does is exit code 1.
func (c *cli) compareStatement(ctx context.Context, api sdiv1.SdiOperationsServiceClient, path string, period *sdiv1.ReconcileRequest) error {
	in := io.Reader(os.Stdin)
	if path != "-" {
		file, err := os.Open(path) //nolint:gosec // the person names it
		if err != nil {
			return usage("--list: %v", err)
		}
		defer file.Close()
		in = file
	}
	lines, err := readStatement(in)
	if err != nil {
		return usage("--list %s: %v", path, err)
	}
	got, err := api.CompareStatement(ctx, &sdiv1.CompareStatementRequest{
		Source: filepath.Base(path), Lines: lines, FromTime: period.GetFromTime(), ToTime: period.GetToTime(),
	})
	if err != nil {
		return err
	}
	err = c.print(got, func() {
		var rows [][]string
		for _, d := range got.GetDifferences() {
			again := ""
			if d.GetKnown() {
				again = "yes"
			}
			rows = append(rows, []string{d.GetSdiId(), d.GetFileName(), d.GetCode(), again, d.GetTransmission(), d.GetMessage()})
		}
		c.fields("agreed", fmt.Sprint(got.GetAgreed()), "differences", fmt.Sprint(len(rows)), "more", fmt.Sprint(got.GetMore()))
		c.table([]string{"IDENTIFICATIVO", "FILE", "CODE", "KNOWN", "TRANSMISSION", "WHAT"}, rows)
	})
	if err == nil && len(got.GetDifferences()) > 0 {
		return quietError(1)
	}
	return err
}
