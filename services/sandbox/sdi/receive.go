package sdi

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// file is one file that was taken. Fields below the line are guarded by Exchange.mu once the
// file is registered.
type file struct {
	id      string
	name    string
	hash    string // SHA-256, hex
	size    int
	at      time.Time
	tx      *transmitter
	node    *ftpNode // that it came from; nil when it came over SOAP
	archive *sdi.RiferimentoArchivio
	epoch   int // of the memory that it belongs to: Reset starts another

	raw      []byte // nil once newer files have pushed it out
	late     bool   // pushed out before it was judged
	judged   bool
	plan     []step
	doc      document
	state    string
	errors   []sdi.Errore
	receipts []*receipt
	sent     map[sdi.MessageType]int // numbers message names
	passive  *delivery               // to a registered receiver; nil for magic codes
}

// states of a file
const (
	stateReceived    = "received"
	stateArchive     = "archive" // a zip: its members are files of their own
	stateDiscarded   = "discarded"
	stateDelivered   = "delivered"
	stateUndelivered = "undelivered"
	stateAccepted    = "accepted"
	stateRefused     = "refused"
	stateExpired     = "expired"
	stateAttested    = "attested"
)

// routes serves RiceviFile in two shapes of answer: SdI answers multipart even to plain
// requests, and a client must not rely on either.
func (e *Exchange) routes() http.Handler {
	opt := sdi.ServerOptions{Refused: func(r *http.Request, err error) {
		e.mu.Lock()
		e.counts.Malformed++
		e.mu.Unlock()
		e.log.Warn("request refused", "remote", r.RemoteAddr, "error", err.Error())
	}}
	opt.Answer = sdi.XOP
	multi := sdi.RiceviFileHandler(e.riceviFile, opt)
	opt.Answer = sdi.Plain
	plain := sdi.RiceviFileHandler(e.riceviFile, opt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e.stranger(w, r) {
			return
		}
		e.mu.Lock()
		h := multi
		if e.rng.Uint64N(8) == 0 {
			h = plain
		}
		e.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// stranger turns away who shows no client certificate.
func (e *Exchange) stranger(w http.ResponseWriter, r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return false
	}
	e.mu.Lock()
	e.counts.Unauthorized++
	e.mu.Unlock()
	http.Error(w, "present the client certificate that accreditation gave you (SANDBOX - NOT VALID)", http.StatusForbidden)
	return true
}

// riceviFile takes one file: authorisation, ordered faults, registration. Judgement follows
// on a worker.
func (e *Exchange) riceviFile(r *http.Request, f sdi.FileSdIBase) (sdi.RispostaSdIRiceviFile, error) {
	now := e.clock.Now()
	refuse := func(code sdi.ErroreInvio) (sdi.RispostaSdIRiceviFile, error) {
		e.mu.Lock()
		e.counts.Refused++
		e.mu.Unlock()
		return sdi.RispostaSdIRiceviFile{IdentificativoSdI: "0", DataOraRicezione: now, Errore: code}, nil
	}
	fiscalID, ok := strings.CutPrefix(r.TLS.VerifiedChains[0][0].Subject.CommonName, "SDI-")
	e.mu.Lock()
	e.counts.Requests++
	tx := e.transmitters[fiscalID]
	e.mu.Unlock()
	if !ok || tx == nil {
		e.log.Warn("certificate of no accredited transmitter", "cn", r.TLS.VerifiedChains[0][0].Subject.CommonName)
		return refuse(sdi.EI03)
	}
	order, faulty := e.cfg.Faults.Take(fault.Event{Kinds: fault.Requests, Name: f.NomeFile, Transmitter: tx.fiscalID})
	if faulty {
		e.log.Info("fault played", "kind", order.Kind, "name", f.NomeFile)
		switch order.Kind {
		case client.FaultDelay:
			sleep(r, time.Duration(order.DelayMS)*time.Millisecond)
		case client.FaultCutBefore:
			_, _ = refuse("")
			panic(http.ErrAbortHandler)
		case client.FaultEI01:
			return refuse(sdi.EI01)
		case client.FaultEI02:
			return refuse(sdi.EI02)
		case client.FaultEI03:
			return refuse(sdi.EI03)
		case client.FaultSOAP:
			_, _ = refuse("")
			return sdi.RispostaSdIRiceviFile{}, &sdi.Fault{Code: "Server", String: "fault ordered through the control API (SANDBOX)"}
		case client.FaultHTTP503:
			_, _ = refuse("")
			return sdi.RispostaSdIRiceviFile{}, &sdi.HTTPError{Status: http.StatusServiceUnavailable, Text: "fault ordered through the control API (SANDBOX)"}
		}
	}
	if len(f.File) == 0 {
		return refuse(sdi.EI01)
	}
	if !sdi.ValidSOAPName(f.NomeFile) {
		_, _ = refuse("")
		return sdi.RispostaSdIRiceviFile{}, &sdi.Fault{Code: "Client", String: fmt.Sprintf("NomeFile %.60q must be 9 to 50 letters, digits, '_' or '.'", f.NomeFile)}
	}
	taken, err := e.register(tx, f.NomeFile, f.File, now, nil)
	if err != nil {
		e.log.Error("file not registered", "name", f.NomeFile, "error", err.Error())
		return refuse(sdi.EI02)
	}
	e.judges.do(func(context.Context) { e.judge(taken) })
	if faulty {
		switch order.Kind {
		case client.FaultCutAfterAccept:
			panic(http.ErrAbortHandler)
		case client.FaultEI02Accepted:
			return sdi.RispostaSdIRiceviFile{IdentificativoSdI: "0", DataOraRicezione: now, Errore: sdi.EI02}, nil
		}
	}
	return sdi.RispostaSdIRiceviFile{IdentificativoSdI: taken.id, DataOraRicezione: now}, nil
}

// sleep waits real time, or less when the caller goes away.
func sleep(r *http.Request, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

// register gives the file its identifier and puts it into the memory.
func (e *Exchange) register(tx *transmitter, name string, raw []byte, at time.Time, archive *sdi.RiferimentoArchivio) (*file, error) {
	sum := sha256.Sum256(raw)
	f := &file{
		name: name, hash: hex.EncodeToString(sum[:]), size: len(raw), at: at, tx: tx, archive: archive,
		raw: raw, state: stateReceived, sent: map[sdi.MessageType]int{},
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	f.id, err = e.nextID()
	if err != nil {
		return nil, err
	}
	f.epoch = e.epoch
	e.files = append(e.files, f)
	e.byID[f.id] = f
	key := sdi.NameKey(name)
	e.byName[key] = append(e.byName[key], f)
	if len(e.byName[key]) == 2 {
		e.counts.RepeatedNames++
	}
	before := names(e.byHash[f.hash])
	e.byHash[f.hash] = append(e.byHash[f.hash], f)
	if before == 1 && names(e.byHash[f.hash]) == 2 {
		e.counts.RepeatedContents++
	}
	e.counts.Accepted++
	e.counts.States[f.state]++
	e.kept = append(e.kept, f)
	if len(e.kept) > e.cfg.KeepFiles {
		old := e.kept[0]
		e.kept[0] = nil
		e.kept = e.kept[1:]
		e.release(old)
	}
	return f, nil
}

// release lets go of the bytes of an old file, unless something still needs them; mu held.
func (e *Exchange) release(f *file) {
	f.late = true
	if !f.judged || f.needsBytes() {
		return
	}
	f.raw = nil
	for _, r := range f.receipts {
		if r.deliveredAt != nil || r.givenUp {
			r.data = nil
		}
	}
}

// setState moves a file to a state; mu held.
func (e *Exchange) setState(f *file, state string) {
	if f.epoch == e.epoch {
		e.counts.States[f.state]--
		e.counts.States[state]++
	}
	f.state = state
}

// judge examines a file and starts what follows. It runs on a worker.
func (e *Exchange) judge(f *file) {
	if strings.HasSuffix(f.name, string(sdi.ExtZIP)) {
		e.judgeArchive(f)
		return
	}
	doc, errs := e.examine(f)
	e.mu.Lock()
	f.doc = doc
	if len(errs) == 0 {
		errs = e.checkHistory(f)
	}
	e.mu.Unlock()
	if len(errs) > 0 {
		e.follow(f, discard(errs))
		return
	}
	if e.deliverTo(f) {
		return
	}
	e.follow(f, planFor(f.doc))
}

const (
	maxZipMembers = 1000
	maxZipContent = 50_000_000
)

// judgeArchive turns the members of a zip into files of their own. A zip that cannot be read
// gets one NS, named after it.
// spec: AllA-1.9 §1.2.2
func (e *Exchange) judgeArchive(f *file) {
	errs := e.nameErrors(f)
	var members []sdi.ArchiveMember
	if len(errs) == 0 {
		var err error
		members, err = unzip(f.raw)
		if err != nil {
			errs = []sdi.Errore{errore("00106", err.Error())}
		}
	}
	if len(errs) > 0 {
		e.follow(f, discard(errs))
		return
	}
	e.mu.Lock()
	e.setState(f, stateArchive)
	f.judged = true
	e.mu.Unlock()
	for _, m := range members {
		if strings.HasSuffix(m.Name, "/") {
			continue
		}
		if m.Name == "" {
			m.Name = "senza_nome"
		}
		taken, err := e.register(f.tx, m.Name, m.Data, f.at, &sdi.RiferimentoArchivio{IdentificativoSdI: f.id, NomeFile: f.name})
		if err != nil {
			e.log.Error("member not registered", "archive", f.name, "name", m.Name, "error", err.Error())
			return
		}
		e.judge(taken)
	}
}

func unzip(raw []byte) ([]sdi.ArchiveMember, error) {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	if len(z.File) == 0 || len(z.File) > maxZipMembers {
		return nil, fmt.Errorf("%d members; 1 to %d are taken", len(z.File), maxZipMembers)
	}
	left := int64(maxZipContent)
	var out []sdi.ArchiveMember
	for _, m := range z.File {
		rc, err := m.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(rc, left+1))
		rc.Close()
		if err != nil {
			return nil, err
		}
		left -= int64(len(data))
		if left < 0 {
			return nil, fmt.Errorf("more than %d bytes inside", maxZipContent)
		}
		out = append(out, sdi.ArchiveMember{Name: m.Name, Data: data})
	}
	return out, nil
}
