package main

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
)

// waits reads the documents that no package held yet.
func (e *exported) waits() {
	for _, name := range sortedKeys(e.listed) {
		if !strings.HasPrefix(name, exportWaiting) {
			continue
		}
		raw, err := e.read(name)
		if err != nil {
			continue // said
		}
		units, err := custody.ReadWaiting(raw)
		if err != nil {
			e.bad(exportUnreadable, name, "%v", err)
			continue
		}
		for _, u := range units {
			e.waiting[u.ID] = true
		}
		if e.ledger != nil {
			e.ledger.Waiting(name, units)
		}
	}
}

// disposal judges the report of a destruction, and notes which packages it says to be destroyed.
func (e *exported) disposal(name string) {
	raw, err := e.read(name)
	if err != nil {
		return // said
	}
	var said struct {
		Packages []struct {
			Package string     `json:"package"`
			Erased  *time.Time `json:"erased"`
		} `json:"packages"`
	}
	content, err := e.signedReport(name, raw, e.statedAt(name, raw))
	if err == nil {
		err = json.Unmarshal(content, &said)
	}
	if err != nil {
		e.bad(custody.ReportInvalid, name, "%v", err)
		return
	}
	for _, p := range said.Packages {
		if e.ledger != nil && p.Erased != nil {
			e.ledger.Destroyed(last(p.Package))
		}
	}
}

// statedAt judges the proof that the log states a report, and gives when that log was stamped; zero: that is not shown.
func (e *exported) statedAt(name string, raw []byte) time.Time {
	if e.ledger == nil {
		return time.Time{}
	}
	id, _, _ := strings.Cut(last(name), ".")
	proof := exportDeeds + id + ".tlog-proof"
	if !e.listed[proof] {
		e.report.Unshown = append(e.report.Unshown, name+": that the log states it: the export brings no proof of that")
		return time.Time{}
	}
	text, err := e.read(proof)
	if err != nil {
		return time.Time{} // said
	}
	receipt, err := tlog.ParseReceipt(text)
	if err != nil {
		e.bad(custody.ReceiptInvalid, proof, "%v", err)
		return time.Time{}
	}
	return e.ledger.Reported(custody.Receipt{Name: proof, Receipt: receipt}, sha256.Sum256(raw))
}

// signedReport judges who signed a report, at the time of the log's stamp. Where that is not shown it is judged as of now, and a certificate that does
// not hold now shows nothing: it may have held.
func (e *exported) signedReport(name string, raw []byte, stamped time.Time) ([]byte, error) {
	verify := func(o cades.VerifyOptions) ([]byte, error) {
		sd, judged, err := cades.Verify(raw, o)
		if err == nil {
			err = judged.Err()
		}
		if err != nil {
			return nil, err
		}
		return sd.Content(), nil
	}
	o := cades.VerifyOptions{Roots: e.i.roots, At: e.i.at}
	if !stamped.IsZero() {
		o.At = stamped
	}
	content, err := verify(o)
	if err == nil || e.i.roots == nil || !stamped.IsZero() {
		return content, err
	}
	content, alone := verify(cades.VerifyOptions{})
	if alone != nil {
		return nil, err
	}
	e.report.Unshown = append(e.report.Unshown, name+": who signed it: when it was signed is not shown, and now that does not hold: "+err.Error())
	return content, nil
}
