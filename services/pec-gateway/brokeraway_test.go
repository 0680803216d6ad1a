package pecgateway_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/run/runtest"
)

// TestCrowdWhileTheBrokerIsAway: a mailbox is read for the first time while no event gets out. Its batches give way once five hundred
// events wait, and are kept all the same; another mailbox, which has one message, receives it. When the broker is back each message is
// told once. (When and for how long a batch gives way: TestGiveWay.)
func TestCrowdWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	server, err := nats.Start(t.Context(), nats.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	h := open(t, "", func(o *runtest.Options) { o.NATS = server.URL() })
	h.believe()
	const crowd = 580 // three batches, the last of which is still a crowd
	for i := range crowd {
		h.inject(recipient, plain(fmt.Sprintf("folla%d", i)))
	}
	quiet := h.add(sender)
	h.lookedAgain(quiet)
	require.NoError(t, server.Pause())
	t.Cleanup(func() { _ = server.Resume() })
	flooded := h.add(recipient)
	h.eventually("two batches of it are here, and their events are not out", func() bool {
		return h.query(`SELECT count(*) FROM outbox`) >= 512
	})
	h.inject(sender, plain("sola"))
	h.kept(quiet, flooded)
	require.GreaterOrEqual(t, h.query(`SELECT count(*) FROM outbox`), crowd+1)
	require.Empty(t, heard[*pecv1.MessageReceived](h))
	require.NoError(t, server.Resume())
	h.eventually("each is told", func() bool { return len(heard[*pecv1.MessageReceived](h)) == crowd+1 })
	h.eventually("the first reading is over", func() bool { return h.box(flooded).GetSync().GetDone() })
	h.invariants(quiet, flooded)
}
