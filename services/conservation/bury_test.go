package conservation

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

// held is a vault whose first write waits, once it is reached, until it may go on.
type held struct {
	vault.Vault
	once           sync.Once
	reached, leave chan struct{}
}

func (v *held) Put(ctx context.Context, o vault.Object, r io.ReaderAt, lock vault.Lock) error {
	v.once.Do(func() {
		close(v.reached)
		<-v.leave
	})
	return v.Vault.Put(ctx, o, r, lock)
}

// another is a second process of the service, which sees the replicas as given.
func (h *house) another(primary, second vault.Vault) *Service {
	s, r := *h.service, *h.service.replicas
	r.all = []*replica{{Vault: primary, name: primaryReplica}, {Vault: second, name: secondReplica}}
	s.replicas = &r
	return &s
}

// contested is a key that a document holds which is to be destroyed, and under which another one waits for a person.
func (h *house) contested(t testing.TB, key string) (pkg string, waits *conservationv1.Deposit) {
	t.Helper()
	of := func(content string, year int32) *conservationv1.Deposit {
		head := headOf(key, "a.txt", []byte(content))
		head.FiscalYear = year
		return hand(t, h.producer(), head, []byte(content))
	}
	require.Equal(t, accepted, of("uno\n", 2010).GetState())
	pkg = h.closed(t, 2010, "ALTRO")
	waits = of("due\n", 2026)
	require.Equal(t, contest, waits.GetState())
	return pkg, waits
}

func keepBoth(h *house, d *conservationv1.Deposit) error {
	_, err := h.producer().ResolveConflict(context.Background(), &conservationv1.ResolveConflictRequest{
		Name: strings.Replace(d.GetName(), "/deposits/", "/conflicts/", 1), Resolution: conservationv1.ConflictResolution_CONFLICT_RESOLUTION_KEEP_BOTH, Reason: "sono due",
	})
	return err
}

func depositRow(t testing.TB, h *house, d *conservationv1.Deposit) db.Deposit {
	t.Helper()
	row, err := h.service.deposit(context.Background(), "acme", idOf(t, d.GetName()))
	require.NoError(t, err)
	return row
}

func acceptBoth(s *Service, row db.Deposit) error {
	ctx := telemetry.WithActor(context.Background(), "test")
	var head depositHead
	err := json.Unmarshal(row.Head, &head)
	if err != nil {
		return err
	}
	_, err = s.acceptAfterAll(ctx, row, &judgement{s: s, row: row, document: head.Document}, verdictOf{"KEEP_BOTH", "test", "sono due"})
	return err
}

// TestAcceptedWhileItsKeyIsBuried: a deposit is accepted while the words of what was destroyed under the same key are taken from the rows.
// What stands keeps its own.
func TestAcceptedWhileItsKeyIsBuried(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	pkg, waits := h.contested(t, "verbale")
	name, resolved := h.release(t, pkg), make(chan error, 1)
	row := depositRow(t, h, waits)
	second := &held{Vault: h.service.replicas.all[1].Vault, reached: make(chan struct{}), leave: make(chan struct{})}
	other := h.another(h.service.replicas.all[0].Vault, second)
	e := h.eraser(t)
	e.Step = func(where string) error {
		if where == "gone" { // the service has nothing to bury before this run ends
			go func() { resolved <- acceptBoth(other, row) }()
			select {
			case <-second.reached:
			case err := <-resolved:
				return errors.Join(err, errors.New("it did not come to its write"))
			}
		}
		return nil
	}
	_, err := e.Run(context.Background())
	require.NoError(t, err)
	admin, schema := pgtest.Admin(t, h.DB("conservation")), h.DB("conservation").Schema()
	h.await(t, "it is being buried, and waits for the row", func() bool {
		var waits bool
		require.NoError(t, admin.QueryRow(context.Background(), `SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE NOT l.granted AND l.locktype IN ('transactionid', 'tuple') AND a.application_name = $1 AND a.query ~ '(Bury|Lock)Deposits')`, schema).Scan(&waits))
		return waits
	})
	close(second.leave)
	require.NoError(t, <-resolved)
	h.destroy(t, name)
	got, err := h.producer().GetDeposit(context.Background(), &conservationv1.GetDepositRequest{Name: waits.GetName()})
	require.NoError(t, err)
	require.Equal(t, accepted, got.GetState())
	require.Equal(t, []string{"verbale", "a.txt"}, []string{got.GetKey(), got.GetFileName()}, "what stands keeps its words")
	require.Equal(t, 1, h.counted(t, "deposit WHERE client_key LIKE 'GONE|%'"))
	h.readable(t)
}

// TestBuriedWhileItIsAccepted: what is open under the key of a destroyed document ends with it. Who was about to accept it is told, and
// takes nothing in.
func TestBuriedWhileItIsAccepted(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	pkg, waits := h.contested(t, "verbale")
	row := depositRow(t, h, waits) // as it is read before it is accepted
	h.destroy(t, h.release(t, pkg))
	err := acceptBoth(h.service, row)
	require.True(t, errors.Is(err, fault.Aborted("UPLOAD_CONCURRENT", "")), "%v", err)
	require.Zero(t, h.counted(t, "unit WHERE state <> 'DESTROYED'"))
	require.Zero(t, h.counted(t, "deposit WHERE state IN ('RECEIVING', 'CONFLICT')"))
	require.Equal(t, 2, h.counted(t, "deposit WHERE client_key LIKE 'GONE|%'"))
	require.Error(t, keepBoth(h, waits))

	content := []byte("due\n")
	require.Equal(t, accepted, hand(t, h.producer(), headOf("verbale", "a.txt", content), content).GetState(), "the same may be handed over again")
}
