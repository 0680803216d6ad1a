// Command ceralacca-dev runs the whole platform on one machine for development: every target in one
// process, with a private PostgreSQL, a real dev Vault, embedded NATS JetStream, and the sandbox that
// plays SdI, time-stamp authority and mail server.
//
// It refuses to be production: certificates say SANDBOX, everything listens on loopback.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"ceralacca.dev/services/internal/devenv"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "ceralacca-dev",
		Short:         "The whole platform on one machine, for development",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(demoCommand(), serveCommand(), backingCommand())
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "ceralacca-dev:", err)
		stop()
		os.Exit(1) //nolint:gocritic // the deferred stop has been called
	}
}

// stateDir is where a command keeps its servers' files: the flag, or a folder in the checkout's cache.
func stateDir(flag, name string) (string, error) {
	if flag != "" {
		return filepath.Abs(flag)
	}
	root, err := devenv.Root()
	if err != nil {
		return "", err
	}
	return devenv.Cache(root, name)
}
