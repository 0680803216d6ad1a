package sdi

import (
	"strconv"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// parcel is what goes to a node together, in one support: an invoice and its metadata, or a single message.
type parcel struct {
	docs  []sdiftp.Documento
	after func() // once the support is there; nil: nothing
}

// enclose puts a parcel into the next support.
func (n *ftpNode) enclose(p parcel) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parcels = append(n.parcels, p)
}

// fit gives the parcels of which no name is in the support yet; the others go with the next one.
func (n *ftpNode) fit(parcels []parcel, seen map[string]bool) (inside []parcel, docs []sdiftp.Documento) {
	var later []parcel
next:
	for _, p := range parcels {
		for _, d := range p.docs {
			if seen[sdi.NameKey(d.Name)] {
				later = append(later, p)
				continue next
			}
		}
		for _, d := range p.docs {
			seen[sdi.NameKey(d.Name)] = true
			docs = append(docs, d)
		}
		inside = append(inside, p)
	}
	n.mu.Lock()
	n.parcels = append(later, n.parcels...)
	n.mu.Unlock()
	return inside, docs
}

// bringDelivery puts a file and the metadata of this attempt into the next support of its node. Faults of delivery
// that are about the call have no meaning here; those about the metadata do, and a file may go without any.
func (e *Exchange) bringDelivery(d *delivery) {
	n := d.to.node
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Deliveries, Name: d.file.name, Transmitter: d.to.fiscalID})
	e.mu.Lock()
	d.attempts++
	e.lastMessage++
	number, message, raw := d.attempts, strconv.FormatUint(e.lastMessage, 10), d.file.raw
	e.mu.Unlock()
	call, err := e.metadata(d, number, message, raw, order.Kind)
	if err != nil {
		e.handedOver(d, err)
		return
	}
	file := sdiftp.Documento{Tipo: sdiftp.FA, Name: call.NomeFile, Data: call.File}
	metadata := sdiftp.Documento{Tipo: sdiftp.Tipo(sdi.MT), Name: call.NomeFileMetadati, Data: call.Metadati}
	done := func() { e.handedOver(d, nil) }
	switch order.Kind {
	case client.FaultDeliverTwice:
		n.enclose(parcel{docs: []sdiftp.Documento{file, metadata}})
		n.enclose(parcel{docs: []sdiftp.Documento{file, metadata}, after: done})
	case client.FaultDeliverApart:
		n.enclose(parcel{docs: []sdiftp.Documento{file}, after: func() {
			n.enclose(parcel{docs: []sdiftp.Documento{metadata}, after: done})
		}})
	default:
		n.enclose(parcel{docs: []sdiftp.Documento{file, metadata}, after: done})
	}
}

// answered takes an outcome that a support carried. SdI says nothing of one that it takes; one that it refuses comes
// back as an SE.
func (n *ftpNode) answered(d sdiftp.Documento) {
	order, _ := n.e.cfg.Faults.Take(fault.Event{Kinds: fault.Outcomes, Name: d.Name, Transmitter: n.tx.fiscalID})
	f := sdi.FileSdI{NomeFile: d.Name, File: d.Data}
	var ec *sdi.NotificaEsitoCommittente
	m, err := sdi.ParseMessage(d.Name, d.Data)
	if err == nil {
		f.IdentificativoSdI = m.Head().IdentificativoSdI
		ec, _ = m.Contenuto.(*sdi.NotificaEsitoCommittente)
	}
	n.e.mu.Lock()
	file := n.e.byID[f.IdentificativoSdI]
	if file != nil && file.passive != nil {
		file.passive.calls++
	}
	n.e.mu.Unlock()
	var answer sdi.RispostaSdINotificaEsito
	if order.Kind == client.FaultOutcomeES00 {
		answer, err = n.e.discardOutcome(file, f, ec, sdi.EN00, "ordered through the control API")
	} else {
		answer, err = n.e.takeOutcome(n.tx.fiscalID, file, f)
	}
	if err != nil {
		n.e.log.Error("outcome not judged", "name", d.Name, "error", err.Error())
		return
	}
	if se := answer.ScartoEsito; se != nil {
		n.enclose(parcel{docs: []sdiftp.Documento{{Tipo: sdiftp.Tipo(sdi.SE), Name: se.NomeFile, Data: se.File}}})
	}
}
