package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg/pgtest"
)

// lines is what a program says while it runs.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// packageRemovedUnderMonitor is test 30: a package that somebody removes while a monitor runs, from the list or from both replicas, is
// named in the first round that begins afterwards.
func (k *keeper) packageRemovedUnderMonitor() {
	t := k.t
	k.upload("lettera-2", "Egregio ingegnere\n", "2011")
	pkg := k.sealed("2011")
	id := pkg[strings.LastIndexByte(pkg, '/')+1:]
	receipt := k.file("removed.receipt")
	k.until("conserve", "receipt", "--package", pkg, "--latest", "-o", receipt)
	t.Setenv("CERALACCA_API_KEY", k.tenant)
	watched := func(code string, remove func()) {
		t.Helper()
		out, ended := &lines{}, make(chan int, 1)
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		args := []string{"conserve", "monitor", "--packages", "--every", "10ms", "--state", k.file("running"), "--log-key", k.file("log.key"), "--receipt", receipt}
		go func() {
			ended <- (&cli{in: strings.NewReader(""), out: out, errOut: out, now: time.Now}).run(ctx, args)
		}()
		good := func() int { return strings.Count(out.String(), " good: ") }
		require.Eventually(t, func() bool { return good() >= 2 }, time.Minute, 5*time.Millisecond, "%s", out)
		remove()
		before := good()
		select {
		case got := <-ended:
			require.Equal(t, exitRefused, got, "%s", out)
		case <-time.After(time.Minute):
			require.Fail(t, "the monitor saw nothing", "%s", out)
		}
		require.LessOrEqual(t, good(), before+1, "one round may have been under way: %s", out)
		require.Contains(t, out.String(), code)
		require.Contains(t, out.String(), "removed.receipt")
		require.Contains(t, out.String(), id, "it is named")
		require.NotContains(t, out.String(), "not reached")
	}
	admin := pgtest.Admin(t, k.DB("conservation"))
	move := func(tenant string) {
		tag, err := admin.Exec(context.Background(), `UPDATE package SET tenant_id = $1 WHERE id = $2`, tenant, id)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	watched("PACKAGE_MISSING", func() { move("elsewhere") })
	move("acme")
	watched("PACKAGE_MISSING", func() {
		for _, disk := range []string{"one", "two"} {
			require.NoError(t, os.Remove(filepath.Join(k.file(disk), "objects", "tenants", "acme", "packages", id+".zip")))
		}
	})
	require.NoError(t, os.Remove(receipt))
}
