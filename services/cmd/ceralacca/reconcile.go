package main

import (
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
)

// reconciliationColumns are those of the files that a person takes to SdI's services, or compares with what they give.
var reconciliationColumns = []string{"identificativo_sdi", "nome_file", "sha256", "inviato", "manca", "entro"}

// writeReconciliation writes what lacks a message, and each request of re-delivery, as files: semicolons, as Italian
// spreadsheets want them. SdI's own format of these requests comes with the accreditation and is not public.
func writeReconciliation(dir string, r *sdiv1.ReconcileResponse) error {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return err
	}
	byID := map[string][]string{}
	var all [][]string
	for _, m := range r.GetMissing() {
		line := []string{m.GetSdiId(), m.GetFileName(), hex.EncodeToString(m.GetFileSha256()), when(m.GetSendTime()),
			strings.TrimPrefix(m.GetKind().String(), "DEADLINE_KIND_"), when(m.GetDueTime())}
		all = append(all, line)
		byID[m.GetSdiId()] = line
	}
	err = writeSheet(filepath.Join(dir, "quadratura.csv"), all)
	for _, request := range r.GetRequests() {
		if err != nil {
			return err
		}
		var lines [][]string
		for _, id := range request.GetSdiIds() {
			if line := byID[id]; line != nil {
				lines = append(lines, line)
			}
		}
		err = writeSheet(filepath.Join(dir, fmt.Sprintf("reinoltro_%s_%s.csv", request.GetFirstDay(), request.GetLastDay())), lines)
	}
	return err
}

func writeSheet(path string, lines [][]string) error {
	return replace(path, private, func(file *os.File) error {
		w := csv.NewWriter(file)
		w.Comma = ';'
		return w.WriteAll(append([][]string{reconciliationColumns}, lines...))
	})
}
