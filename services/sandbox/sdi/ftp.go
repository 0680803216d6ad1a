package sdi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// ftpNode is a transmitter that SdI visits over SFTP: it takes supports and brings outcomes and supports.
// spec: SDIFTP-4.3 §2 (SdI is the client)
type ftpNode struct {
	e        *Exchange
	tx       *transmitter
	address  string
	login    *ssh.ClientConfig
	test     bool
	towards  string
	from     string
	signer   sdiftp.Signer     // SdI's
	opener   sdiftp.Opener     // SdI's
	readable *x509.Certificate // of the node: supports are encrypted for it

	visit sync.Mutex // one at a time

	mu      sync.Mutex
	taken   map[string]bool // supports that were acquired: their content is never looked at again
	waiting []ftpFile       // to be put, in this order
	inbox   []*receipt      // messages for the next support
	parcels []parcel        // for the next support
	minute  string
	number  int
	in, out []sdiftp.Voce // for the daily report
}

// ftpFile is a file on its way to the node.
type ftpFile struct {
	name  sdiftp.Name
	data  []byte
	after func() // once it is there
}

func (e *Exchange) node(id string) (*ftpNode, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[id]
	if n == nil {
		return nil, fmt.Errorf("%q is no node of SDIFTP; accredit it first", id)
	}
	return n, nil
}

// VisitFTP has SdI's client visit a node once.
func (e *Exchange) VisitFTP(ctx context.Context, id string) (client.FTPVisit, error) {
	n, err := e.node(id)
	if err != nil {
		return client.FTPVisit{}, err
	}
	return n.visitOnce(ctx), nil
}

// PassiveFTP gives files to be brought to a node with the next support; the names say what they are.
func (e *Exchange) PassiveFTP(id string, files []client.FTPFile) error {
	n, err := e.node(id)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range files {
		tipo, ok := sdiftp.TipoOf(f.Name)
		if !ok {
			return fmt.Errorf("%q is neither a file nor a message of SdI by its name", f.Name)
		}
		n.parcels = append(n.parcels, parcel{docs: []sdiftp.Documento{{Tipo: tipo, Name: f.Name, Data: f.Data}}})
	}
	return nil
}

// ReportFTP makes the daily reports of supports, to be brought with the next visit. drop leaves this support out.
func (e *Exchange) ReportFTP(id, drop, add string) error {
	n, err := e.node(id)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, flow := range []sdiftp.Kind{sdiftp.FI, sdiftp.FO} {
		rows := slices.Clone(n.in)
		if flow == sdiftp.FO {
			rows = slices.Clone(n.out)
		}
		rows = slices.DeleteFunc(rows, func(v sdiftp.Voce) bool { return v.Supporto.String() == drop })
		if extra, err := sdiftp.ParseName(add); err == nil && extra.Kind == flow {
			rows = append(rows, sdiftp.Voce{Supporto: extra, At: e.clock.Now(), Documenti: 1})
		}
		raw, err := sdiftp.WriteRendiconto(rows)
		if err != nil {
			return err
		}
		name := sdiftp.NewName(sdiftp.ST, n.tx.fiscalID, e.clock.Now(), 0)
		name.Flow = flow
		n.waiting = append(n.waiting, ftpFile{name: name, data: raw})
	}
	return nil
}

func (n *ftpNode) visitEvery(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n.e.mu.Lock()
		current := n.e.nodes[n.tx.fiscalID] == n
		n.e.mu.Unlock()
		if !current {
			return
		}
		n.visitOnce(ctx)
	}
}

var errCut = errors.New("cut on command")

