package sdigateway_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/client"
)

const (
	accepted = sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_ACCEPTED
	refused  = sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_REFUSED
	cigCup   = sdiv1.RefusalCause_REFUSAL_CAUSE_CIG_CUP
)

// received delivers an invoice to the office and returns its name and identifier.
func (r *receiver) received(t *testing.T, number string, bodies int) (name, sdiID string) {
	t.Helper()
	d := r.deliver(t, client.DeliveryRequest{RecipientCode: officeCode, Invoice: &client.Small{Number: number, Bodies: bodies}})
	f := r.file(t, d.ID, 1)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_AWAITING_OUTCOME, f.GetState())
	require.NotNil(t, f.GetAnswerBy())
	return f.GetName(), d.ID
}

func (r *receiver) answer(t *testing.T, req *sdiv1.SendOutcomeRequest) (*sdiv1.InboundInvoice, error) {
	t.Helper()
	return r.inbound.SendOutcome(t.Context(), req)
}

// settled waits until no outcome of a file is on its way.
func (r *receiver) settled(t *testing.T, name string) *sdiv1.InboundInvoice {
	t.Helper()
	var f *sdiv1.InboundInvoice
	eventually(t, "the answer of SdI", func() (bool, string) {
		var err error
		f, err = r.inbound.GetInboundInvoice(t.Context(), &sdiv1.GetInboundInvoiceRequest{Name: name})
		require.NoError(t, err)
		for _, o := range f.GetOutcomes() {
			if o.GetSettleTime() == nil {
				return false, fmt.Sprint(f.GetOutcomes())
			}
		}
		return true, ""
	})
	return f
}

func (r *receiver) sdiSide(t *testing.T, id string) client.Delivery {
	t.Helper()
	list, err := r.sandbox.Deliveries(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0]
}

func code(t *testing.T, err error) string {
	t.Helper()
	require.Error(t, err)
	return fault.Of(err).Code
}

// A public body answers: once for each document, with a lawful cause, within the term; what SdI says decides,
// and a call without an answer is asked again under its own name.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	r := setupReceiver(t)

	name, id := r.received(t, "A1", 1)
	request := uuid.NewString()
	for range 2 { // the same request again is the same outcome
		_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted, Position: 1, RequestId: request})
		require.NoError(t, err)
	}
	f := r.settled(t, name)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_ANSWERED, f.GetState())
	require.Equal(t, sdiv1.InboundOutcomeState_INBOUND_OUTCOME_STATE_TAKEN, f.GetBodies()[0].GetOutcome().GetState())
	require.Regexp(t, `_EC_001\.xml$`, f.GetOutcomes()[0].GetFileName())
	require.Equal(t, []client.Outcome{{Position: 1, Outcome: "EC01", Name: f.GetOutcomes()[0].GetFileName()}}, r.sdiSide(t, id).Outcomes)
	_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: refused, Cause: cigCup})
	require.Equal(t, "OUTCOME_ALREADY_GIVEN", code(t, err))

	t.Run("lot", func(t *testing.T) { r.answersLot(t) })
	t.Run("not lawful", func(t *testing.T) { r.refusesUnlawful(t) })
	t.Run("what SdI says", func(t *testing.T) { r.hearsSdI(t) })
	t.Run("unknown end", func(t *testing.T) { r.asksAgain(t) })
	t.Run("term", func(t *testing.T) { r.keepsTheTerm(t) })
	require.Equal(t, 1, r.count(t, `SELECT count(*) FROM audit_entry WHERE action = 'inbound.outcome' AND resource = '`+name+`'`))
}

// Each document of a lot has an outcome of its own; one for the whole file excludes them.
func (r *receiver) answersLot(t *testing.T) {
	name, id := r.received(t, "L7", 3)
	_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: refused, Position: 2, Cause: cigCup, Description: "manca il CIG Z123"})
	require.NoError(t, err)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted, Position: 4})
	require.Equal(t, "OUTCOME_POSITION_UNKNOWN", code(t, err))
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted})
	require.Equal(t, "OUTCOME_ALREADY_GIVEN", code(t, err), "the whole file includes document 2")
	f := r.settled(t, name)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_AWAITING_OUTCOME, f.GetState())
	for _, n := range []int32{1, 3} {
		_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted, Position: n})
		require.NoError(t, err)
	}
	f = r.settled(t, name)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_ANSWERED, f.GetState())
	require.Len(t, r.sdiSide(t, id).Outcomes, 3)
	got := r.sdiSide(t, id).Outcomes[0]
	require.Equal(t, 2, got.Position)
	require.Contains(t, got.Description, "DM 132/2020")
	require.Contains(t, got.Description, "manca il CIG Z123")
}

