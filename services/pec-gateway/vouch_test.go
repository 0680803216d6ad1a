package pecgateway_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv"
)

// former manages the domain of mute too, and is found first there: lists of providers are read by name.
const former = "Gestore Antico"

// arrived is when a message came, as the provider's server says.
func arrived(m *pecv1.Message) time.Time { return m.GetVerification().GetJudgeTime().AsTime() }

func (p *post) vouch(from, until time.Time, reason string) (*pecv1.Vouching, error) {
	return p.delivery.VouchForCopies(p.t.Context(), &pecv1.VouchForCopiesRequest{Parent: p.box, ArriveFrom: stampOf(from), ArriveUntil: stampOf(until), Reason: reason})
}

func (p *post) vouchings() []*pecv1.Vouching {
	p.t.Helper()
	list, err := p.delivery.ListVouchings(p.t.Context(), &pecv1.ListVouchingsRequest{Parent: p.box})
	require.NoError(p.t, err)
	return list.GetVouchings()
}

// wentThrough waits until everything that a word covers, or covered, has been judged anew.
func (p *post) wentThrough(w *pecv1.Vouching) (out *pecv1.Vouching) {
	p.t.Helper()
	p.eventually("what the word covers is judged", func() bool {
		for _, v := range p.vouchings() {
			if v.GetName() == w.GetName() {
				out = v
			}
		}
		return out.GetJudgeTime() != nil
	})
	return out
}

func (p *post) endVouching(w *pecv1.Vouching, reason string) {
	p.t.Helper()
	_, err := p.delivery.EndVouching(p.t.Context(), &pecv1.EndVouchingRequest{Name: w.GetName(), Reason: reason})
	require.NoError(p.t, err)
	p.wentThrough(w)
}

func (p *post) outcome(m *pecv1.Message) string {
	return p.get(m.GetName()).GetRecipients()[0].GetState()
}

func (p *post) guide(m *pecv1.Message) (text, said string) {
	p.t.Helper()
	dir := p.evidence(m)
	said, err := obey(p.t, dir)
	require.NoError(p.t, err, said)
	raw, err := os.ReadFile(filepath.Join(dir, "VERIFY.txt"))
	require.NoError(p.t, err)
	return string(raw), said
}

