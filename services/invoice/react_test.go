package invoice

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
)

func (w *world) blobOf(text, mediaType string) *eventv1.Blob {
	ref := w.stored("acme", text)
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType}
}

func (w *world) receipt(kind string) *sdiv1.Receipt {
	return &sdiv1.Receipt{Type: kind, FileName: "IT01_00001_" + kind + "_001.xml", Content: w.blobOf("receipt "+kind, "application/xml")}
}

// events are what the other services state when the facts of a journey happen to inv.
func (w *world) events(inv *invoicev1.Invoice, journey []facts) []proto.Message {
	name, sent := inv.GetName(), w.blobOf("signed "+inv.GetName(), "application/pkcs7-mime")
	const sdiID = "123456789012"
	of := map[facts]proto.Message{
		factSigned:             &signv1.DocumentSigned{Subject: name, Signature: "tenants/acme/signatures/s", Signed: sent, Original: sent, Format: inv.GetFormat()},
		factSigningFailed:      &signv1.SigningFailed{Subject: name, Code: "NO_ACTIVE_CREDENTIAL", Message: "no credential"},
		factTransmitted:        &sdiv1.InvoiceTransmitted{Invoice: name, FileName: "IT01_00001.xml.p7m", SdiId: sdiID, Transmitted: sent, SendTime: timestamppb.Now()},
		factTransmissionFailed: &sdiv1.TransmissionFailed{Invoice: name, Code: "EI03", Message: "not enabled"},
		factRC:                 &sdiv1.InvoiceDelivered{Invoice: name, SdiId: sdiID, Receipt: w.receipt("RC"), Format: inv.GetFormat()},
		factMC:                 &sdiv1.InvoiceNotDelivered{Invoice: name, SdiId: sdiID, Receipt: w.receipt("MC"), Format: inv.GetFormat()},
		factNS: &sdiv1.InvoiceDiscarded{Invoice: name, SdiId: sdiID, Receipt: w.receipt("NS"),
			Errors: []*sdiv1.RejectionError{{Code: "00423", Message: "PrezzoTotale", Hint: "sum again"}}},
		factEC01:      &sdiv1.InvoiceOutcomeReceived{Invoice: name, SdiId: sdiID, Receipt: w.receipt("NE"), Outcome: "EC01"},
		factEC02:      &sdiv1.InvoiceOutcomeReceived{Invoice: name, SdiId: sdiID, Receipt: w.receipt("NE"), Outcome: "EC02"},
		factDT:        &sdiv1.InvoiceTermExpired{Invoice: name, SdiId: sdiID, Receipt: w.receipt("DT")},
		factAT:        &sdiv1.InvoiceAttested{Invoice: name, SdiId: sdiID, Receipt: w.receipt("AT")},
		factInCustody: &conservationv1.UnitTakenInCharge{Unit: "tenants/acme/units/u", Subject: name, Time: timestamppb.New(time.Unix(1_800_000_000, 0))},
		factPreserved: &conservationv1.UnitPreserved{Unit: "tenants/acme/units/u", Subject: name, Package: "tenants/acme/packages/p", StampTime: timestamppb.Now()},
	}
	var out []proto.Message
	for _, f := range journey {
		out = append(out, of[f])
	}
	return out
}

