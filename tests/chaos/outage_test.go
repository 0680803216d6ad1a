package chaos

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/tests/harness"
)

// outage is one way for a server to be away, and how it comes back.
type outage struct {
	name, server string
	away, back   string        // acts of the harness
	lasts        time.Duration // beyond what the acts themselves take
	times        int           // in a row: a server that comes and goes is a slow one
	between      time.Duration
}

var outages = []outage{
	{name: "NATS stopped", server: "nats", away: "stop", back: "start", lasts: 2 * time.Second},
	{name: "NATS killed", server: "nats", away: "kill", back: "start"},
	{name: "NATS frozen", server: "nats", away: "pause", back: "resume", lasts: 2 * time.Second},
	{name: "PostgreSQL stopped", server: "postgres", away: "stop", back: "start", lasts: 2 * time.Second},
	{name: "PostgreSQL killed", server: "postgres", away: "kill", back: "start"},
	{name: "Vault stopped", server: "vault", away: "stop", back: "start", lasts: 2 * time.Second},
	{name: "Vault killed", server: "vault", away: "kill", back: "start"},
	{name: "Vault frozen longer than a call may take", server: "vault", away: "pause", back: "resume", lasts: 6 * time.Second},
	{name: "Vault slow", server: "vault", away: "pause", back: "resume", lasts: 400 * time.Millisecond, times: 6, between: 80 * time.Millisecond},
}

// TestServersGoAway takes each server away in the middle of a stream of invoices. No process of the platform
// may end of it, and each must find its own way back.
func TestServersGoAway(t *testing.T) {
	t.Parallel()
	for _, mode := range outageModes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, mode)
			before := s.processes()
			stop := s.traffic(t, 100*time.Millisecond)
			for range outageRounds {
				for _, o := range outages {
					t.Run(o.name, func(t *testing.T) { s.endure(t, o) })
				}
			}
			stop()
			require.Equal(t, before, s.processes(), "a process ended because a server was away")
			// What PostgreSQL's end cut off between SdI's answer and its record may be sent again.
			s.settle(t, leftovers{repeats: 4 * outageRounds})
		})
	}
}

// endure has invoices at every step when the server goes, and wants one all the way through afterwards.
func (s *scene) endure(t *testing.T, o outage) {
	held := s.submitMany(t, private, 4)
	require.NoError(t, s.log.await(held[0], "invoice.accepted"))
	for i := range max(o.times, 1) {
		if i > 0 {
			time.Sleep(o.between)
		}
		require.NoError(t, s.p.Break(o.away, o.server))
		time.Sleep(o.lasts)
		require.NoError(t, s.p.Break(o.back, o.server))
	}
	require.NoError(t, s.p.AwaitReady(s.ctx))
	s.arrive(t, s.submitMany(t, private, 1)...)
	s.arrive(t, held...)
}

// processes are the process ids of the platform.
func (s *scene) processes() map[string]int {
	ids := map[string]int{}
	for _, target := range harness.Targets {
		name := s.p.ProcessOf(target)
		ids[name] = s.p.PID(name)
	}
	return ids
}
