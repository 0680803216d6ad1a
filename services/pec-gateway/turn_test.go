package pecgateway_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// TestI3TurnLostAtTheDot: the time of a turn runs out in the very moment in which its message is about to be ended: the
// mark is written and not committed. Who takes the turn then waits for that, and does not send the message again.
func TestI3TurnLostAtTheDot(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	w.believe()
	w.box = w.add(sender).GetName()
	w.stopAt(beforeTheDot)
	m := w.send(recipient)
	w.reached(beforeTheDot)
	w.exec(`UPDATE sending_queue SET lease_until = lease_until - interval '1 hour'`)
	next := w.send(recipient) // somebody looks at the queue
	w.eventually("the next turn waits for the attempt", func() bool {
		var n int
		require.NoError(t, w.admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1) = ANY (pg_blocking_pids(pid))`, w.lockKey()).Scan(&n))
		return n > 0
	})
	w.letGo(beforeTheDot, false)
	for _, one := range []*pecv1.Message{m, next} {
		w.state(one, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
		w.reaches(one, pecv1.DeliveryStep_DELIVERY_STEP_DONE)
		require.Len(t, w.way(one).GetAttempts(), 1)
		require.Equal(t, 1, w.taken(one))
	}
	w.post.invariants()
}