// The causes of a refusal are a closed list, and private invoices have no outcome.
func (r *receiver) refusesUnlawful(t *testing.T) {
	name, id := r.received(t, "U1", 1)
	_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: refused})
	require.Equal(t, "OUTCOME_CAUSE_REQUIRED", code(t, err))
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: refused, Cause: 9})
	require.Equal(t, fault.KindInvalid, fault.Of(err).Kind)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted, Cause: cigCup})
	require.Equal(t, "OUTCOME_CAUSE_UNEXPECTED", code(t, err))
	require.Zero(t, r.sdiSide(t, id).Calls, "nothing was sent")
	d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "private"}})
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: r.file(t, d.ID, 1).GetName(), Kind: accepted})
	require.Equal(t, "OUTCOME_NOT_FOR_PRIVATE", code(t, err))
}

// ES00 ends an outcome and frees the document for another; ES00 with SE says why.
func (r *receiver) hearsSdI(t *testing.T) {
	name, id := r.received(t, "S1", 1)
	_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultOutcomeES00})
	require.NoError(t, err)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted})
	require.NoError(t, err)
	o := r.settled(t, name).GetOutcomes()[0]
	require.Equal(t, sdiv1.InboundOutcomeState_INBOUND_OUTCOME_STATE_REFUSED, o.GetState())
	require.Equal(t, "ES00", o.GetCode())

	// A document that SdI does not know by this number: EN01, told in words, and the SE is kept.
	admin := pgtest.Admin(t, r.DB("sdi-gateway"))
	_, err = admin.Exec(t.Context(), `UPDATE inbound_body SET number = 'other' WHERE number = 'S1'`)
	require.NoError(t, err)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted, Position: 1})
	require.NoError(t, err)
	o = r.settled(t, name).GetOutcomes()[1]
	require.Equal(t, "EN01", o.GetCode())
	require.Contains(t, o.GetMessage(), "EN01")
	require.Equal(t, 1, r.count(t, `SELECT count(*) FROM inbound_outcome WHERE answer_uri <> ''`))

	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted})
	require.NoError(t, err)
	f := r.settled(t, name)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_ANSWERED, f.GetState())
	require.Regexp(t, `_EC_003\.xml$`, f.GetOutcomes()[2].GetFileName(), "each message has a name of its own")
	require.Len(t, r.sdiSide(t, id).Outcomes, 1)
}

// A call whose end is unknown is asked again, later, with the same name and bytes: when the first one had
// arrived SdI refuses the repeat, and that is the proof.
func (r *receiver) asksAgain(t *testing.T) {
	for _, kind := range []string{client.FaultOutcomeCut, client.FaultOutcomeES02Kept, client.FaultOutcomeES02} {
		name, id := r.received(t, "K-"+kind[8:], 1)
		_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: kind})
		require.NoError(t, err)
		_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted})
		require.NoError(t, err)
		f := r.settled(t, name)
		require.Equal(t, sdiv1.InboundState_INBOUND_STATE_ANSWERED, f.GetState(), kind)
		o := f.GetOutcomes()[0]
		require.Equal(t, int32(2), o.GetAttempts(), kind)
		side := r.sdiSide(t, id)
		require.Len(t, side.Outcomes, 1, "taken once")
		require.Equal(t, 2, side.Calls)
		if kind != client.FaultOutcomeES02 {
			require.Equal(t, "OUTCOME_REPEAT_OF_OURS", o.GetCode())
		}
	}
}

// The term ends by SdI's notice, or by the calendar: then nothing is sent.
func (r *receiver) keepsTheTerm(t *testing.T) {
	name, id := r.received(t, "T1", 1)
	answered, answeredID := r.received(t, "T2", 1)
	_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: answered, Kind: accepted})
	require.NoError(t, err)
	r.settled(t, answered)
	r.advance(t, 15*24*time.Hour+time.Minute)
	var f *sdiv1.InboundInvoice
	eventually(t, "DT", func() (bool, string) {
		f = r.settled(t, name)
		return f.GetState() == sdiv1.InboundState_INBOUND_STATE_TERM_EXPIRED, f.String()
	})
	require.NotNil(t, f.GetExpireTime())
	var told *sdiv1.InboundTermExpired
	for told.GetInboundInvoice() != f.GetName() { // that of the invoice before may still be on its way
		told, _ = r.await(t).(*sdiv1.InboundTermExpired)
	}
	require.Equal(t, told.GetFileName(), f.GetExpiry().GetFileName(), "who was not told finds the notice in the list")
	require.True(t, proto.Equal(told.GetContent(), f.GetExpiry().GetContent()), "%s, told %s", f.GetExpiry(), told)
	require.False(t, r.sdiSide(t, answeredID).Expired, "who answered gets no notice")
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted})
	require.Equal(t, "OUTCOME_WINDOW_EXPIRED", code(t, err))
	require.Zero(t, r.sdiSide(t, id).Calls)

	late, lateID := r.received(t, "T3", 1)
	r.later.Store(int64(17 * 24 * time.Hour))
	defer r.later.Store(0)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: late, Kind: accepted})
	require.Equal(t, "OUTCOME_WINDOW_EXPIRED", code(t, err))
	require.Contains(t, err.Error(), "nothing was sent")
	require.Zero(t, r.sdiSide(t, lateID).Calls)
}