// handle runs the handler of each event in one transaction, as the bus does with a batch.
func (w *world) handle(events ...proto.Message) error {
	return w.DB("invoice").Tx(w.t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		for _, ev := range events {
			id, err := pg.NewID()
			if err != nil {
				return err
			}
			if err := w.dispatch(bus.WithMeta(ctx, bus.Envelope{ID: id.String(), Tenant: "acme", Time: time.Now()}), tx, ev); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) dispatch(ctx context.Context, tx pgx.Tx, ev proto.Message) error {
	switch e := ev.(type) {
	case *signv1.DocumentSigned:
		return w.s.onDocumentSigned(ctx, tx, e)
	case *signv1.SigningFailed:
		return w.s.onSigningFailed(ctx, tx, e)
	case *sdiv1.InvoiceTransmitted:
		return w.s.onInvoiceTransmitted(ctx, tx, e)
	case *sdiv1.TransmissionFailed:
		return w.s.onTransmissionFailed(ctx, tx, e)
	case *sdiv1.InvoiceDelivered:
		return w.s.onInvoiceDelivered(ctx, tx, e)
	case *sdiv1.InvoiceNotDelivered:
		return w.s.onInvoiceNotDelivered(ctx, tx, e)
	case *sdiv1.InvoiceDiscarded:
		return w.s.onInvoiceDiscarded(ctx, tx, e)
	case *sdiv1.InvoiceOutcomeReceived:
		return w.s.onInvoiceOutcomeReceived(ctx, tx, e)
	case *sdiv1.InvoiceTermExpired:
		return w.s.onInvoiceTermExpired(ctx, tx, e)
	case *sdiv1.InvoiceAttested:
		return w.s.onInvoiceAttested(ctx, tx, e)
	case *sdiv1.DeadlineReached:
		return w.s.onDeadlineReached(ctx, tx, e)
	case *conservationv1.UnitTakenInCharge:
		return w.s.onUnitTakenInCharge(ctx, tx, e)
	case *conservationv1.UnitPreserved:
		return w.s.onUnitPreserved(ctx, tx, e)
	}
	return fmt.Errorf("no handler of %T", ev)
}

func TestJourneyThroughTheBus(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	j := journeys["private delivered"]
	w.state("acme", w.events(inv, j.facts)...)
	w.becomes(inv.GetName(), j.end)
	var got *invoicev1.Invoice
	w.eventually(func() bool {
		got = w.get(inv.GetName())
		return got.GetPackage() != "" && got.GetFileName() != "" && got.GetPreserveTime() != nil && len(got.GetDocuments()) == 3
	}, "everything is known")
	require.Equal(t, "123456789012 IT01_00001.xml.p7m", got.GetSdiId()+" "+got.GetFileName())
	require.Equal(t, int64(1_800_000_000), got.GetPreserveTime().GetSeconds())
	require.Equal(t, "tenants/acme/packages/p", got.GetPackage())
	require.Empty(t, got.GetFailure())
	var names []string
	for _, d := range got.GetDocuments() {
		names = append(names, d.GetKind().String()+" "+d.GetReceiptType()+" "+d.GetFileName())
	}
	slices.Sort(names)
	require.Equal(t, []string{"DOCUMENT_KIND_ORIGINAL  IT01_00001.xml", "DOCUMENT_KIND_RECEIPT RC IT01_00001_RC_001.xml",
		"DOCUMENT_KIND_SIGNED  IT01_00001.xml.p7m"}, names)
	for _, d := range got.GetDocuments() {
		doc, err := w.api.GetDocument(t.Context(), &invoicev1.GetDocumentRequest{Name: d.GetName()})
		require.NoError(t, err)
		require.True(t, proto.Equal(d, doc.GetDocument()))
		require.Equal(t, d.GetSize(), int64(len(doc.GetContent())))
	}

	w.eventually(func() bool { return len(w.settledOf(inv.GetName())) > 0 }, "settled")
	s := w.settledOf(inv.GetName())[0]
	require.Equal(t, "INVOICE_STATE_DELIVERED", s.GetState())
	require.Equal(t, int32(2026), s.GetFiscalYear())
	require.Equal(t, "IT"+acmeVAT(), s.GetSellerVatNumber())
	require.Equal(t, "application/pkcs7-mime", s.GetTransmitted().GetMediaType())
	require.Equal(t, "RC", s.GetReceipts()[0].GetType())
	require.Len(t, s.GetReceipts(), 1)
	require.Equal(t, "TD01 1 2026-03-16", s.GetBodies()[0].GetDocumentType()+" "+s.GetBodies()[0].GetNumber()+" "+s.GetBodies()[0].GetIssueDate())
}

// Each journey in every order: event by event on one invoice, all at once on another, and twice.
func TestEveryOrderOnTheDatabase(t *testing.T) {
	w := start(t)
	n := 0
	kept := map[string]bool{}
	for title, j := range journeys {
		var want *invoicev1.Invoice
		orders := permutations(j.facts)
		if len(orders) > 120 {
			orders = orders[:120]
		}
		for k, order := range orders {
			n++
			o := fatturapatest.Options{Numero: fmt.Sprint(n)}
			if j.public {
				o.Formato = "FPA12"
			}
			inv := w.create(fileOf(o))
			kept[inv.GetName()] = j.kept
			events := w.events(inv, order)
			switch k % 3 {
			case 0:
				require.NoError(t, w.handle(events...))
			case 1:
				for _, ev := range events {
					require.NoError(t, w.handle(ev))
				}
			case 2:
				require.NoError(t, w.handle(append(events, events...)...))
			}
			got := w.get(inv.GetName())
			require.Equal(t, j.end, got.GetState(), "%s %v", title, order)
			for _, d := range got.GetDocuments() { // times and places differ, what is there does not
				d.Name, d.CreateTime, d.Sha256, d.Size = "", nil, nil, 0
			}
			slices.SortFunc(got.GetDocuments(), func(a, b *invoicev1.Document) int {
				return bytes.Compare([]byte(a.GetReceiptType()+a.GetFileName()), []byte(b.GetReceiptType()+b.GetFileName()))
			})
			got.Name, got.CreateTime, got.UpdateTime, got.TraceId, got.Etag, got.Bodies = "", nil, nil, "", "", nil
			if want == nil {
				want = got
			}
			require.True(t, proto.Equal(want, got), "%s %v:\n%v\n%v", title, order, want, got)
		}
	}
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM outbox`) == 0 }, "the outbox is empty")
	for name, settles := range kept {
		if settles {
			w.eventually(func() bool { return len(w.settledOf(name)) == 1 }, "%s settles once", name)
		}
	}
	for name, settles := range kept {
		require.Equal(t, settles, len(w.settledOf(name)) == 1, name)
	}
}

func TestRejectedNumbersCanBeUsedAgain(t *testing.T) {
	w := start(t)
	send := func(o fatturapatest.Options, journey ...facts) *invoicev1.Invoice {
		inv := w.create(fileOf(o))
		require.NoError(t, w.handle(w.events(inv, journey)...))
		return w.get(inv.GetName())
	}
	rejected := send(fatturapatest.Options{Numero: "1"}, factTransmitted, factNS)
	require.Equal(t, "00423", rejected.GetViolations()[0].GetCode())
	require.Equal(t, "sum again", rejected.GetViolations()[0].GetHint())
	send(fatturapatest.Options{Numero: "1", Progressivo: "00002"}, factTransmitted, factRC)
	send(fatturapatest.Options{Numero: "2", Formato: "FPA12"}, factTransmitted, factRC, factEC02)
	send(fatturapatest.Options{Numero: "2", Formato: "FPA12", Progressivo: "00002"}, factTransmitted, factRC, factEC01)
	for _, o := range []fatturapatest.Options{{Numero: "1", Progressivo: "00003"}, {Numero: "2", Formato: "FPA12", Progressivo: "00003"}} {
		_, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: fileOf(o)})
		requireFault(t, err, "INVOICE_DUPLICATE", "content", "00404")
	}
}

func TestBadEventsAreParkedAndStopNobody(t *testing.T) {
	w := start(t)
	inv := w.create(file("1"))
	foreign := blob.Of("brio", []byte("x"))
	stray := w.receipt("RC")
	stray.Content.Uri = foreign.URI()
	good := w.events(inv, []facts{factTransmitted, factRC})
	w.state("acme",
		&sdiv1.InvoiceDelivered{Invoice: acmeMain + "/invoices/0198c0de-0000-7000-8000-000000000000", Receipt: w.receipt("RC")},
		&sdiv1.InvoiceDelivered{Invoice: inv.GetName(), Receipt: stray},
		&sdiv1.InvoiceDelivered{Invoice: brioMain + "/invoices/0198c0de-0000-7000-8000-000000000000", Receipt: w.receipt("RC")},
		&sdiv1.InvoiceDelivered{Invoice: inv.GetName(), Receipt: &sdiv1.Receipt{Type: "RC"}},
		&sdiv1.InvoiceOutcomeReceived{Invoice: inv.GetName(), Receipt: w.receipt("NE"), Outcome: "EC03"},
		&signv1.DocumentSigned{Subject: "tenants/acme/packages/p", Signed: w.blobOf("index", "application/pkcs7-mime")}, // not ours: ignored
		good[0], good[1])
	w.becomes(inv.GetName(), invoicev1.InvoiceState_INVOICE_STATE_DELIVERED)
	w.eventually(func() bool { return w.count(`SELECT count(*) FROM parked_event`) == 5 }, "five events are parked")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM parked_event WHERE code = 'INVOICE_NOT_FOUND'`))
	require.Equal(t, 4, w.count(`SELECT count(*) FROM parked_event WHERE code = 'EVENT_MALFORMED'`))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM document WHERE receipt_type = 'RC'`))
}