// visitOnce connects, takes what lies there and brings what waits.
func (n *ftpNode) visitOnce(ctx context.Context) (v client.FTPVisit) {
	n.visit.Lock()
	defer n.visit.Unlock()
	conn, err := ssh.Dial("tcp", n.address, n.login)
	if err != nil {
		v.Error = err.Error()
		return v
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	c, err := sftp.NewClient(conn)
	if err == nil {
		defer c.Close()
		err = n.take(ctx, conn, c, &v)
	}
	if err == nil {
		err = n.bring(ctx, conn, c, &v)
	}
	if err != nil {
		v.Error = err.Error()
		n.e.log.Info("visit ended early", "node", n.tx.fiscalID, "error", err.Error())
	}
	return v
}

// take acquires every support that lies there and was not acquired before, and removes it.
func (n *ftpNode) take(ctx context.Context, conn *ssh.Client, c *sftp.Client, v *client.FTPVisit) error {
	probe, err := c.Create(path.Join(n.towards, sdiftp.Probe))
	if err == nil {
		_, err = probe.Write([]byte("da Sogei"))
		err = errors.Join(err, probe.Close())
	}
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	entries, err := c.ReadDirContext(ctx, n.towards)
	if err != nil {
		return err
	}
	for _, f := range entries {
		name, err := sdiftp.ParseName(f.Name())
		if err != nil || name.Kind != sdiftp.FI || name.Node != n.tx.fiscalID || f.Size() == 0 || f.Size() > sdiftp.MaxSupport || name.Test() != n.test {
			n.e.log.Warn("not taken: name or size", "name", f.Name(), "size", f.Size())
			continue
		}
		n.mu.Lock()
		known := n.taken[f.Name()]
		n.mu.Unlock()
		if !known {
			cut, err := n.acquire(conn, c, name)
			if err != nil {
				return err
			}
			v.Taken = append(v.Taken, f.Name())
			if cut {
				_ = conn.Close()
				return errCut
			}
		}
		err = c.Remove(path.Join(n.towards, f.Name()))
		if err != nil {
			return err
		}
	}
	return nil
}

// acquire reads one support and judges it. cut orders the connection to break before it is removed.
func (n *ftpNode) acquire(conn *ssh.Client, c *sftp.Client, name sdiftp.Name) (cut bool, err error) {
	order, _ := n.e.cfg.Faults.Take(fault.Event{Kinds: fault.FTPTake, Name: name.String(), Transmitter: n.tx.fiscalID})
	file, err := c.Open(path.Join(n.towards, name.String()))
	if err != nil {
		return false, err
	}
	defer file.Close()
	if order.Kind == client.FaultFTPCutGet {
		_, _ = io.CopyN(io.Discard, file, 100)
		_ = conn.Close()
		return false, errCut
	}
	raw, err := io.ReadAll(io.LimitReader(file, sdiftp.MaxSupport+1))
	if err != nil {
		return false, err
	}
	now := n.e.clock.Now()
	n.mu.Lock()
	n.taken[name.String()] = true
	n.mu.Unlock()
	n.e.mu.Lock()
	n.e.counts.Requests++
	n.e.mu.Unlock()
	n.judgeSupport(name, raw, now, order)
	return order.Kind == client.FaultFTPKeep, nil
}

// judgeSupport opens a support, registers what is inside as any other channel does, and prepares the outcome.
func (n *ftpNode) judgeSupport(name sdiftp.Name, raw []byte, now time.Time, order client.Fault) {
	at := now
	if real := time.Now(); real.After(at) {
		at = real
	}
	archive, err := n.opener.Open(raw, at)
	switch {
	case order.Kind == client.FaultFTPER:
		n.refuse(name, sdiftp.ScartoFirma, "ordered through the control API (SANDBOX)")
		return
	case errors.Is(err, sdiftp.ErrEncryption):
		n.refuse(name, sdiftp.ScartoCifratura, "errore di decifratura (SANDBOX)")
		return
	case err != nil:
		n.refuse(name, sdiftp.ScartoFirma, "errore di verifica della firma (SANDBOX)")
		return
	}
	content, err := sdiftp.Read(name, archive, sdiftp.Limits{})
	code := sdiftp.ET01
	if err != nil || order.Kind == client.FaultFTPET02 || len(content.Scartati) > 0 || len(content.Differenze()) > 0 || len(content.Documenti) == 0 {
		code = sdiftp.ET02
		n.e.log.Warn("support refused", "name", name.String(), "error", err)
	}
	documents := 0
	if code == sdiftp.ET01 {
		documents = len(content.Documenti)
		for _, d := range content.Documenti {
			switch d.Tipo {
			case sdiftp.FA:
				n.register(d, now)
			case sdiftp.Tipo(sdi.EC):
				n.answered(d)
			}
		}
	}
	n.mu.Lock()
	n.in = append(n.in, sdiftp.Voce{Supporto: name, At: now, Documenti: documents, Esito: string(code)})
	n.mu.Unlock()
	if order.Kind == client.FaultFTPSilent {
		return
	}
	xml, err := sdiftp.Esito{Nodo: name.Node, Ricezione: now, DataEsito: n.e.clock.Now(), Supporto: name.Support(), Esito: code}.Write()
	if err != nil {
		n.e.log.Error("outcome not written", "error", err.Error())
		return
	}
	outcome := name
	outcome.Kind, outcome.Complete = sdiftp.EO, false
	n.mu.Lock()
	n.waiting = append(n.waiting, ftpFile{name: outcome, data: xml})
	n.mu.Unlock()
}

func (n *ftpNode) refuse(name sdiftp.Name, code int, why string) {
	n.e.mu.Lock()
	n.e.counts.Refused++
	n.e.mu.Unlock()
	name.Kind, name.Complete = sdiftp.ER, false
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting = append(n.waiting, ftpFile{name: name, data: sdiftp.Scarto{Codice: code, Testo: why}.Write()})
}

func (n *ftpNode) register(d sdiftp.Documento, now time.Time) {
	taken, err := n.e.register(n.tx, d.Name, d.Data, now, nil)
	if err != nil {
		n.e.log.Error("file not registered", "name", d.Name, "error", err.Error())
		return
	}
	n.e.mu.Lock()
	taken.node = n
	n.e.mu.Unlock()
	n.e.judges.do(func(context.Context) { n.e.judge(taken) })
}

// bring puts what waits, each under its name without the mark of a whole file, then with it.
func (n *ftpNode) bring(ctx context.Context, conn *ssh.Client, c *sftp.Client, v *client.FTPVisit) error {
	n.pack(ctx)
	for {
		n.mu.Lock()
		if len(n.waiting) == 0 {
			n.mu.Unlock()
			return nil
		}
		f := n.waiting[0]
		n.mu.Unlock()
		err := n.put(conn, c, f)
		if err != nil {
			return err // it stays the first that waits
		}
		v.Put = append(v.Put, f.name.Whole().String())
		n.mu.Lock()
		n.waiting = n.waiting[1:]
		n.mu.Unlock()
		if f.after != nil {
			f.after()
		}
	}
}

func (n *ftpNode) put(conn *ssh.Client, c *sftp.Client, f ftpFile) error {
	order, _ := n.e.cfg.Faults.Take(fault.Event{Kinds: fault.FTPPut, Name: f.name.Support(), Transmitter: n.tx.fiscalID, Type: string(f.name.Kind)})
	data, times := f.data, 1
	switch order.Kind {
	case client.FaultFTPHalf:
		data = data[:len(data)/2]
	case client.FaultFTPDuplicate:
		times = 2
	}
	for range times {
		path1, path2 := path.Join(n.from, f.name.String()), path.Join(n.from, f.name.Whole().String())
		file, err := c.Create(path1)
		if err != nil {
			return err
		}
		if order.Kind == client.FaultFTPCutPut {
			_, _ = file.Write(data[:len(data)/2])
			_ = conn.Close()
			return errCut
		}
		_, err = file.Write(data)
		err = errors.Join(err, file.Close())
		if err == nil {
			err = c.Rename(path1, path2)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// pack makes one support of the messages and passive files that wait.
func (n *ftpNode) pack(ctx context.Context) {
	n.mu.Lock()
	messages, parcels := n.inbox, n.parcels
	n.inbox, n.parcels = nil, nil
	n.mu.Unlock()
	var later []*receipt
	seen := map[string]bool{}
	parcels, docs := n.fit(parcels, seen)
	var inside []*receipt
	for _, r := range messages {
		if seen[sdi.NameKey(r.name)] { // the same message again goes with the next support
			later = append(later, r)
			continue
		}
		seen[sdi.NameKey(r.name)] = true
		inside = append(inside, r)
		docs = append(docs, sdiftp.Documento{Name: r.name, Data: r.data})
	}
	n.mu.Lock()
	n.inbox = append(later, n.inbox...)
	n.mu.Unlock()
	if len(docs) == 0 {
		return
	}
	now := n.e.clock.Now()
	name := n.nextName(now)
	archive, err := sdiftp.Build(name, now, docs)
	var sealed []byte
	if err == nil {
		signer := n.signer
		order, bad := n.e.cfg.Faults.Take(fault.Event{Kinds: fault.FTPSeal, Name: name.Support(), Transmitter: n.tx.fiscalID})
		if bad && order.Kind == client.FaultFTPBadSignature {
			stranger, issueErr := n.e.cfg.CA.IssueClient("SANDBOX stranger")
			if issueErr == nil {
				signer = sdiftp.Signer{Certificate: stranger.Certificate(), Key: stranger.Key}
			}
		}
		sealed, err = sdiftp.Seal(ctx, archive, time.Now(), signer, n.readable)
	}
	if err != nil {
		n.e.log.Error("support not made", "error", err.Error())
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.out = append(n.out, sdiftp.Voce{Supporto: name.Whole(), At: now, Documenti: len(docs)})
	n.waiting = append(n.waiting, ftpFile{name: name, data: sealed, after: func() {
		for _, r := range inside {
			n.e.delivered(r)
		}
		for _, p := range parcels {
			if p.after != nil {
				p.after()
			}
		}
	}})
}

func (n *ftpNode) nextName(now time.Time) sdiftp.Name {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := sdiftp.FirstNumber
	if n.test {
		first = sdiftp.FirstTestNumber
	}
	minute := now.In(sdi.Roma()).Format("200601021504")
	if minute != n.minute {
		n.minute, n.number = minute, first
	}
	name := sdiftp.NewName(sdiftp.FO, n.tx.fiscalID, now, n.number)
	n.number++
	return name
}

// message queues a receipt for the next support; a duplicate on command goes twice.
func (n *ftpNode) message(r *receipt) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inbox = append(n.inbox, r)
	if r.order.Kind == client.FaultDuplicate {
		n.inbox = append(n.inbox, r)
	}
}