// TestG7CopiesThatAPersonVouchesFor: a mailbox was copied from elsewhere after the certificate of the signer had ended. Somebody vouches for what
// came in the copying: it counts then, and state, report and evidence say by whose word, why, and what nothing shows. Nothing else counts by
// that: no forged, changed or unlisted one, none of a mailbox or a day besides. It can be taken back, given again, struck out in one
// case, and it falls with the trust. TESTPLAN G7.
func TestG7CopiesThatAPersonVouchesFor(t *testing.T) {
	t.Parallel()
	require.NoError(t, devenv.RequirePeers(t.Context(), os.Stderr, devenv.Peer{Command: "openssl", Package: "openssl"}, devenv.Peer{Command: "python3", Package: "python3"}))
	p := openPost(t, "")
	p.believe()
	old, unlisted := p.oldProvider(former, "posta-certificata@vecchio.test", 5*time.Minute, true), p.oldProvider("Ignoto", "posta-certificata@ignoto.test", 5*time.Minute, false)
	m, second := p.send(mute), p.send(mute)
	for _, s := range []*pecv1.Message{m, second} {
		p.state(s, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	}
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	before := old.ended.Add(-time.Second) // within what clocks may be apart of when ours was sent
	broken := bytes.Replace(old.receipt(m, before.Add(time.Second)), []byte("Ricevuta di avvenuta"), []byte("Ricevuta di Avvenuta"), 1)
	others := []*pecv1.Message{old.copied(m, old.ended.Add(time.Minute)), unlisted.copied(m, unlisted.ended.Add(-time.Minute)), p.copied(broken)}
	receipt := old.copied(m, before)
	require.Equal(t, "invalid-digest", p.get(others[2].GetName()).GetVerification().GetStatus())
	require.Equal(t, "valid-cert-ended", p.get(others[1].GetName()).GetVerification().GetStatus(), p.get(others[1].GetName()).GetVerification().GetReason())
	require.False(t, p.get(receipt.GetName()).GetProven())
	p.eventually("it is told", func() bool { return p.claims(receipt) != "" })

	from, until := arrived(p.get(others[0].GetName())), arrived(p.get(receipt.GetName()))
	const reason = "copied with imapsync from the former provider\nexit 1"
	_, err := p.vouch(from, until, "")
	require.Error(t, err, "without a reason")
	for _, f := range []struct{ from, until time.Time }{{until.Add(time.Second), until}, {from, time.Now().Add(time.Hour)}} {
		_, err = p.vouch(f.from, f.until, reason)
		requireFault(t, err, "VOUCHING_PERIOD_INVALID")
	}
	elsewhere, err := p.vouch(from.Add(-time.Hour), from.Add(-time.Minute), "another day")
	require.NoError(t, err)
	require.Zero(t, p.wentThrough(elsewhere).GetMessages())
	require.Equal(t, "waiting", p.outcome(m))

	// Of many who say it at once one is taken at his word.
	var all sync.WaitGroup
	words, refused := make([]*pecv1.Vouching, 4), make([]error, 4)
	for i := range words {
		all.Go(func() { words[i], refused[i] = p.vouch(from, until, reason) })
	}
	all.Wait()
	var w *pecv1.Vouching
	for i := range words {
		if refused[i] == nil {
			require.Nil(t, w, "two of them")
			w = words[i]
		} else {
			requireFault(t, refused[i], "ALREADY_VOUCHED")
		}
	}
	require.NotNil(t, w)
	shown := p.wentThrough(w)
	require.EqualValues(t, 1, shown.GetMessages())
	require.EqualValues(t, 1, shown.GetReceipts())
	p.state(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
	vouched := func() {
		t.Helper()
		r := p.get(receipt.GetName())
		require.True(t, r.GetProven())
		require.Equal(t, "valid-cert-ended", r.GetVerification().GetStatus(), "what the signature shows is what it was")
		require.Equal(t, reason, r.GetVerification().GetVouched().GetReason())
		require.NotEmpty(t, r.GetVerification().GetVouched().GetBy())
		require.Contains(t, r.GetVerification().GetVouched().GetNotShown(), "made before the certificate ended")
		require.Equal(t, "delivered", p.outcome(m))
		require.Len(t, p.get(m.GetName()).GetContradictions(), 1)
		require.Contains(t, p.get(m.GetName()).GetContradictions()[0], "RECEIPTS_VOUCHED_FOR: 1 (delivered to "+mute+")")
		require.Contains(t, p.get(m.GetName()).GetContradictions()[0], "imapsync")
	}
	vouched()
	for _, o := range others {
		require.False(t, p.get(o.GetName()).GetProven(), "%s is not for a person to make good", p.get(o.GetName()).GetVerification().GetStatus())
	}
	require.Equal(t, 1, p.query(`SELECT count(*) FROM audit_entry WHERE action = 'mailbox.vouch' AND detail->>'vouching' = $1 AND detail->>'reason' LIKE 'copied with%'`, w.GetName()))
	require.Equal(t, 1, p.query(`SELECT count(*) FROM audit_entry WHERE action = 'message.read_again' AND resource = $1 AND detail->>'because' = $2`, receipt.GetName(), w.GetName()))
	p.eventually("others hear of it that no signature proves it", func() bool {
		for _, ev := range heard[*pecv1.MessageJudged](p.house) {
			if ev.GetMessage() == receipt.GetName() {
				return !ev.GetVerdict().GetProven() && strings.Contains(strings.Join(ev.GetVerdict().GetDoubts(), ""), "by a person's word alone")
			}
		}
		return false
	})
	for _, ev := range heard[*pecv1.ReceiptVerified](p.house) {
		require.NotEqual(t, receipt.GetName(), ev.GetReceipt())
	}
	guide, said := p.guide(m)
	require.Contains(t, guide, "is NOT proven by itself")
	require.Contains(t, guide, "imapsync from the former provider exit 1\n", "one line, since a shell runs it")
	require.Contains(t, guide, "Nothing shows that the signature was made before the certificate ended")
	require.Equal(t, 2, strings.Count(said, "+ openssl cms -verify"), said)
	require.True(t, p.reread(receipt.GetName()).GetProven(), "the word stands")
	p.eventually("the second is over", func() bool { return time.Now().Unix() > until.Unix() })
	late := old.copied(second, before)
	require.False(t, p.get(late.GetName()).GetProven(), "what comes after the period is not vouched for")
	require.Equal(t, "waiting", p.outcome(second))

	// Of what counts by a word one may be struck out by itself.
	strike := func(reinstate bool) {
		t.Helper()
		_, err := p.delivery.StrikeReceipt(t.Context(), &pecv1.StrikeReceiptRequest{Name: receipt.GetName(), Reason: "this one no", Reinstate: reinstate})
		require.NoError(t, err)
	}
	strike(false)
	require.Equal(t, "waiting", p.outcome(m))
	strike(true)
	vouched()

	p.endVouching(w, "it was another mailbox")
	_, err = p.delivery.EndVouching(t.Context(), &pecv1.EndVouchingRequest{Name: w.GetName(), Reason: "twice"})
	requireFault(t, err, "VOUCHING_ENDED")
	_, err = p.delivery.EndVouching(t.Context(), &pecv1.EndVouchingRequest{Name: p.box + "/vouchings/" + uuid.NewString(), Reason: "x"})
	requireFault(t, err, "VOUCHING_NOT_FOUND")
	got := p.get(receipt.GetName())
	require.False(t, got.GetProven())
	require.Nil(t, got.GetVerification().GetVouched())
	require.Equal(t, pecv1.MessageState_MESSAGE_STATE_ACCEPTED, p.get(m.GetName()).GetState())
	require.Equal(t, "waiting", p.outcome(m))
	require.Empty(t, p.get(m.GetName()).GetContradictions())
	guide, said = p.guide(m)
	require.Contains(t, guide, "is not proven (valid-cert-ended)")
	require.Contains(t, guide, "It counted by a person's word once.")
	require.Contains(t, guide, "it was another mailbox")
	require.Equal(t, 1, strings.Count(said, "+ openssl cms -verify"), said)

	// Given again, for a wider period and by two, it counts as before; while one of them stands it does.
	again, err := p.vouch(from, until, reason)
	require.NoError(t, err)
	wider, err := p.vouch(from.Add(-time.Hour), until, "all of that day")
	require.NoError(t, err)
	p.wentThrough(again)
	p.wentThrough(wider)
	vouched()
	p.endVouching(again, "the other one is wider")
	require.Equal(t, "delivered", p.outcome(m))
	require.Equal(t, "all of that day", p.get(receipt.GetName()).GetVerification().GetVouched().GetReason())

	// It falls with the trust in who signed: nobody vouched for that.
	withdrawal, err := p.trust.WithdrawTrust(t.Context(), &pecv1.WithdrawTrustRequest{Provider: former, FromBeginning: true, Reason: "never"})
	require.NoError(t, err)
	p.withdrawn(withdrawal.GetName())
	require.Equal(t, "waiting", p.outcome(m))
	require.False(t, p.get(receipt.GetName()).GetProven())
	require.Zero(t, len(heard[*pecv1.DeliveryDoubted](p.house)), "no state stands on it")
	p.everything()
}

// TestG7WordTakenBackWhileItIsJudgedBy: a message that is judged by a word which is taken back before the judgement is written down is judged
// again; the same when the word is given meanwhile. TESTPLAN G7.
func TestG7WordTakenBackWhileItIsJudgedBy(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	old := p.oldProvider(former, "posta-certificata@vecchio.test", 5*time.Minute, true)
	m := p.send(mute)
	p.state(m, pecv1.MessageState_MESSAGE_STATE_ACCEPTED)
	p.eventually("read for the first time", func() bool { return p.mailbox().GetSync().GetDone() })
	receipt := old.copied(m, old.ended.Add(-time.Second))
	at := arrived(p.get(receipt.GetName()))
	w, err := p.vouch(at, at, "copied")
	require.NoError(t, err)
	p.wentThrough(w)
	got := p.get(receipt.GetName())
	require.True(t, got.GetProven(), got.GetVerification())

	// meanwhile changes what stands while a reading waits to be written down, as who gives a word or takes it back does under the same lock.
	meanwhile := func(change string) *pecv1.Message {
		t.Helper()
		read := make(chan error, 1)
		id := p.box[strings.LastIndex(p.box, "/")+1:]
		require.NoError(t, p.DB("pec-gateway").System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.vouching.' || $1::text, 0))`, id)
			if err != nil {
				return err
			}
			var me int
			err = tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&me)
			if err != nil {
				return err
			}
			go func() {
				_, err := p.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: receipt.GetName()})
				read <- err
			}()
			p.eventually("the reading waits", func() bool {
				return p.query(`SELECT count(*) FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid))`, me) > 0
			})
			_, err = tx.Exec(ctx, change)
			return err
		}))
		require.NoError(t, <-read)
		return p.get(receipt.GetName())
	}
	got = meanwhile(`UPDATE vouching SET end_time = now(), ended_by = 'somebody', end_reason = 'x'`)
	require.False(t, got.GetProven(), "nobody's word")
	require.Equal(t, "waiting", p.outcome(m))
	got = meanwhile(`UPDATE vouching SET end_time = NULL, ended_by = '', end_reason = ''`)
	require.True(t, got.GetProven())
	require.Equal(t, "delivered", p.outcome(m))
	_, err = p.vouch(at, at, "again")
	requireFault(t, err, "ALREADY_VOUCHED")

	// Read when nobody had vouched, and written down after somebody did and took it back: what counted meanwhile counts no more.
	id := lastOf(receipt.GetName())
	p.exec(`UPDATE vouching SET end_time = now(), ended_by = 'somebody', end_reason = 'x'`)
	p.exec(`UPDATE message SET about_id = NULL, proven = false WHERE id = $1::uuid`, id)
	got = meanwhile(`UPDATE message SET about_id = '` + lastOf(m.GetName()) + `', proven = true WHERE id = '` + id + `'`)
	require.False(t, got.GetProven())
	require.Equal(t, m.GetName(), got.GetAbout(), "what it counted for is said")
	require.Equal(t, "waiting", p.outcome(m))
	p.everything()
}
