package run_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	devvault "ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/internal/vault"
)

// wire is the way to a server, on which bytes can be held up: to its clients the server hangs.
type wire struct {
	address string
	held    atomic.Bool
}

func wireTo(t *testing.T, server string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{address: l.Addr().String()}
	ctx := t.Context()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(ctx, "tcp", server)
			if err != nil {
				_ = near.Close()
				continue
			}
			go w.carry(ctx, near, far)
			go w.carry(ctx, far, near)
		}
	}()
	return w
}

func (w *wire) carry(ctx context.Context, from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		for w.held.Load() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			return
		}
		if _, err = to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestReadyzNamesWhatHangs: a server that takes connections and says nothing is named, with its address and how long it
// was waited for, and those beside it are judged by their own answers.
func TestReadyzNamesWhatHangs(t *testing.T) {
	t.Parallel()
	broker := natsAt(t, t.TempDir(), "")
	t.Cleanup(broker.Shutdown)
	bus := wireTo(t, broker.Addr().String())

	lent := pgtest.Schema(t, "invoice")
	cfg := lent.Config()
	address, err := url.Parse(cfg.URL)
	require.NoError(t, err)
	base := wireTo(t, address.Host)
	address.Host = base.address
	cfg.URL = address.String()
	db, err := pg.Open(t.Context(), cfg)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server, err := devvault.Start(ctx, devvault.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	at, err := url.Parse(server.Addr)
	require.NoError(t, err)
	safe := wireTo(t, at.Host)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte(server.Token), 0o600))

	p := runtest.Start(t, runtest.Options{
		NATS: "nats://" + bus.address, DB: map[string]*pg.DB{"invoice": db},
		Targets: []run.Target{{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
			session, err := vault.Open(vault.Config{Address: "http://" + safe.address, TokenFile: token, Timeout: 10 * time.Second}, h.Log)
			if err == nil {
				h.Check("vault", session.Check)
			}
			return err
		}}},
	})
	state := func() map[string]string {
		var body struct{ Targets map[string]map[string]string }
		resp, err := http.Get("http://" + p.Admin + "/readyz")
		require.NoError(t, err)
		defer resp.Body.Close()
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&body))
		return body.Targets["invoice"]
	}
	well := func() bool {
		for _, problem := range state() {
			if problem != "" {
				return false
			}
		}
		return true
	}
	for condition, c := range map[string]struct {
		wire *wire
		says string
	}{
		"bus":      {bus, "NATS at nats://" + bus.address + " gave no answer within 2s"},
		"database": {base, "PostgreSQL at " + base.address + " (database " + address.Path[1:] + ", user " + address.User.Username() + ") gave no answer to a query within 2s"},
		"vault":    {safe, "Vault at http://" + safe.address + " gave no answer within 2s"},
	} {
		require.Eventually(t, well, 30*time.Second, 20*time.Millisecond, "before %s hangs", condition)
		c.wire.held.Store(true)
		require.Eventually(t, func() bool { return state()[condition] != "" }, 30*time.Second, 20*time.Millisecond, condition)
		found := state()
		require.Contains(t, found[condition], c.says)
		for other, problem := range found {
			require.True(t, other == condition || problem == "", "%s hangs, and %s is blamed: %s", condition, other, problem)
		}
		c.wire.held.Store(false)
	}
	require.Eventually(t, well, 30*time.Second, 20*time.Millisecond)
}

// TestTargetsThatHangTogether: what hangs for every target of a process is waited for once, and not target after target: the state that
// a probe reads is of a moment ago.
func TestTargetsThatHangTogether(t *testing.T) {
	t.Parallel()
	const targets = 6
	var hangs atomic.Bool
	asked := make([]atomic.Int64, targets)
	var list []run.Target
	for i := range targets {
		list = append(list, run.Target{Name: fmt.Sprint("t", i), Stateless: true, Start: func(_ context.Context, h *run.Host) error {
			h.Check("far", func(ctx context.Context) error {
				if !hangs.Load() {
					return nil
				}
				asked[i].Add(1)
				<-ctx.Done()
				return ctx.Err()
			})
			return nil
		}})
	}
	runtest.Start(t, runtest.Options{Targets: list})
	hangs.Store(true)
	// Three looks are four pauses of two seconds at most with what is waited for; one after the other they were twelve seconds each.
	require.Eventually(t, func() bool {
		for i := range asked {
			if asked[i].Load() < 3 {
				return false
			}
		}
		return true
	}, 20*time.Second, 50*time.Millisecond)
}
