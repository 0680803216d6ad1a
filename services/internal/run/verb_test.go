package run_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/run"
)

// TestVerbs: a target's own commands get its section of the file, and what is wrong with the command line or the file is told as
// for every other command.
func TestVerbs(t *testing.T) {
	counting := append(targets(), run.Target{Name: "tally", Verbs: []run.Verb{{Name: "count", Short: "Count", Run: func(_ context.Context, in run.Invocation) error {
		cfg := struct {
			To int `yaml:"to"`
		}{To: 1}
		err := in.Config(&cfg)
		if err == nil {
			fmt.Fprintf(in.Out, "%d, %v", cfg.To, in.Now().IsZero())
		}
		return err
	}}}})
	path := filepath.Join(t.TempDir(), "c.yaml")
	require.NoError(t, os.WriteFile(path, []byte(yamlFor(t, "database: {url: 'postgres://{role}@127.0.0.1/x'}\ntally: {to: 7}\n", "invoice")), 0o600))
	call := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return run.Execute(ctx, counting, args, nil, &out, &errOut), out.String(), errOut.String()
	}
	code, out, errOut := call("tally", "count", "--config", path)
	require.Zero(t, code, errOut)
	require.Equal(t, "7, false", out)
	code, _, _ = call("tally", "count", "--config", path+".missing")
	require.Equal(t, 2, code)
	code, out, _ = call("--help")
	require.Zero(t, code)
	require.Contains(t, out, "tally")
	require.NotContains(t, out, "sdi-gateway  ", "a target without verbs is no command")
}
